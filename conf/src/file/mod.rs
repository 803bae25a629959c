//! The file as it is written: types that mirror the TOML, one field per key.
//!
//! These types are the only list of keys. The JSON Schema is generated from them, and `check` finds unknown keys, wrong
//! types and numbers out of range by that schema. The doc comments here become the descriptions that editors show, so
//! they speak to operators.
//!
//! Every field is optional here, also a required one (`schemars(required)`): a missing key must not hide the other
//! mistakes. Values keep their place in the text ([`At`]). Nothing is checked here.

mod access;
mod cache;
mod listen;
mod log;
mod pool;
mod process;
mod sessions;
mod site;
mod user_context;
mod value;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use self::access::{
    AccessTable, BasicAuthEntry, BasicAuthTable, HstsTable, MaintenanceTable, RateLimitTable,
};
pub(crate) use self::cache::{CacheTable, CodingWord, CompressTable};
pub(crate) use self::listen::{ClientAuthTable, ClientHeaderWord, ListenTable, ListenTlsTable};
pub(crate) use self::log::{
    AccessFormatWord, AccessLogTable, FormatWord, LevelWord, LogTable, RequestIdTable,
};
pub(crate) use self::pool::{
    BalanceWord, HealthTable, HealthType, MethodWord, NodeEntry, PoolTable, ProxyWord,
};
pub(crate) use self::process::{ProcessTable, SandboxWord};
pub(crate) use self::sessions::{PinWord, SessionModeWord, SessionPrefixTable, SessionsTable};
pub(crate) use self::site::{
    CacheWord, ClassTable, CookiesWord, GateTable, NormaliseTable, PresetWord, QueryTable,
    RequestNoCacheWord, RouteTable, RulesTable, SetCookieWord, SiteTable,
};
pub(crate) use self::user_context::{UserContextEntry, UserContextTable};
pub(crate) use self::value::{At, DurationText, SecretEntry, SizeText, StatusText};

/// Configuration of Clearcoat.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Where visitors come in; at least one.
    #[schemars(required, extend("examples" = [[{ "address": "0.0.0.0:80" }]]))]
    pub(crate) listen: Option<At<Vec<At<ListenTable>>>>,
    /// The admin API: purge, dashboard, metrics, health answers.
    pub(crate) admin: Option<At<AdminTable>>,
    /// What is stored and for how long.
    pub(crate) cache: Option<At<CacheTable>>,
    /// Pools of web nodes, by name.
    pub(crate) pools: Option<BTreeMap<At<String>, At<PoolTable>>>,
    /// Which host goes to which pool; at least one.
    #[schemars(required, extend("examples" = [[{ "hosts": ["*"], "pool": "web" }]]))]
    pub(crate) site: Option<At<Vec<At<SiteTable>>>>,
    /// Who may purge, and which headers carry tags.
    pub(crate) purge: Option<At<PurgeTable>>,
    /// How sessions outlive the servers that hold them.
    pub(crate) sessions: Option<At<SessionsTable>>,
    /// Bounds on what one client may ask for.
    pub(crate) limits: Option<At<LimitsTable>>,
    /// Who the process is once it listens, and what it may do then.
    pub(crate) process: Option<At<ProcessTable>>,
    /// Clearcoat's own log.
    pub(crate) log: Option<At<LogTable>>,
    /// How long a shutdown waits for running requests; 0 cuts them off. Default 30s.
    pub(crate) shutdown_timeout: Option<At<DurationText>>,
    /// Worker threads. Default: one per core.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) threads: Option<At<u64>>,
}

/// The admin API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminTable {
    /// false turns the admin API off. Default true.
    pub(crate) enabled: Option<At<bool>>,
    /// IP address and port, or unix:/path. Anything but loopback needs a token. Default 127.0.0.1:6082.
    #[schemars(extend("examples" = ["127.0.0.1:6082", "unix:/run/clearcoat/admin.sock"]))]
    pub(crate) address: Option<At<String>>,
    /// What a caller must show. Default: none.
    pub(crate) token: Option<At<SecretEntry>>,
    /// Of a Unix socket: bits as of chmod. Default 0600.
    pub(crate) socket_mode: Option<At<String>>,
    /// Of a Unix socket: whom it belongs to, by name or number. Default: who starts the process.
    #[schemars(extend("examples" = ["clearcoat"]))]
    pub(crate) socket_user: Option<At<String>>,
    /// Of a Unix socket: which group may use it, by name or number. Default: the group of who starts the process.
    #[schemars(extend("examples" = ["www-data"]))]
    pub(crate) socket_group: Option<At<String>>,
}

