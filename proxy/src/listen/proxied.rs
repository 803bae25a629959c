//! The PROXY protocol (HAProxy's `proxy-protocol.txt`, versions 1 and 2): what a load balancer says of a connection before the
//! connection itself begins.
//!
//! A header is read to its last byte and no further, so that whatever follows, TLS or a request, is still there. Who may send
//! one is decided before; where it may be sent it has to be, for a balancer that forgets it would lend its own address to
//! everybody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The shortest line of version 1, with which every header is told: `PROXY UNKNOWN` and the end of the line.
const SHORTEST_LINE: usize = 15;

/// The longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;

/// What version 2 says before its addresses: signature, version and command, family, length.
const FIXED: usize = 16;

/// Bytes that may follow in version 2. The field could say 65,535; two addresses and a certificate's names fit well.
const LONGEST_REST: usize = 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Proxied {
    /// The client's end of the connection; `None` if the sender speaks for itself, or of a kind without addresses.
    pub(crate) client: Option<SocketAddr>,
    /// The port that the client connected to.
    pub(crate) port: Option<u16>,
    /// Whether the client spoke TLS to the sender.
    pub(crate) tls: bool,
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotProxied {
    #[error("the connection ended within the PROXY header")]
    Gone(#[from] io::Error),
    #[error("no PROXY header: {0}")]
    Bad(&'static str),
}

/// Reads a header from the beginning of a connection.
///
/// # Errors
///
/// [`NotProxied`] says what is wrong; the connection is of no use then.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Proxied, NotProxied> {
    let mut start = [0; SHORTEST_LINE];
    // Byte for byte as far as it may be a header: who sends something shorter that is none must not wait for more.
    let mut have = 0;
    while have < start.len() {
        let count = stream.read(&mut start[have..]).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        have += count;
        let begins =
            |expected: &[u8]| start[..have].iter().zip(expected).all(|(byte, expected)| byte == expected);
        if !begins(SIGNATURE) && !begins(b"PROXY ") {
            return Err(NotProxied::Bad("it begins otherwise"));
        }
    }
    if start.starts_with(SIGNATURE) {
        read_binary(stream, start).await
    } else {
        read_line(stream, start).await
    }
}

async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    start: [u8; SHORTEST_LINE],
) -> Result<Proxied, NotProxied> {
    let mut line = [0; LONGEST_LINE];
    line[..start.len()].copy_from_slice(&start);
    let mut have = start.len();
    while !line[..have].ends_with(b"\n") {
        if have == line.len() {
            return Err(NotProxied::Bad("its line is too long"));
        }
        // One at a time, since what follows is not ours to read. A line has a few dozen.
        line[have] = stream.read_u8().await?;
        have += 1;
    }
    parse_line(&line[..have]).map_err(NotProxied::Bad)
}

/// Reads a line of version 1, its end included.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn parse_line(line: &[u8]) -> Result<Proxied, &'static str> {
    let line = line.strip_suffix(b"\r\n").ok_or("its line does not end with CR LF")?;
    let line = std::str::from_utf8(line).map_err(|_| "its line is not text")?;
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err("it begins otherwise");
    }
    let kind = words.next().unwrap_or_default();
    // Whatever else stands there is to be passed over.
    if kind == "UNKNOWN" {
        return Ok(Proxied::default());
    }
    let mut address =
        || words.next().and_then(|word| word.parse::<IpAddr>().ok()).ok_or("an address is wrong");
    let (client, server) = (address()?, address()?);
    match kind {
        "TCP4" if client.is_ipv4() && server.is_ipv4() => {}
        "TCP6" if client.is_ipv6() && server.is_ipv6() => {}
        "TCP4" | "TCP6" => return Err("an address is of another family"),
        _ => return Err("its family is none of TCP4, TCP6 and UNKNOWN"),
    }
    let mut port = || words.next().and_then(port).ok_or("a port is wrong");
    let (client_port, server_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err("there is more in its line");
    }
    Ok(Proxied { client: Some(SocketAddr::new(client, client_port)), port: Some(server_port), tls: false })
}

/// A port as it has to be written: no sign, no zeros before it.
fn port(word: &str) -> Option<u16> {
    let plain = word == "0" || !word.starts_with('0') && word.bytes().all(|byte| byte.is_ascii_digit());
    if plain { word.parse().ok() } else { None }
}

