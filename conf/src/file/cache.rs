//! The `[cache]` table as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::{At, DurationText, SizeText};

/// What is stored and for how long.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheTable {
    /// A hard budget for bodies, headers, index and tags; at least 4MiB. Default 256MiB.
    #[schemars(extend("examples" = ["256MiB", "8GiB"]))]
    pub(crate) memory: Option<At<SizeText>>,
    /// The largest response that is stored. Default a sixteenth of memory, at most 64MiB.
    pub(crate) max_entry: Option<At<SizeText>>,
    /// How long a response without any word about freshness is fresh; 0 does not store it. Default 0s.
    pub(crate) default_ttl: Option<At<DurationText>>,
    /// How long a stale response is served while a fresh one is fetched; 0 not at all. Default 0s.
    pub(crate) grace: Option<At<DurationText>>,
    /// How long after that an entry stays for conditional requests and for the case that every node is down. Default 10m.
    pub(crate) keep: Option<At<DurationText>>,
    /// How long an uncacheable URL is remembered; 0 remembers none. Default 2m.
    pub(crate) uncacheable_ttl: Option<At<DurationText>>,
    /// A POST, PUT or DELETE that succeeds takes what is stored under its URL with it. Default true.
    pub(crate) unsafe_invalidates: Option<At<bool>>,
    /// The most Vary forms of one URL. Default 64.
    #[schemars(range(min = 1, max = 65536))]
    pub(crate) max_variants: Option<At<u64>>,
    /// The most bytes of tags on one response. Default 1MiB.
    pub(crate) max_tag_bytes: Option<At<SizeText>>,
    /// How long after freshness a response may stand in for a node that fails; 0 not at all. Default 0s.
    pub(crate) stale_if_error: Option<At<DurationText>>,
    /// How long responses without any word about freshness are fresh, by status or class; goes before default_ttl. 0s
    /// does not store them. Default: no status.
    #[schemars(extend("examples" = [{ "404": "10s", "5xx": "1s" }]))]
    pub(crate) status_ttl: Option<At<BTreeMap<At<String>, At<DurationText>>>>,
    /// A guess for responses that name no lifetime: this share of the time since Last-Modified, in percent, at most a
    /// day; 0 never guesses. Default 0.
    #[schemars(range(min = 0, max = 100))]
    pub(crate) heuristic_percent: Option<At<u64>>,
    /// true gives grace and stale_if_error to must-revalidate and proxy-revalidate as well. Default false.
    pub(crate) grace_over_revalidate: Option<At<bool>>,
    /// Fields that take the place of Cache-Control here, the most specific first; [] for none. Default
    /// CDN-Cache-Control.
    #[schemars(extend("examples" = [["Clearcoat-Cache-Control", "CDN-Cache-Control"]]))]
    pub(crate) targeted_fields: Option<At<Vec<At<String>>>>,
    /// false keeps the targeted fields from visitors. Default true.
    pub(crate) keep_targeted_fields: Option<At<bool>>,
    /// Whether Surrogate-Control is listened to. Default true.
    pub(crate) surrogate_control: Option<At<bool>>,
    /// Whether X-Reverse-Proxy-TTL is listened to. Default true.
    pub(crate) reverse_proxy_ttl: Option<At<bool>>,
    /// Addresses and networks whose clients are told X-Cache, X-Cache-TTL and the tags of each answer. Default: none.
    #[schemars(extend("examples" = [["127.0.0.1", "192.168.0.0/16"]]))]
    pub(crate) debug_clients: Option<At<Vec<At<String>>>>,
    /// A fetch that all its visitors have left goes on if no more than this is still to come. Default 1MiB.
    pub(crate) finish_abandoned: Option<At<SizeText>>,
    /// What is compressed once it is stored, and how.
    pub(crate) compress: Option<At<CompressTable>>,
}

/// What is compressed once it is stored, and how.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompressTable {
    /// Whether sites compress that do not say. Default false.
    pub(crate) enabled: Option<At<bool>>,
    /// The codings to make, in any order. Default br, zstd, gzip.
    #[schemars(extend("examples" = [["br", "gzip"]]))]
    pub(crate) codings: Option<At<Vec<At<CodingWord>>>>,
    /// Media types, with * for a part. Default: text, JSON, XML, scripts and what else shrinks.
    #[schemars(extend("examples" = [["text/*", "application/json", "*/*+json"]]))]
    pub(crate) types: Option<At<Vec<At<String>>>>,
    /// Smaller bodies stay as they are. Default 1KiB.
    pub(crate) min_size: Option<At<SizeText>>,
    /// Larger bodies stay as they are. Default 4MiB.
    pub(crate) max_size: Option<At<SizeText>>,
}

/// A content coding.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum CodingWord {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}