/// Who may purge, and which headers carry tags.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PurgeTable {
    /// Addresses and networks that may purge. Default 127.0.0.0/8 and ::1.
    #[schemars(extend("examples" = [["127.0.0.1", "192.168.0.0/16"]]))]
    pub(crate) allow: Option<At<Vec<At<String>>>>,
    /// The ways to ask for purges that are understood. Default: those of the applications that the sites' presets are
    /// for; of the preset http all. A method that none of them uses goes to the nodes.
    pub(crate) dialects: Option<At<Vec<At<DialectWord>>>>,
    /// Response headers that a BAN may name by a header of the same name, besides X-Content-Type and the tag headers.
    #[schemars(extend("examples" = [["X-Location-Id"]]))]
    pub(crate) ban_headers: Option<At<Vec<At<String>>>>,
    /// Response headers that carry tags. Default xkey, X-HashTwo, X-Cache-Tags, Surrogate-Key,
    /// Cache-Tag.
    #[schemars(extend("examples" = [["xkey", "X-Cache-Tags"]]))]
    pub(crate) tag_headers: Option<At<Vec<At<String>>>>,
    /// Whoever shows it may purge from anywhere. Default: none.
    pub(crate) token: Option<At<SecretEntry>>,
    /// true lets visitors see the tag headers. Default false.
    pub(crate) keep_tag_headers: Option<At<bool>>,
}

/// A way to ask for purges.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum DialectWord {
    /// PURGE of a URL.
    Purge,
    /// PURGEKEYS with xkey-purge and xkey-softpurge.
    Purgekeys,
    /// BAN with X-Host, X-Url, X-Content-Type and the tag headers.
    Ban,
    /// PURGE with key, of ezplatform-http-cache before 2.0.
    Key,
    /// BAN and PURGE with X-Location-Id, of eZ Publish 5 and eZ Platform 1.
    LocationId,
    /// PURGE with Surrogate-Key, as Fastly has it.
    SurrogateKey,
}

/// Bounds on what one client may ask for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsTable {
    /// The most bytes of a request line and its headers, 1KiB to 1MiB. Default 64KiB.
    pub(crate) header_bytes: Option<At<SizeText>>,
    /// The most header fields of a request. Default 128.
    #[schemars(range(min = 1, max = 256))]
    pub(crate) header_count: Option<At<u64>>,
    /// From the first byte of a request to the end of its headers. Default 10s.
    pub(crate) header_timeout: Option<At<DurationText>>,
    /// How long a request body may go without progress. Default 30s.
    pub(crate) body_timeout: Option<At<DurationText>>,
    /// How long a connection may wait for its next request. Default 60s.
    pub(crate) idle_timeout: Option<At<DurationText>>,
    /// How long a write may go without progress. Default 60s.
    pub(crate) write_timeout: Option<At<DurationText>>,
    /// The fewest bytes a second of a request body, as an average beyond body_timeout; 0B: any. Default 240B.
    pub(crate) min_body_rate: Option<At<SizeText>>,
    /// The fewest bytes a second that a client takes of an answer, as an average beyond write_timeout; 0B: any. Default 240B.
    pub(crate) min_response_rate: Option<At<SizeText>>,
    /// How long a request may take in all, from its head to the last byte of its answer. Default: no limit.
    pub(crate) request_lifetime: Option<At<DurationText>>,
    /// How long a connection that changed its protocol (WebSocket) may rest both ways. Default 1h.
    pub(crate) tunnel_timeout: Option<At<DurationText>>,
    /// The most bytes of a URL, 256B to header_bytes. Default 16KiB.
    pub(crate) url_bytes: Option<At<SizeText>>,
    /// The most connections of visitors at once. Default 50000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) max_connections: Option<At<u64>>,
    /// The most connections at once of one client: an IPv4 address, or an IPv6 network of 64 bits. Default: no limit.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) connections_per_client: Option<At<u64>>,
    /// After that many requests a connection is closed; 0 never. Default 0.
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub(crate) requests_per_connection: Option<At<u64>>,
    /// The longest wait for another visitor's fetch of the same page; 0 never waits. Default 30s.
    pub(crate) collapse_timeout: Option<At<DurationText>>,
    /// The most requests that wait for one fetch; more are answered with 503. Default 10000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) collapse_waiters: Option<At<u64>>,
    /// The most bytes of a request body. Default: no limit.
    pub(crate) max_body: Option<At<SizeText>>,
    /// ESI: how deep fragments may stand in fragments. Default 5.
    #[schemars(range(min = 1, max = 32))]
    pub(crate) esi_depth: Option<At<u64>>,
    /// ESI: the most fragments of a page, those of its fragments included. Default 256.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) esi_fragments: Option<At<u64>>,
    /// ESI: the most bytes of a page that was put together. Default 64MiB.
    pub(crate) esi_bytes: Option<At<SizeText>>,
    /// ESI: how long one fragment may take. Default 30s.
    pub(crate) esi_timeout: Option<At<DurationText>>,
    /// HTTP/2: the most requests at once on one connection. Default 128.
    #[schemars(range(min = 1, max = 65536))]
    pub(crate) http2_streams: Option<At<u64>>,
}