async fn read_binary(
    stream: &mut (impl AsyncRead + Unpin),
    start: [u8; SHORTEST_LINE],
) -> Result<Proxied, NotProxied> {
    let length = u16::from_be_bytes([start[14], stream.read_u8().await?]);
    let length = usize::from(length);
    if length > LONGEST_REST {
        return Err(NotProxied::Bad("it is too long"));
    }
    let mut whole = vec![0; FIXED + length];
    whole[..start.len()].copy_from_slice(&start);
    whole[14..FIXED].copy_from_slice(&(length as u16).to_be_bytes());
    stream.read_exact(&mut whole[FIXED..]).await?;
    parse_binary(&whole).map_err(NotProxied::Bad)
}

/// Reads a whole header of version 2.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn parse_binary(whole: &[u8]) -> Result<Proxied, &'static str> {
    let (fixed, rest) = whole.split_at_checked(FIXED).ok_or("it is too short")?;
    if !fixed.starts_with(SIGNATURE) {
        return Err("it begins otherwise");
    }
    if usize::from(u16::from_be_bytes([fixed[14], fixed[15]])) != rest.len() {
        return Err("its length is not what it says");
    }
    let addresses = match fixed[13] {
        // Unspecified: there are none.
        0x00 => 0,
        // TCP over IPv4 and IPv6.
        0x11 => 12,
        0x21 => 36,
        // Unix sockets: there are paths, which say nothing of the client.
        0x31 => 216,
        _ => return Err("its family or transport is none that a web server is spoken to by"),
    };
    let command = fixed[12];
    match command {
        // The sender speaks for itself, to see whether we are well. What else stands there is to be passed over.
        0x20 => return Ok(Proxied::default()),
        0x21 => {}
        _ => return Err("its version or command is unknown"),
    }
    let (said, more) = rest.split_at_checked(addresses).ok_or("its addresses are cut off")?;
    let port = |place: usize| u16::from_be_bytes([said[place], said[place + 1]]);
    let (client, server_port) = match *said {
        [a, b, c, d, _, _, _, _, _, _, _, _] => {
            (Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port(8))), Some(port(10)))
        }
        _ => match said.first_chunk::<16>() {
            Some(octets) if said.len() == 36 => {
                (Some(SocketAddr::new(Ipv6Addr::from(*octets).into(), port(32))), Some(port(34)))
            }
            _ => (None, None),
        },
    };
    Ok(Proxied { client, port: server_port, tls: read_fields(whole, more)? })
}

/// Kinds of the fields behind the addresses that mean something here.
const CHECKSUM: u8 = 0x03;
const TLS: u8 = 0x20;

