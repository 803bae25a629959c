//! Addresses: where we listen and where the nodes are.
//!
//! Names are only checked for form here; looking them up is the pool's work.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::text::shown_as_text;
use crate::error::Invalid;

/// The longest path that fits `sockaddr_un` on every system we run on, with its closing zero.
const MAX_UNIX_PATH_BYTES: usize = 103;

/// Where a listener binds: `0.0.0.0:80`, `[::]:80` or `unix:/run/clearcoat/http.sock`.
///
/// An IPv6 address stands for IPv6 only, also `[::]` (nginx's `ipv6only=on`): who wants both families names both. Whoever
/// binds it must set `IPV6_V6ONLY`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ListenAddress {
    /// An IP address with a port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A Unix socket, absolute path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can reach it: loopback addresses and Unix sockets.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether both cannot be bound at once: the same address, or one of them covers the other (`0.0.0.0:80` and
    /// `127.0.0.1:80`). Port 0 never clashes.
    #[must_use]
    pub fn clashes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(two)) => {
                let overlap = one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified();
                one.port() != 0 && one.port() == two.port() && one.is_ipv4() == two.is_ipv4() && overlap
            }
            (Self::Unix(one), Self::Unix(two)) => one == two,
            (Self::Tcp(_), Self::Unix(_)) | (Self::Unix(_), Self::Tcp(_)) => false,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path).map(Self::Unix);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let port = text.rsplit(':').next().unwrap_or(text);
        let port = if port.parse::<u16>().is_ok() { port } else { "80" };
        let hint = if text.parse::<IpAddr>().is_ok() {
            format!("add a port: {}", with_port(text, 80))
        } else {
            format!("write an IP address and a port, such as 0.0.0.0:{port}, or unix:/path/of.sock")
        };
        Err(Invalid::new(format!("{text:?} is not an address to listen on"), hint))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Where a node is: `10.0.0.11:80`, `[fd00::11]:80`, `web1.internal:8080` or `unix:/run/php.sock`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NodeAddress {
    /// An IP address with a port.
    Ip(SocketAddr),
    /// A name that is looked up, again and again by its TTL, with a port.
    Name {
        /// The name.
        host: NodeName,
        /// 1 to 65535.
        port: u16,
    },
    /// A Unix socket, absolute path.
    Unix(PathBuf),
}

impl FromStr for NodeAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path).map(Self::Unix);
        }
        let invalid =
            |hint: String| Err(Invalid::new(format!("{text:?} is not the address of a node"), hint));
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split('/').next().unwrap_or(rest);
            return invalid(format!("leave out the scheme and the path: {}", with_port(host, 80)));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                invalid("the port is 1 to 65535".to_owned())
            } else if address.ip().is_unspecified() {
                invalid(format!("name the node's own address; this machine is 127.0.0.1:{}", address.port()))
            } else {
                Ok(Self::Ip(address))
            };
        }
        if text.parse::<IpAddr>().is_ok() {
            return invalid(format!("add a port: {}", with_port(text, 80)));
        }
        let Some((host, port_text)) = text.rsplit_once(':') else {
            return invalid(format!("add a port, such as {}", with_port(text, 80)));
        };
        let port = match port_text.parse::<u16>() {
            Ok(port) if port != 0 && !port_text.starts_with('+') => port,
            Ok(_) | Err(_) => return invalid("the port is 1 to 65535".to_owned()),
        };
        Ok(Self::Name { host: host.parse()?, port })
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::Name { host, port } => write!(out, "{host}:{port}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A DNS name in lower case: labels of letters, digits, `-` and `_` (RFC 1123 §2.1; `_` as container networks use it),
/// 1 to 63 bytes each and 253 in all, the last one not a number.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeName(String);

impl NodeName {
    /// The name, without a closing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let invalid = |hint: &'static str| Err(Invalid::new(format!("{text:?} is not a host name"), hint));
        if !name.is_ascii() {
            return invalid("write names with other letters in their xn-- form");
        }
        if name.len() > 253 {
            return invalid("a name has at most 253 characters");
        }
        let good_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !name.split('.').all(good_label) {
            return invalid("a name is made of letters, digits, - and _ with single dots between");
        }
        // A name that ends in a number is a mistyped IPv4 address (WHATWG URL, "ends in a number").
        if name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
            return invalid("an IPv4 address has four numbers from 0 to 255, such as 10.0.0.11");
        }
        Ok(Self(name))
    }
}

