//! Pools of web nodes: who is in, who gets the next request, who counts as up.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::address::NodeAddress;
use super::default;
use super::name::NamePattern;
use super::pattern::{BodyPattern, HeaderName};
use super::status::StatusList;

/// A pool of web nodes that can stand in for each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The nodes in the order of the file. At least one that is not a backup; no address twice.
    pub nodes: Vec<Node>,
    /// Which node gets the next request. Default [`Balance::LeastRequests`].
    pub balance: Balance,
    /// Active probes.
    pub health: Health,
    /// What failed requests say about a node.
    pub passive: Passive,
    /// How long a node that came back takes to get its full share (HAProxy's `slowstart`). Default 10 s; zero gives it
    /// at once.
    pub slow_start: Duration,
    /// Refreshes of stale pages that may be at the nodes at a time, besides what visitors wait for. More are done one after the
    /// other, those that are asked for most first. Default 32, for the whole pool.
    pub refill_concurrency: NonZeroU32,
    /// Where requests wait while every node is full.
    pub queue: Queue,
    /// When a failed request is tried on another node.
    pub retry: Retry,
    /// How long a node may take.
    pub timeouts: Timeouts,
    /// TLS towards the nodes. `None`, the default: plain HTTP.
    pub tls: Option<NodeTls>,
    /// The PROXY header that each connection to a node begins with (HAProxy's `send-proxy` and `send-proxy-v2`, nginx's
    /// `proxy_protocol on`). `None`, the default: none. With one, no connection is used for a second request.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Whether requests to nodes carry `Forwarded` (RFC 7239) beside `X-Forwarded-*`. Default false.
    pub forwarded: bool,
    /// How often the names of nodes are looked up.
    pub dns: Dns,
}

impl Pool {
    /// A pool with the default for everything but its nodes.
    pub(crate) fn new(nodes: Vec<Node>) -> Self {
        Self {
            nodes,
            balance: Balance::default(),
            health: Health::default(),
            passive: Passive::default(),
            slow_start: default::SLOW_START,
            refill_concurrency: default::REFILL_CONCURRENCY,
            queue: Queue::default(),
            retry: Retry::default(),
            timeouts: Timeouts::default(),
            tls: None,
            proxy_protocol: None,
            forwarded: false,
            dns: Dns::default(),
        }
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

impl ProxyVersion {
    /// As it is configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// One web node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Where it is.
    pub address: NodeAddress,
    /// Its share of the requests compared with the others. Default 1, 1 to 256 (HAProxy's `weight`).
    pub weight: NonZeroU32,
    /// Takes requests only while every other node is down (HAProxy's `backup`). Default false.
    pub backup: bool,
    /// The most requests at once (HAProxy's `maxconn`); more wait in the queue. `None`, the default: no bound.
    pub max_connections: Option<NonZeroU32>,
}

impl Node {
    /// A node with the default for everything but its address.
    pub(crate) fn new(address: NodeAddress) -> Self {
        Self { address, weight: default::WEIGHT, backup: false, max_connections: None }
    }
}

/// Which node gets the next request. Weights count in all of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest running requests (HAProxy's `leastconn`).
    #[default]
    LeastRequests,
    /// The less busy of two drawn by lot (HAProxy's `random(2)`).
    RandomTwo,
    /// Always the same one for the same thing.
    Hash {
        /// The thing. Default [`HashOn::Path`].
        on: HashOn,
        /// The most load of one node in percent of the average; beyond it the next node takes over (HAProxy's
        /// `hash-balance-factor`). Default 125; zero for no bound, otherwise 101 to 65535.
        balance_factor: u16,
    },
}

/// What is hashed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum HashOn {
    /// Path and query.
    #[default]
    Path,
    /// The value of a request header.
    Header(HeaderName),
    /// The value of the first cookie with such a name.
    Cookie(NamePattern),
    /// The visitor's address.
    Client,
}

/// Active probes: when a node counts as up or down.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is sent. Default a TCP connection; `None` if `type = "off"`: every node counts as up.
    pub probe: Option<Probe>,
    /// From the end of one probe to the start of the next. Default 2 s (HAProxy's `inter`); never zero.
    pub interval: Duration,
    /// A probe without an answer by then has failed. Default 1 s; never zero, may be longer than the interval.
    pub timeout: Duration,
    /// Failed probes in a row that take a node out. Default 3 (HAProxy's `fall`), 1 to 1000.
    pub fall: NonZeroU32,
    /// Good probes in a row that bring it back. Default 2 (HAProxy's `rise`), 1 to 1000.
    pub rise: NonZeroU32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            probe: Some(Probe::Tcp),
            interval: default::HEALTH_INTERVAL,
            timeout: default::HEALTH_TIMEOUT,
            fall: default::HEALTH_FALL,
            rise: default::HEALTH_RISE,
        }
    }
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Opens a connection (with TLS where the pool has it) and closes it.
    Tcp,
    /// Sends a request and looks at the answer.
    Http {
        /// Default GET.
        method: ProbeMethod,
        /// Path and query, from its `/`. Default `/`.
        path: String,
        /// The `Host` header. `None`, the default: the node's own address.
        host: Option<String>,
        /// Good status codes. Default 200 to 399.
        expect: StatusList,
        /// What the body must contain. `None`, the default: it is not read.
        body: Option<BodyPattern>,
    },
}

