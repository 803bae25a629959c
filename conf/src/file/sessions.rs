//! The `[sessions]` table as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::{At, DurationText, SecretEntry, SizeText};

/// How sessions outlive the servers that hold them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionsTable {
    /// What is done for sessions. Default off.
    pub(crate) mode: Option<At<SessionModeWord>>,
    /// Cookies that name a session. Default eZSESSID*, IBX_SESSION_ID* and PHPSESSID.
    #[schemars(extend("examples" = [["eZSESSID*", "PHPSESSID"]]))]
    pub(crate) cookies: Option<At<Vec<At<String>>>>,
    /// Memcached servers: name or IP address with a port (11211 if left out), or unix:/path. Every edge has to name the same.
    #[schemars(extend("examples" = [["10.0.0.21:11211", "10.0.0.22:11211"]]))]
    pub(crate) memcached: Option<At<Vec<At<String>>>>,
    /// Where it is kept which node a session is pinned to. Default: memcached if there are servers, else hash.
    pub(crate) pin: Option<At<PinWord>>,
    /// How long a pin outlives the last request of its session. Default 1h.
    pub(crate) pin_ttl: Option<At<DurationText>>,
    /// How long Memcached may take to tell a pin; after that the session's hash decides. Default 20ms.
    pub(crate) pin_timeout: Option<At<DurationText>>,
    /// With pin = "cookie": the name of the cookie. Default CLEARCOAT_NODE.
    pub(crate) pin_cookie: Option<At<String>>,
    /// With pin = "cookie": what the cookie is signed with, the same on every edge.
    pub(crate) pin_secret: Option<At<SecretEntry>>,
    /// With mode = "replicate": where web nodes find their Memcached; IP address and port, or unix:/path.
    #[schemars(extend("examples" = ["10.0.0.1:11311", "unix:/run/clearcoat/sessions.sock"]))]
    pub(crate) listen: Option<At<String>>,
    /// Of a Unix socket: bits as of chmod. Default 0660.
    pub(crate) socket_mode: Option<At<String>>,
    /// Of a Unix socket: whom it belongs to, by name or number. Default: who starts the process.
    #[schemars(extend("examples" = ["clearcoat"]))]
    pub(crate) socket_user: Option<At<String>>,
    /// Of a Unix socket: which group may use it, by name or number. Default: the group of who starts the process.
    #[schemars(extend("examples" = ["www-data"]))]
    pub(crate) socket_group: Option<At<String>>,
    /// Addresses and networks that may connect there. Default: loopback and private networks.
    #[schemars(extend("examples" = [["127.0.0.1", "192.168.0.0/16"]]))]
    pub(crate) allow: Option<At<Vec<At<String>>>>,
    /// On how many servers each session is kept. Default 2.
    #[schemars(range(min = 1, max = 8))]
    pub(crate) replicas: Option<At<u64>>,
    /// How many servers must have a write before it is answered; 0 for all that are up. Default 0.
    #[schemars(range(min = 0, max = 8))]
    pub(crate) acknowledge: Option<At<u64>>,
    /// Keys that are kept on another number of servers, by how they begin.
    #[schemars(extend("examples" = [[{ "prefix": ":ezp:", "replicas": 1 }]]))]
    pub(crate) prefix: Option<At<Vec<At<SessionPrefixTable>>>>,
    /// How long a server that was away is only believed together with the others. Default 1h.
    pub(crate) recovery: Option<At<DurationText>>,
    /// How long a server may take for a request. Default 250ms.
    pub(crate) timeout: Option<At<DurationText>>,
    /// How long a web node that finds a session's lock taken is kept waiting for it; 0 tells it at once. Default 400ms.
    pub(crate) lock_wait: Option<At<DurationText>>,
    /// The largest item, as memcached's -I. Default 1MiB.
    pub(crate) item_size: Option<At<SizeText>>,
    /// The most connections to each server. Default 64.
    #[schemars(range(min = 1, max = 65536))]
    pub(crate) server_connections: Option<At<u64>>,
    /// The most connections of web nodes at once. Default 4096.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_connections: Option<At<u64>>,
}

/// What is done for sessions.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum SessionModeWord {
    /// Nothing.
    Off,
    /// Each session stays at one node.
    Pin,
    /// Web nodes keep sessions here, and here they are kept on several Memcached servers.
    Replicate,
    /// Pin and replicate.
    Both,
}

/// Where pins are kept.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum PinWord {
    /// In Memcached, so that all edges know of them.
    Memcached,
    /// With the visitor, in a signed cookie.
    Cookie,
    /// Nowhere: the session's name tells the node.
    Hash,
}

/// Keys that begin alike.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionPrefixTable {
    /// How they begin.
    #[schemars(required, extend("examples" = [":ezp:"]))]
    pub(crate) prefix: Option<At<String>>,
    /// On how many servers they are kept.
    #[schemars(required, range(min = 1, max = 8), extend("examples" = [1]))]
    pub(crate) replicas: Option<At<u64>>,
}