shown_as_text!(NodeName);

/// Checks the path of a Unix socket.
fn unix_path(text: &str) -> Result<PathBuf, Invalid> {
    let path = Path::new(text);
    if !path.is_absolute() || text.contains('\0') || text.ends_with('/') {
        return Err(Invalid::new(
            format!("{text:?} is not the path of a socket"),
            "write an absolute path, such as unix:/run/clearcoat/http.sock",
        ));
    }
    if text.len() > MAX_UNIX_PATH_BYTES {
        return Err(Invalid::new(
            format!("the path of the socket is {} bytes long", text.len()),
            format!("at most {MAX_UNIX_PATH_BYTES} bytes fit"),
        ));
    }
    Ok(path.to_owned())
}

/// What an address without a port should look like.
fn with_port(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) if host.contains(':') || host.is_empty() => host.to_owned(),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn listen_addresses_are_read() {
        listen("0.0.0.0:80", true);
        listen("[::]:80", true);
        listen("127.0.0.1:0", true);
        listen("unix:/run/x.sock", true);
        listen(":80", false);
        listen("80", false);
        listen("localhost:80", false);
        listen("0.0.0.0", false);
        listen("::1", false);
        listen("0.0.0.0:65536", false);
        listen("unix:run/x.sock", false);
        listen("unix:", false);
        listen("unix:/run/", false);
        listen(&format!("unix:/{}", "x".repeat(103)), false);
        listen("", false);
    }

    #[track_caller]
    fn listen(text: &str, good: bool) {
        let read = text.parse::<ListenAddress>();
        assert_eq!(read.is_ok(), good, "input: {text:?}");
        if let Ok(address) = read {
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn node_addresses_are_read() {
        node("10.0.0.11:80", "10.0.0.11:80");
        node("[fd00::11]:80", "[fd00::11]:80");
        node("Web1.Internal:8080", "web1.internal:8080");
        node("web_1:80", "web_1:80");
        node("web.:80", "web:80");
        node("unix:/run/php.sock", "unix:/run/php.sock");
        for bad in [
            "",
            ":80",
            "10.0.0.11",
            "web1",
            "10.0.0.300:80",
            "10.0.0.1:0",
            "0.0.0.0:80",
            "web1:99999",
            "web1:+80",
            "http://web1:80",
            "http://web1/",
            "web 1:80",
            "-web:80",
            "a..b:80",
            "bücher:80",
            "fd00::11",
            "::1:80",
        ] {
            assert!(bad.parse::<NodeAddress>().is_err(), "input: {bad:?}");
        }
        let hint = |text: &str| text.parse::<NodeAddress>().unwrap_err().hint().to_owned();
        assert_eq!(hint("http://web1/app"), "leave out the scheme and the path: web1:80");
        assert_eq!(hint("fd00::11"), "add a port: [fd00::11]:80");
    }

    #[track_caller]
    fn node(text: &str, shown: &str) {
        let read: NodeAddress = text.parse().unwrap();
        assert_eq!(read.to_string(), shown);
        assert_eq!(shown.parse::<NodeAddress>(), Ok(read));
    }

    #[test]
    fn listeners_clash_when_the_kernel_would_refuse() {
        clash("0.0.0.0:80", "0.0.0.0:80", true);
        clash("0.0.0.0:80", "127.0.0.1:80", true);
        clash("[::]:80", "[::1]:80", true);
        clash("127.0.0.1:80", "127.0.0.2:80", false);
        clash("0.0.0.0:80", "0.0.0.0:81", false);
        clash("0.0.0.0:80", "[::]:80", false);
        clash("0.0.0.0:0", "0.0.0.0:0", false);
        clash("unix:/a", "unix:/a", true);
        clash("unix:/a", "unix:/b", false);
        clash("unix:/a", "0.0.0.0:80", false);
    }

    #[track_caller]
    fn clash(one: &str, two: &str, expected: bool) {
        let (one, two): (ListenAddress, ListenAddress) = (one.parse().unwrap(), two.parse().unwrap());
        assert_eq!(one.clashes_with(&two), expected, "{one} and {two}");
        assert_eq!(two.clashes_with(&one), expected, "{two} and {one}");
    }

    #[test]
    fn loopback_and_sockets_are_local() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/a", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().is_local(), local, "input: {text}");
        }
    }
}