/// The method of a probe; all of them are safe (RFC 9110 §9.2.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProbeMethod {
    /// GET.
    #[default]
    Get,
    /// HEAD, which has no body to look at.
    Head,
    /// OPTIONS.
    Options,
}

impl ProbeMethod {
    /// The method as it goes over the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

/// What failed requests say about a node (Envoy's outlier detection, HAProxy's `observe layer7`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Passive {
    /// Connect errors, time-outs and 5xx answers in a row that eject a node. Default 5; zero turns ejection off.
    pub errors: u32,
    /// How long the first ejection lasts; each further one is longer. Default 10 s; never zero.
    pub eject: Duration,
    /// The longest ejection. Default 5 min; at least `eject`.
    pub eject_max: Duration,
    /// Never more than this share of the pool is ejected at once. Default 50, 1 to 100.
    pub max_ejected_percent: u8,
}

impl Default for Passive {
    fn default() -> Self {
        Self {
            errors: default::PASSIVE_ERRORS,
            eject: default::PASSIVE_EJECT,
            eject_max: default::PASSIVE_EJECT_MAX,
            max_ejected_percent: default::PASSIVE_MAX_EJECTED_PERCENT,
        }
    }
}

/// Where requests wait while every node is full.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Queue {
    /// The most that wait; 503 beyond. Default 1024, at most 1 000 000; zero lets none wait.
    pub length: u32,
    /// The longest wait; 503 then (HAProxy's `timeout queue`). Default 5 s; never zero.
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self { length: default::QUEUE_LENGTH, timeout: default::QUEUE_TIMEOUT }
    }
}

/// When a failed request is tried on another node. Only what is safe to repeat (RFC 9110 §9.2.2) is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Retry {
    /// Tries in all, the first one included. Default 3, 1 to 10; one never retries.
    pub attempts: NonZeroU32,
    /// The most retries in percent of the requests of the last seconds. Default 20, 0 to 100.
    pub budget_percent: u8,
    /// Retries per second that are allowed whatever the budget says. Default 10, at most 100 000.
    pub min_per_second: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: default::RETRY_ATTEMPTS,
            budget_percent: default::RETRY_BUDGET_PERCENT,
            min_per_second: default::RETRY_MIN_PER_SECOND,
        }
    }
}

/// How long a node may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// To open a connection, TLS included. Default 1 s; never zero (Varnish's `connect_timeout`).
    pub connect: Duration,
    /// From the sent request to the first byte of the answer. Default 60 s; never zero (Varnish's
    /// `first_byte_timeout`).
    pub first_byte: Duration,
    /// Between two reads of an answer. Default 30 s; never zero (Varnish's `between_bytes_timeout`).
    pub between_bytes: Duration,
    /// How long an unused connection is kept for the next request (Varnish's `backend_idle_timeout`). Default 60 s; zero
    /// keeps none.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: default::CONNECT_TIMEOUT,
            first_byte: default::FIRST_BYTE_TIMEOUT,
            between_bytes: default::BETWEEN_BYTES_TIMEOUT,
            idle: default::IDLE_TIMEOUT,
        }
    }
}

/// TLS towards the nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeTls {
    /// Whether a node's certificate is checked. Default true.
    pub verify: bool,
    /// The name that is asked for and checked. `None`, the default: the node's own name; with `verify`, every node then
    /// has one.
    pub sni: Option<String>,
    /// A PEM file with the certificate authorities to trust. `None`, the default: the system's.
    pub ca: Option<PathBuf>,
}

/// How often the names of nodes are looked up: by the TTL of the answer, within these bounds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dns {
    /// A shorter TTL counts as this. Default 1 s; never less.
    pub min_ttl: Duration,
    /// A longer TTL counts as this. Default 60 s; at least `min_ttl`.
    pub max_ttl: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self { min_ttl: default::DNS_MIN_TTL, max_ttl: default::DNS_MAX_TTL }
    }
}
