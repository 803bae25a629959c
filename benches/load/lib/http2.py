"""Frames of HTTP/2 as an attacker writes them (RFC 9113), and header blocks without Huffman coding (RFC 7541)."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hello(settings=()):
    """What a client begins with."""
    return PREFACE + frame(SETTINGS, payload=b"".join(struct.pack(">HI", *setting) for setting in settings))


def integer(value, bits, first):
    """A number behind the first bits of a byte (RFC 7541 section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    return bytes([*out, value])


def literal(name, value, first=0x00):
    """A field with its name; `first` 0x40: it goes into the table, as number 62."""
    return bytes([first]) + b"".join(integer(len(text), 7, 0) + text for text in (name, value))


def request(method=b"GET", path=b"/1k", scheme=b"http"):
    fields = ((b":method", method), (b":scheme", scheme), (b":path", path), (b":authority", b"bench.test"))
    return b"".join(literal(*field) for field in fields)


def head(stream, block=None, flags=END_STREAM | END_HEADERS):
    return frame(HEADERS, flags, stream, request() if block is None else block)
