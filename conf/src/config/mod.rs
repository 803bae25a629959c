//! The checked values: what the rest of Clearcoat works with.
//!
//! A [`Config`] that came out of [`crate::parse`] or [`Config::everyday`] is good as a whole: every pool has nodes, every
//! site's pool exists, no two listeners clash. Nothing here knows TOML or serde. A configuration never changes; a reload
//! makes a new one.

mod access;
mod address;
mod cache;
mod compress;
pub(crate) mod default;
mod limits;
mod listen;
mod log;
mod log_field;
mod masked;
mod name;
mod normalise;
mod pattern;
mod pool;
mod preset;
mod process;
mod purge;
mod rules;
mod secret;
mod sessions;
mod site;
mod status;
mod status_ttl;
mod text;
mod user_context;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use self::access::{
    Access, BasicAuth, HeaderValue, Hsts, Maintenance, Method, PasswordHash, Rate, RateKey, RateLimit,
};
pub use self::address::{ListenAddress, NodeAddress, NodeName};
pub use self::cache::Cache;
pub use self::compress::{Coding, Compress, TypePattern};
pub use self::limits::{EsiLimits, Limits};
pub use self::listen::{Certificate, ClientAuth, ClientHeader, Listen, ListenTls, Peer};
pub use self::log::{AccessFormat, AccessLog, AccessTarget, Log, LogFormat, LogLevel, RequestIds};
pub use self::log_field::{LogField, LogFieldKind};
pub use self::masked::MaskedName;
pub use self::name::{CookieName, NamePattern};
pub use self::normalise::{Class, HeaderPattern, HeaderText, LanguageTag, NormaliseHow, Normaliser};
pub use self::pattern::{BodyPattern, HeaderName, HostPattern, PathPattern};
pub use self::pool::{
    Balance, Dns, HashOn, Health, Node, NodeTls, Passive, Pool, Probe, ProbeMethod, ProxyVersion, Queue,
    Retry, Timeouts,
};
pub use self::preset::Preset;
pub use self::process::{Process, Sandbox, SocketFile};
pub use self::purge::{Purge, PurgeDialect, parse_net};
pub use self::rules::{
    CookiePolicy, KeepCookies, QueryNames, QueryRules, RequestNoCache, Rules, SetCookiePolicy,
};
pub use self::secret::Secret;
pub use self::sessions::{MemcachedAddress, Pin, SessionMode, Sessions};
pub use self::site::{CachePolicy, Gate, Route, Site};
pub use self::status::StatusList;
pub(crate) use self::status::parse_range;
pub use self::status_ttl::{StatusKey, StatusTtls};
pub use self::user_context::{MediaType, UrlSuffix, UserContext};
use crate::error::Invalid;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where visitors come in; at least one, and no two on the same address.
    pub listen: Vec<Listen>,
    /// API, dashboard, metrics and health answers. Default: on, at 127.0.0.1:6082; `None` if `admin.enabled = false`.
    pub admin: Option<Admin>,
    /// What is stored and for how long.
    pub cache: Cache,
    /// The web nodes, in pools by name. At least one pool.
    pub pools: BTreeMap<String, Pool>,
    /// Which host goes to which pool, in the order of the file; at least one.
    pub sites: Vec<Site>,
    /// Who may purge, and which headers carry tags.
    pub purge: Purge,
    /// How sessions outlive the servers that hold them.
    pub sessions: Sessions,
    /// Bounds on what one client may ask for.
    pub limits: Limits,
    /// Who the process is once it listens.
    pub process: Process,
    /// Clearcoat's own log.
    pub log: Log,
    /// How long a shutdown waits for running requests. Default 30 s; zero cuts them off at once.
    pub shutdown_timeout: Duration,
    /// Worker threads. `None`, the default: one per core.
    pub threads: Option<NonZeroUsize>,
    /// The files that it was read from: its own, and those of secrets, networks and passwords that it names.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// The configuration for running without a file: one listener, one pool `web` with these nodes, one site for every
    /// host with the rules of a preset, and the default for everything else. A node named twice counts once.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if `to` is empty or `listen` takes the address of the admin API.
    pub fn everyday(listen: ListenAddress, to: Vec<NodeAddress>, preset: Preset) -> Result<Self, Invalid> {
        let mut nodes: Vec<Node> = Vec::with_capacity(to.len());
        for address in to {
            if !nodes.iter().any(|node| node.address == address) {
                nodes.push(Node::new(address));
            }
        }
        if nodes.is_empty() {
            return Err(Invalid::new(
                "there is no node to send requests to",
                "name at least one, such as 10.0.0.11:80",
            ));
        }
        let admin = Admin::default();
        if listen.clashes_with(&admin.address) {
            return Err(Invalid::new(
                format!("{listen} is the address of the admin API"),
                "listen on another port, such as 0.0.0.0:80",
            ));
        }
        let cache = Cache::default();
        let sites = vec![Site::everywhere("web", preset, &cache)?];
        Ok(Self {
            listen: vec![Listen { purge_dialects: preset.dialects().to_vec(), ..Listen::plain(listen) }],
            admin: Some(admin),
            cache,
            pools: BTreeMap::from([("web".to_owned(), Pool::new(nodes))]),
            sites,
            purge: Purge { dialects: preset.dialects().to_vec(), ..Purge::default() },
            sessions: Sessions::default(),
            limits: Limits::default(),
            process: Process::default(),
            log: Log::default(),
            shutdown_timeout: default::SHUTDOWN_TIMEOUT,
            threads: None,
            files: Vec::new(),
        })
    }
}

/// The admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens. Default 127.0.0.1:6082 (the port of Varnish's own management interface). A TCP address that is
    /// not loopback always comes with a token.
    pub address: ListenAddress,
    /// What a caller must show. `None`, the default: whoever can connect may use it.
    pub token: Option<Secret>,
    /// Of a Unix socket: who may use it. Default: its owner.
    pub socket: SocketFile,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: ListenAddress::Tcp(default::ADMIN_ADDRESS),
            token: None,
            socket: SocketFile::FOR_OWNER,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everyday_is_what_the_smallest_file_means() {
        let node: NodeAddress = "10.0.0.11:80".parse().unwrap();
        for preset in Preset::ALL {
            let text = format!(
                "listen = [{{ address = \"0.0.0.0:80\" }}]\n\
                 pools.web.nodes = [\"10.0.0.11:80\"]\n\
                 site = [{{ hosts = [\"*\"], pool = \"web\", preset = \"{preset}\" }}]\n"
            );
            let everyday = everyday("0.0.0.0:80", vec![node.clone(), node.clone()], preset).unwrap();
            assert_eq!(crate::parse(&text, "smallest.toml", &|_| None).unwrap(), everyday);
        }
    }

    #[test]
    fn everyday_refuses_what_cannot_work() {
        assert!(everyday("0.0.0.0:80", Vec::new(), Preset::Http).is_err());
        let node: NodeAddress = "10.0.0.11:80".parse().unwrap();
        assert!(everyday("0.0.0.0:6082", vec![node], Preset::Http).is_err());
    }

    fn everyday(listen: &str, to: Vec<NodeAddress>, preset: Preset) -> Result<Config, Invalid> {
        Config::everyday(listen.parse().unwrap(), to, preset)
    }
}
