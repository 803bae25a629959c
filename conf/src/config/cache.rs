//! What is stored and for how long.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::compress::Compress;
use super::default;
use super::pattern::HeaderName;
use super::status_ttl::StatusTtls;

/// What is stored and for how long, unless a response says otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cache {
    /// A hard budget in bytes for bodies, headers, index and tags. Default 256 MiB; at least 4 MiB.
    pub memory: u64,
    /// The largest response that is stored, in bytes with its headers; larger ones pass through. Default a sixteenth of
    /// `memory`, at most 64 MiB; never zero, never more than `memory`.
    pub max_entry: u64,
    /// How long a response without any word about freshness is fresh (Varnish's `default_ttl`). Default zero: it is not
    /// stored.
    pub default_ttl: Duration,
    /// How long a stale response may still be served while a fresh one is fetched, if it does not say itself
    /// (Varnish's `default_grace`; RFC 5861 §3). Default zero: not at all.
    pub grace: Duration,
    /// How long after that an entry stays for conditional requests and for the case that every node is down (Varnish's
    /// `default_keep`; RFC 5861 §4). Default 10 min; zero keeps nothing.
    pub keep: Duration,
    /// How long an uncacheable URL is remembered so that its visitors do not wait for each other (Varnish's
    /// hit-for-miss). Default 2 min; zero remembers none.
    pub uncacheable_ttl: Duration,
    /// Whether a request with an unsafe method that succeeds takes what is stored under its URL, and under the Location
    /// and Content-Location of its answer, with it (RFC 9111 section 4.4). Default true. Varnish and nginx do not; whoever
    /// may POST to a page can have it fetched anew.
    pub unsafe_invalidates: bool,
    /// The most `Vary` forms of one URL; the oldest makes room. Default 64, 1 to 65536.
    pub max_variants: NonZeroU32,
    /// The most bytes of tags on one response; one with more is not stored, as it could not be purged by all of
    /// them. Default 1 MiB; never zero, never more than `memory`.
    pub max_tag_bytes: u64,
    /// How long after its freshness an entry may stand in for a node that fails (RFC 5861 §4; `beresp.grace` with a
    /// sick back end in VCL). A response's own `stale-if-error` raises it. Default zero: not at all.
    pub stale_if_error: Duration,
    /// How long responses without any word about freshness are fresh, by status; goes before `default_ttl`. Default:
    /// none.
    pub status_ttl: StatusTtls,
    /// The share of the time since `Last-Modified`, in percent, that a response is fresh for which names no lifetime;
    /// at most a day (RFC 9111 §4.2.2). Default zero: no guess; at most 100.
    pub heuristic_percent: u8,
    /// Whether grace and `stale_if_error` are given to `must-revalidate` and `proxy-revalidate` as well (Varnish gives
    /// them; RFC 9111 §4.2.4 does not), and what is kept is served when no node can be reached although the response
    /// said `s-maxage`. Default false.
    pub grace_over_revalidate: bool,
    /// The fields that take the place of `Cache-Control` here (RFC 9213), the most specific first; each once. Default
    /// `CDN-Cache-Control`; of an empty list, none.
    pub targeted_fields: Vec<HeaderName>,
    /// Whether these fields go on to visitors, who may have a cache of their own. Default true.
    pub keep_targeted_fields: bool,
    /// Whether `Surrogate-Control` is listened to (and withheld from visitors). Default true.
    pub surrogate_control: bool,
    /// Whether `X-Reverse-Proxy-TTL` is listened to (and withheld from visitors), as FOSHttpCache sends it. Default
    /// true.
    pub reverse_proxy_ttl: bool,
    /// Networks whose clients are told more of each answer: `X-Cache`, `X-Cache-TTL` and the tags (eZ Platform's ACL
    /// `debuggers`). Default: none.
    pub debug_clients: Vec<IpNet>,
    /// A fetch that all its visitors have left goes on if no more than this many bytes are still to come; of unknown
    /// length, as long as it has brought no more than this. Default 1 MiB; zero ends them all.
    pub finish_abandoned: u64,
    /// What is compressed once it is stored, and how.
    pub compress: Compress,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            memory: default::CACHE_MEMORY,
            max_entry: default::max_entry(default::CACHE_MEMORY),
            default_ttl: default::CACHE_DEFAULT_TTL,
            grace: default::CACHE_GRACE,
            keep: default::CACHE_KEEP,
            uncacheable_ttl: default::CACHE_UNCACHEABLE_TTL,
            unsafe_invalidates: true,
            max_variants: default::CACHE_MAX_VARIANTS,
            max_tag_bytes: default::CACHE_MAX_TAG_BYTES,
            stale_if_error: default::CACHE_STALE_IF_ERROR,
            status_ttl: StatusTtls::default(),
            heuristic_percent: default::CACHE_HEURISTIC_PERCENT,
            grace_over_revalidate: false,
            targeted_fields: default::CACHE_TARGETED_FIELDS
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect(),
            keep_targeted_fields: true,
            surrogate_control: true,
            reverse_proxy_ttl: true,
            debug_clients: Vec::new(),
            finish_abandoned: default::CACHE_FINISH_ABANDONED,
            compress: Compress::default(),
        }
    }
}
