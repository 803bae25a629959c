//! How sessions outlive the servers that hold them.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::address::{ListenAddress, NodeAddress};
use super::default;
use super::name::{CookieName, NamePattern};
use super::process::SocketFile;
use super::purge::parse_net;
use super::secret::Secret;
use crate::error::Invalid;

/// What is done for sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Sessions {
    /// Which of the two is done. Default: neither.
    pub mode: SessionMode,
    /// Cookies that name a session.
    pub cookies: Vec<NamePattern>,
    /// Memcached servers, each once. Empty only where none is needed.
    pub memcached: Vec<MemcachedAddress>,
    /// How sessions are pinned to nodes.
    pub pin: Pin,
    /// How long a pin outlives the last request of its session. Default 1 h.
    pub pin_ttl: Duration,
    /// How long Memcached may take to tell a pin. Default 20 ms.
    pub pin_timeout: Duration,
    /// Where web nodes find their Memcached. There where sessions are replicated.
    pub listen: Option<ListenAddress>,
    /// Of a Unix socket there: who may use it. Default: its owner and its group.
    pub socket: SocketFile,
    /// Who may connect there. Default loopback and private networks.
    pub allow: Vec<IpNet>,
    /// On how many servers each key is kept. Default 2.
    pub replicas: NonZeroU32,
    /// How many servers must have a write before it is answered; `None`, the default: all that are up.
    pub acknowledge: Option<NonZeroU32>,
    /// Keys that are kept on another number of servers, by how they begin; the first that fits counts.
    pub prefixes: Vec<(String, NonZeroU32)>,
    /// How long a server that was away is only believed together with the others. Default 1 h.
    pub recovery: Duration,
    /// How long a server may take for a request. Default 250 ms.
    pub timeout: Duration,
    /// How long a web node that finds a session's lock taken is kept waiting for it. Default 400 ms; zero tells it at once, as
    /// memcached does.
    pub lock_wait: Duration,
    /// The largest item in bytes, as memcached counts (its `-I`). Default 1 MiB.
    pub item_size: u64,
    /// The most connections to each server. Default 64.
    pub server_connections: NonZeroU32,
    /// The most connections of web nodes at once. Default 4,096.
    pub max_connections: NonZeroU32,
}

/// Which of the two ways is gone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SessionMode {
    /// Neither.
    #[default]
    Off,
    /// Each session stays at one node.
    Pin,
    /// Sessions are kept on several Memcached servers.
    Replicate,
    /// Both.
    Both,
}

impl SessionMode {
    /// As it is written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Pin => "pin",
            Self::Replicate => "replicate",
            Self::Both => "both",
        }
    }

    /// Whether sessions stay at a node.
    pub const fn pins(self) -> bool {
        matches!(self, Self::Pin | Self::Both)
    }

    /// Whether web nodes keep their sessions here.
    pub const fn replicates(self) -> bool {
        matches!(self, Self::Replicate | Self::Both)
    }
}

/// Where it is kept which node a session is pinned to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pin {
    /// In Memcached.
    Memcached,
    /// With the visitor, in a cookie of this name, signed with this secret.
    Cookie {
        /// Its name.
        name: CookieName,
        /// What it is signed with, the same on every edge.
        secret: Secret,
    },
    /// Nowhere: the session's name tells the node.
    Hash,
}

impl Pin {
    /// As it is written in the file.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Memcached => "memcached",
            Self::Cookie { .. } => "cookie",
            Self::Hash => "hash",
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        // The constants are good; a test looks at the number that comes out.
        Self {
            mode: SessionMode::Off,
            cookies: default::SESSION_COOKIES
                .iter()
                .filter_map(|text| NamePattern::cookie(text).ok())
                .collect(),
            memcached: Vec::new(),
            pin: Pin::Hash,
            pin_ttl: default::PIN_TTL,
            pin_timeout: default::PIN_TIMEOUT,
            listen: None,
            socket: SocketFile::FOR_GROUP,
            allow: default::SESSION_ALLOW.iter().filter_map(|text| parse_net(text).ok()).collect(),
            replicas: default::SESSION_REPLICAS,
            acknowledge: None,
            prefixes: default::SESSION_PREFIXES.map(|prefix| (prefix.to_owned(), NonZeroU32::MIN)).into(),
            recovery: default::SESSION_RECOVERY,
            timeout: default::SESSION_TIMEOUT,
            lock_wait: default::SESSION_LOCK_WAIT,
            item_size: default::SESSION_ITEM_SIZE,
            server_connections: default::SESSION_SERVER_CONNECTIONS,
            max_connections: default::SESSION_MAX_CONNECTIONS,
        }
    }
}

/// Where a Memcached server is: `10.0.0.21:11211`, `cache1.internal` or `unix:/run/memcached.sock`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MemcachedAddress {
    /// An IP address or a name, with a port.
    Tcp(String),
    /// A Unix socket, absolute path.
    Unix(PathBuf),
}

/// The port that memcached listens on if it is told nothing else.
const MEMCACHED_PORT: u16 = 11_211;

impl FromStr for MemcachedAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let has_port = match text.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets where a port follows.
            Some((host, _)) => !host.contains(':') || host.ends_with(']'),
            None => false,
        };
        let whole = match (text.strip_prefix("unix:"), has_port) {
            (Some(_), _) | (None, true) => text.to_owned(),
            (None, false) if text.contains(':') && !text.starts_with('[') => {
                format!("[{text}]:{MEMCACHED_PORT}")
            }
            (None, false) => format!("{text}:{MEMCACHED_PORT}"),
        };
        match whole.parse::<NodeAddress>() {
            Ok(NodeAddress::Unix(path)) => Ok(Self::Unix(path)),
            Ok(address @ (NodeAddress::Ip(_) | NodeAddress::Name { .. })) => {
                Ok(Self::Tcp(address.to_string()))
            }
            Err(_) => Err(Invalid::new(
                format!("{text:?} is not the address of a Memcached server"),
                "write a name or an IP address with a port, such as 10.0.0.21:11211, or unix:/path",
            )),
        }
    }
}

impl fmt::Display for MemcachedAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => out.write_str(address),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_addresses() {
        let check = |text: &str, expected: Option<&str>| {
            let address = text.parse::<MemcachedAddress>().ok().map(|address| address.to_string());
            assert_eq!(address.as_deref(), expected, "input: {text:?}");
        };
        check("10.0.0.21:11211", Some("10.0.0.21:11211"));
        check("10.0.0.21", Some("10.0.0.21:11211"));
        check("cache1.internal", Some("cache1.internal:11211"));
        check("cache1.internal:11212", Some("cache1.internal:11212"));
        check("[fd00::1]:11212", Some("[fd00::1]:11212"));
        check("fd00::1", Some("[fd00::1]:11211"));
        check("[fd00::1]", Some("[fd00::1]:11211"));
        check("unix:/run/memcached.sock", Some("unix:/run/memcached.sock"));
        for bad in ["", ":", "unix:", "10.0.0.21:0", "10.0.0.21:x", "a b", "memcached://a:1"] {
            check(bad, None);
        }
    }

    #[test]
    fn the_defaults_are_all_readable() {
        let sessions = Sessions::default();
        assert_eq!(sessions.cookies.len(), default::SESSION_COOKIES.len());
        assert_eq!(sessions.allow.len(), default::SESSION_ALLOW.len());
    }
}
