//! The `[pools.NAME]` tables as they are written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::{At, DurationText, StatusText};

/// A pool of web nodes that can stand in for each other.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolTable {
    /// The nodes; at least one that is not a backup.
    #[schemars(required, extend("examples" = [["10.0.0.11:80", "10.0.0.12:80"]]))]
    pub(crate) nodes: Option<At<Vec<At<NodeEntry>>>>,
    /// Which node gets the next request. Default least-requests.
    pub(crate) balance: Option<At<BalanceWord>>,
    /// With balance = "hash": path, header:NAME, cookie:NAME or client. Default path.
    #[schemars(extend("examples" = ["path", "header:X-User", "cookie:eZSESSID*", "client"]))]
    pub(crate) hash_on: Option<At<String>>,
    /// With balance = "hash": the most load of one node in percent of the average; 0 for no bound, else above 100.
    /// Default 125.
    #[schemars(range(min = 0, max = 65535))]
    pub(crate) hash_balance_factor: Option<At<u64>>,
    /// Active probes. Default: a TCP connection every 2s.
    pub(crate) health: Option<At<HealthTable>>,
    /// What failed requests say about a node.
    pub(crate) passive: Option<At<PassiveTable>>,
    /// How long a node that came back takes to get its full share; 0 gives it at once. Default 10s.
    pub(crate) slow_start: Option<At<DurationText>>,
    /// Refreshes of stale pages that may be at the nodes of this pool at a time; more wait, and those that are asked for most come
    /// first. Default 32.
    #[schemars(range(min = 1, max = 4294967295u32))]
    pub(crate) refill_concurrency: Option<At<u64>>,
    /// Where requests wait while every node is full.
    pub(crate) queue: Option<At<QueueTable>>,
    /// When a failed request is tried on another node.
    pub(crate) retry: Option<At<RetryTable>>,
    /// How long a node may take.
    pub(crate) timeouts: Option<At<TimeoutsTable>>,
    /// TLS towards the nodes; {} for the defaults. Default: plain HTTP.
    pub(crate) tls: Option<At<NodeTlsTable>>,
    /// Begins each connection to a node with a PROXY header of this version that tells the visitor's address; no connection is used
    /// for a second request then. Default: no header.
    pub(crate) proxy_protocol: Option<At<ProxyWord>>,
    /// Tells nodes in Forwarded (RFC 7239) too what X-Forwarded-For, -Host and -Proto tell them. Default false.
    pub(crate) forwarded: Option<At<bool>>,
    /// How often the names of nodes are looked up.
    pub(crate) dns: Option<At<DnsTable>>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum ProxyWord {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// A node: its address alone, or a table.
#[derive(Debug)]
pub(crate) enum NodeEntry {
    /// The address.
    Address(String),
    /// The address and more.
    Table(NodeTable),
}

/// A node with more than its address.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeTable {
    /// IP address or name with a port, or unix:/path.
    #[schemars(required, extend("examples" = ["10.0.0.11:80", "web1.internal:8080", "unix:/run/php.sock"]))]
    pub(crate) address: Option<At<String>>,
    /// Its share of the requests compared with the others. Default 1.
    #[schemars(range(min = 1, max = 256))]
    pub(crate) weight: Option<At<u64>>,
    /// true: takes requests only while every other node is down. Default false.
    pub(crate) backup: Option<At<bool>>,
    /// The most requests at once; more wait in the queue. Default: no bound.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub(crate) max_connections: Option<At<u64>>,
}

impl<'de> Deserialize<'de> for NodeEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = NodeEntry;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an address or a table with an address")
            }

            fn visit_str<E>(self, text: &str) -> Result<NodeEntry, E> {
                Ok(NodeEntry::Address(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NodeEntry, A::Error> {
                NodeTable::deserialize(MapAccessDeserializer::new(map)).map(NodeEntry::Table)
            }
        }

        // Not serde's `untagged`: that would read into a buffer and lose the places of the values.
        deserializer.deserialize_any(NodeVisitor)
    }
}

impl JsonSchema for NodeEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "NodeEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<NodeTable>();
        json_schema!({
            "title": "node",
            "examples": ["10.0.0.11:80"],
            "anyOf": [{ "type": "string" }, table],
        })
    }
}

/// Which node gets the next request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum BalanceWord {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest running requests.
    LeastRequests,
    /// The less busy of two drawn by lot.
    RandomTwo,
    /// Always the same one for the same thing, see hash_on.
    Hash,
}