/// Reads the fields behind the addresses; whether TLS was spoken.
fn read_fields(whole: &[u8], mut fields: &[u8]) -> Result<bool, &'static str> {
    let mut tls = false;
    while let [kind, high, low, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = rest.split_at_checked(length).ok_or("a field is cut off")?;
        match *kind {
            CHECKSUM => {
                let told = <[u8; 4]>::try_from(value).map_err(|_| "its checksum is not one")?;
                // It is of the whole header, with zeros in its own place.
                let place = whole.len() - fields.len() + 3;
                let mut zeroed = whole.to_vec();
                zeroed[place..place + 4].fill(0);
                if crc32c(&zeroed) != u32::from_be_bytes(told) {
                    return Err("its checksum is wrong");
                }
            }
            // The lowest bit of the first byte: the client came over TLS.
            TLS => tls = value.first().is_some_and(|client| client & 1 != 0),
            _ => {}
        }
        fields = next;
    }
    if fields.is_empty() { Ok(tls) } else { Err("a field is cut off") }
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: a header is short, and few have it.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn client(address: &str, port: u16) -> Proxied {
        Proxied { client: Some(address.parse().unwrap()), port: Some(port), tls: false }
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", Some(client("192.0.2.1:56324", 443))),
            ("PROXY TCP6 2001:db8::1 ::1 1 80\r\n", Some(client("[2001:db8::1]:1", 80))),
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                Some(client("255.255.255.255:65535", 65535)),
            ),
            ("PROXY UNKNOWN\r\n", Some(Proxied::default())),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Some(Proxied::default())),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 x\r\n", None),
            ("PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", None),
            ("PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n", None),
            ("PROXY TCP4 ::1 ::1 1 443\r\n", None),
            ("PROXY TCP6 192.0.2.1 192.0.2.1 1 443\r\n", None),
            ("PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n", None),
            ("PROXY\r\n", None),
            ("GET / HTTP/1.1\r\n", None),
        ] {
            assert_eq!(parse_line(line.as_bytes()).ok(), expected, "{line}");
        }
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut whole = SIGNATURE.to_vec();
        whole.extend([command, family]);
        whole.extend((rest.len() as u16).to_be_bytes());
        whole.extend(rest);
        whole
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];

    #[test]
    fn binary_headers_are_read() {
        let of = |command, family, rest: &[u8]| parse_binary(&header(command, family, rest)).ok();
        let known = client("192.0.2.1:56324", 443);
        assert_eq!(of(0x21, 0x11, &V4), Some(known));
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 7;
        v6[35] = 80;
        assert_eq!(of(0x21, 0x21, &v6), Some(client("[::1]:7", 80)));
        assert_eq!(of(0x21, 0x31, &[0; 216]), Some(Proxied::default()));
        assert_eq!(of(0x21, 0x00, b""), Some(Proxied::default()));
        // For itself, whatever else stands there.
        assert_eq!(of(0x20, 0x11, b"xx"), Some(Proxied::default()));
        assert_eq!(of(0x20, 0x00, b""), Some(Proxied::default()));
        // Another version, command, family, transport; addresses cut off.
        for (command, family, rest) in [
            (0x11, 0x11, &V4[..]),
            (0x22, 0x11, &V4),
            (0x21, 0x12, &V4),
            (0x21, 0x41, &V4),
            (0x21, 0x11, &V4[..11]),
            (0x21, 0x21, &V4),
        ] {
            assert_eq!(of(command, family, rest), None, "{command:x} {family:x}");
        }
        let mut longer = header(0x21, 0x11, &V4);
        longer.push(0);
        assert!(parse_binary(&longer).is_err());
    }

    #[test]
    fn fields_tell_of_tls_and_are_checked() {
        let with = |fields: &[u8]| parse_binary(&header(0x21, 0x11, &[&V4[..], fields].concat()));
        // TLS, with a version in a field of its own; TLS said not to be; what nobody knows.
        assert!(with(&[0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 0]).unwrap().tls);
        assert!(!with(&[0x20, 0, 5, 0, 0, 0, 0, 0]).unwrap().tls);
        assert!(!with(&[0xe4, 0, 2, 1, 1]).unwrap().tls);
        for cut in [&[0x20][..], &[0x20, 0], &[0x20, 0, 1], &[0x20, 0xff, 0xff, 1]] {
            assert!(with(cut).is_err(), "{cut:?}");
        }
        // The checksum of the header with zeros in its place.
        let mut whole = header(0x21, 0x11, &[&V4[..], &[0x03, 0, 4, 0, 0, 0, 0]].concat());
        let sum = crc32c(&whole).to_be_bytes();
        let end = whole.len();
        whole[end - 4..].copy_from_slice(&sum);
        assert_eq!(parse_binary(&whole), Ok(client("192.0.2.1:56324", 443)));
        whole[FIXED] ^= 1;
        assert_eq!(parse_binary(&whole), Err("its checksum is wrong"));
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[tokio::test]
    async fn nothing_behind_a_header_is_read() {
        for head in [
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            header(0x21, 0x11, &V4),
        ] {
            let all = [&head[..], b"GET / HTTP/1.1\r\n"].concat();
            let mut left = &all[..];
            read(&mut left).await.unwrap();
            assert_eq!(left, b"GET / HTTP/1.1\r\n");
            // Cut off anywhere it is none.
            for cut in 0..head.len() {
                assert!(read(&mut &head[..cut]).await.is_err(), "{cut}");
            }
        }
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; LONGEST_LINE]].concat();
        assert!(matches!(read(&mut &long[..]).await, Err(NotProxied::Bad("its line is too long"))));
        let huge = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(matches!(read(&mut &huge[..]).await, Err(NotProxied::Bad("it is too long"))));
        // A request in its place is known by its first byte; nobody waits for more of it.
        let (mut near, mut far) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut far, b"G").await.unwrap();
        assert!(matches!(read(&mut near).await, Err(NotProxied::Bad(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), family in 0u8..0x42) {
            let _ = parse_line(&bytes);
            let _ = parse_binary(&bytes);
            let _ = parse_binary(&header(0x21, family, &bytes));
        }
    }
}