/// Active probes: when a node counts as up or down.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthTable {
    /// What a probe is. Default http if method, path, host, expect or body is given, else tcp.
    #[serde(rename = "type")]
    pub(crate) kind: Option<At<HealthType>>,
    /// The method of an http probe. Default GET.
    pub(crate) method: Option<At<MethodWord>>,
    /// Path and query of an http probe. Default /.
    #[schemars(extend("examples" = ["/"]))]
    pub(crate) path: Option<At<String>>,
    /// The Host header of an http probe. Default: the node's address.
    #[schemars(extend("examples" = ["www.example.com"]))]
    pub(crate) host: Option<At<String>>,
    /// Good status codes of an http probe. Default 200-399.
    #[schemars(extend("examples" = [["200-399"]]))]
    pub(crate) expect: Option<At<Vec<At<StatusText>>>>,
    /// A regex that the body of an http probe must match. Default: the body is not read.
    #[schemars(extend("examples" = ["^OK"]))]
    pub(crate) body: Option<At<String>>,
    /// From the end of one probe to the start of the next. Default 2s.
    pub(crate) interval: Option<At<DurationText>>,
    /// A probe without an answer by then has failed. Default 1s.
    pub(crate) timeout: Option<At<DurationText>>,
    /// Failed probes in a row that take a node out. Default 3.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) fall: Option<At<u64>>,
    /// Good probes in a row that bring it back. Default 2.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) rise: Option<At<u64>>,
}

/// What a probe is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum HealthType {
    /// A request, and a look at the answer.
    Http,
    /// A connection.
    Tcp,
    /// None: every node counts as up. The other keys rest.
    Off,
}

/// The method of a probe.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub(crate) enum MethodWord {
    /// GET.
    Get,
    /// HEAD, which has no body to look at.
    Head,
    /// OPTIONS.
    Options,
}

/// What failed requests say about a node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PassiveTable {
    /// Connect errors, time-outs and 5xx answers in a row that eject a node; 0 turns ejection off. Default 5.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) errors: Option<At<u64>>,
    /// How long the first ejection lasts. Default 10s.
    pub(crate) eject: Option<At<DurationText>>,
    /// The longest ejection. Default 5m.
    pub(crate) eject_max: Option<At<DurationText>>,
    /// Never more than this share of the pool is ejected at once. Default 50.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) max_ejected_percent: Option<At<u64>>,
}

/// Where requests wait while every node is full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueTable {
    /// The most that wait; 0 lets none wait. Default 1024.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) length: Option<At<u64>>,
    /// The longest wait. Default 5s.
    pub(crate) timeout: Option<At<DurationText>>,
}

/// When a failed request is tried on another node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryTable {
    /// Tries in all, the first one included. Default 3.
    #[schemars(range(min = 1, max = 10))]
    pub(crate) attempts: Option<At<u64>>,
    /// The most retries in percent of the requests. Default 20.
    #[schemars(range(min = 0, max = 100))]
    pub(crate) budget_percent: Option<At<u64>>,
    /// Retries per second that are allowed whatever the budget says. Default 10.
    #[schemars(range(min = 0, max = 100_000))]
    pub(crate) min_per_second: Option<At<u64>>,
}

/// How long a node may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeoutsTable {
    /// To open a connection. Default 1s.
    pub(crate) connect: Option<At<DurationText>>,
    /// From the sent request to the first byte of the answer. Default 60s.
    pub(crate) first_byte: Option<At<DurationText>>,
    /// Between two reads of an answer. Default 30s.
    pub(crate) between_bytes: Option<At<DurationText>>,
    /// How long an unused connection is kept; 0 keeps none. Default 60s.
    pub(crate) idle: Option<At<DurationText>>,
}

/// TLS towards the nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeTlsTable {
    /// Whether a node's certificate is checked. Default true.
    pub(crate) verify: Option<At<bool>>,
    /// The name that is asked for and checked. Default: the node's own name.
    #[schemars(extend("examples" = ["web.internal"]))]
    pub(crate) sni: Option<At<String>>,
    /// A PEM file with the certificate authorities to trust, from the folder of this file. Default: the system's.
    #[schemars(extend("examples" = ["/etc/clearcoat/ca.pem"]))]
    pub(crate) ca: Option<At<String>>,
}

/// How often the names of nodes are looked up.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DnsTable {
    /// A shorter TTL counts as this; at least 1s. Default 1s.
    pub(crate) min_ttl: Option<At<DurationText>>,
    /// A longer TTL counts as this. Default 60s.
    pub(crate) max_ttl: Option<At<DurationText>>,
}
