//! Every default, with its reason. `examples/every-key.toml` shows the same values to operators, and a test keeps the
//! two equal.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// A number that is plainly not zero.
const fn nonzero(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Those of eZ Platform, Ibexa and PHP.
pub(crate) const SESSION_COOKIES: [&str; 3] = ["eZSESSID*", "IBX_SESSION_ID*", "PHPSESSID"];
/// A little more than PHP keeps a session that nobody uses (`session.gc_maxlifetime`, 24 minutes).
pub(crate) const PIN_TTL: Duration = Duration::from_secs(3600);
/// Twenty times what a server in the same network takes, and no pause that anybody feels.
pub(crate) const PIN_TIMEOUT: Duration = Duration::from_millis(20);
/// Says what set it.
pub(crate) const PIN_COOKIE: &str = "CLEARCOAT_NODE";
/// Who is in the same network as the edge: Memcached has no passwords.
pub(crate) const SESSION_ALLOW: [&str; 6] =
    ["127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
/// One may die.
pub(crate) const SESSION_REPLICAS: NonZeroU32 = nonzero(2);
/// The cache of eZ Platform, which would be written twice for nothing: a miss there is made good by the database.
pub(crate) const SESSION_PREFIXES: [&str; 2] = [":ezp:", "ezp:"];
/// Longer than PHP keeps a session: what a server has missed is over by then.
pub(crate) const SESSION_RECOVERY: Duration = Duration::from_secs(3600);
/// A busy server answers within a few milliseconds; PHP waits longer than this for a session.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_millis(250);
/// PHP asks again after 150 ms, five times; who is kept waiting here is next in turn as soon as the lock is free. Its client gives up
/// on a server after a second at the earliest.
pub(crate) const SESSION_LOCK_WAIT: Duration = Duration::from_millis(400);
/// As memcached's.
pub(crate) const SESSION_ITEM_SIZE: u64 = MIB;
/// memcached's own bounds for `-I`.
pub(crate) const SESSION_ITEM_BOUNDS: std::ops::RangeInclusive<u64> = KIB..=1024 * MIB;
/// A request takes a fraction of a millisecond, so this is tens of thousands a second, and far below memcached's own 1,024.
pub(crate) const SESSION_SERVER_CONNECTIONS: NonZeroU32 = nonzero(64);
/// One for each PHP process of a large cluster.
pub(crate) const SESSION_MAX_CONNECTIONS: NonZeroU32 = nonzero(4096);
/// More would be asked about for each key.
pub(crate) const MOST_MEMCACHED: usize = 64;

/// Long enough for a slow PHP page, short enough for a rolling restart.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Long enough for what is done in a hurry, short enough that visitors come back.
pub(crate) const MAINTENANCE_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A year, which browsers' own lists ask for.
pub(crate) const HSTS_MAX_AGE: Duration = Duration::from_secs(365 * 86_400);

/// Loopback only: the API can purge everything.
pub(crate) const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6082);

/// Varnish's usual `malloc,256m`: useful on a small machine, harmless on a large one.
pub(crate) const CACHE_MEMORY: u64 = 256 * MIB;
/// Below this the index and a single page already crowd each other out.
pub(crate) const CACHE_MEMORY_MIN: u64 = 4 * MIB;
/// One response may take a sixteenth of the memory, so that a few large files cannot empty the cache…
pub(crate) const CACHE_MAX_ENTRY_SHARE: u64 = 16;
/// …and never more than this unless asked for: larger files are better off on a file server.
pub(crate) const CACHE_MAX_ENTRY_CAP: u64 = 64 * MIB;
/// Without a word from the node nothing is stored; a stored personal page is worse than a slow one.
pub(crate) const CACHE_DEFAULT_TTL: Duration = Duration::ZERO;
/// Stale pages are served only where somebody decided so, here or by `stale-while-revalidate`.
pub(crate) const CACHE_GRACE: Duration = Duration::ZERO;
/// Keeps what a conditional request can still revive, and what can be served while every node is down.
pub(crate) const CACHE_KEEP: Duration = Duration::from_secs(10 * 60);
/// As long as the hit-for-miss mark of Varnish's built-in VCL.
pub(crate) const CACHE_UNCACHEABLE_TTL: Duration = Duration::from_secs(120);
/// Enough for languages times encodings times user-context hashes of one page.
pub(crate) const CACHE_MAX_VARIANTS: NonZeroU32 = nonzero(64);
/// A landing page with ten thousand tags still fits.
pub(crate) const CACHE_MAX_TAG_BYTES: u64 = MIB;
/// As grace: a stale page instead of an error only where somebody decided so.
pub(crate) const CACHE_STALE_IF_ERROR: Duration = Duration::ZERO;
/// Guessing surprises those who did not ask for it; RFC 9111 §4.2.2 suggests 10.
pub(crate) const CACHE_HEURISTIC_PERCENT: u8 = 0;
/// The one field that RFC 9213 registers.
pub(crate) const CACHE_TARGETED_FIELDS: [&str; 1] = ["cdn-cache-control"];
/// A page is finished, as the next visitor will want it; a film is not.
pub(crate) const CACHE_FINISH_ABANDONED: u64 = MIB;

/// What shrinks: what most CDNs compress.
pub(crate) const COMPRESS_TYPES: [&str; 12] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "font/ttf",
    "font/otf",
    "image/svg+xml",
    "image/x-icon",
    "image/bmp",
];
/// Below this a response fits into one or two packets, compressed or not.
pub(crate) const COMPRESS_MIN_SIZE: u64 = KIB;
/// Beyond this compressing takes a core for longer than a visitor wants to wait.
pub(crate) const COMPRESS_MAX_SIZE: u64 = 4 * MIB;

/// Opcode caches and connections to the database fill within seconds.
pub(crate) const SLOW_START: Duration = Duration::from_secs(10);
pub(crate) const REFILL_CONCURRENCY: NonZeroU32 = nonzero(32);
/// Every node weighs the same.
pub(crate) const WEIGHT: NonZeroU32 = NonZeroU32::MIN;
/// The low end of what HAProxy calls reasonable (125 to 200): a quarter above the average.
pub(crate) const HASH_BALANCE_FACTOR: u16 = 125;
/// HAProxy's `inter`.
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
/// A healthy node answers a probe well within a second.
pub(crate) const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// HAProxy's `fall`.
pub(crate) const HEALTH_FALL: NonZeroU32 = nonzero(3);
/// HAProxy's `rise`.
pub(crate) const HEALTH_RISE: NonZeroU32 = nonzero(2);
/// The page that every web node has.
pub(crate) const HEALTH_PATH: &str = "/";
/// HAProxy's `httpchk`: 2xx and 3xx are good.
pub(crate) const HEALTH_EXPECT: &[(u16, u16)] = &[(200, 399)];
/// Envoy's `consecutive_5xx`.
pub(crate) const PASSIVE_ERRORS: u32 = 5;
/// Short: the first ejection may be a hiccup, repeated ones grow.
pub(crate) const PASSIVE_EJECT: Duration = Duration::from_secs(10);
/// Envoy's `max_ejection_time`.
pub(crate) const PASSIVE_EJECT_MAX: Duration = Duration::from_secs(5 * 60);
/// At least half of the pool keeps working whatever the errors say: they may come from a broken page.
pub(crate) const PASSIVE_MAX_EJECTED_PERCENT: u8 = 50;
/// A queue that long is drained within the time-out by any pool worth queueing for.
pub(crate) const QUEUE_LENGTH: u32 = 1024;
/// A visitor waits five seconds for a page, hardly longer.
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// The first try and two more nodes.
pub(crate) const RETRY_ATTEMPTS: NonZeroU32 = nonzero(3);
/// The share that Finagle and Envoy budget: retries add at most a fifth to the load of a struggling pool.
pub(crate) const RETRY_BUDGET_PERCENT: u8 = 20;
/// Sites with few requests may retry as well.
pub(crate) const RETRY_MIN_PER_SECOND: u32 = 10;
/// Nodes are near: one that does not accept within a second is better left for another.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Varnish's `first_byte_timeout`.
pub(crate) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(60);
/// Half of Varnish's `between_bytes_timeout`: an answer that has begun flows.
pub(crate) const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(30);
/// Varnish's `backend_idle_timeout`.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A resolver that answers with TTL 0 is asked once a second.
pub(crate) const DNS_MIN_TTL: Duration = Duration::from_secs(1);
/// A node that moved is followed within a minute, whatever the TTL says.
pub(crate) const DNS_MAX_TTL: Duration = Duration::from_secs(60);

/// The machine itself may purge; everyone else is named.
pub(crate) const PURGE_ALLOW: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// What the Varnish xkey module, FOSHttpCache, Fastly and Cloudflare call them.
pub(crate) const PURGE_TAG_HEADERS: [&str; 5] =
    ["xkey", "x-hashtwo", "x-cache-tags", "surrogate-key", "cache-tag"];

/// Twice Varnish's `http_req_size`: large cookies happen.
pub(crate) const HEADER_BYTES: u32 = 64 * 1024;
/// Twice Varnish's `http_max_hdr`.
pub(crate) const HEADER_COUNT: NonZeroU32 = nonzero(128);
/// As in HAProxy's sample configurations for `timeout http-request`: a slow-loris client is gone after that.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// As long as a node may be silent in mid-body; nginx's `client_body_timeout` is twice that.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Browsers reuse a connection within a minute or not at all.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(60);
/// nginx's `send_timeout`.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Kestrel's, both ways: a modem of 1990 was faster.
pub(crate) const MIN_RATE: u64 = 240;
/// What HAProxy's documentation advises for `timeout tunnel`: who has said nothing for an hour has left without a word.
pub(crate) const TUNNEL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Twice what browsers and search engines produce.
pub(crate) const URL_BYTES: u32 = 16 * 1024;
/// Some hundred MiB of sockets and buffers at worst, on a machine with a raised file limit.
pub(crate) const MAX_CONNECTIONS: NonZeroU32 = nonzero(50_000);
/// Nothing is gained by closing a well-behaved connection.
pub(crate) const REQUESTS_PER_CONNECTION: u32 = 0;
/// Half the first-byte time-out: whoever waits that long behind another visitor's fetch goes on alone.
pub(crate) const COLLAPSE_TIMEOUT: Duration = Duration::from_secs(30);
/// More than the visitors of one page that a busy site has within seconds; together they hold some 100 MiB.
pub(crate) const COLLAPSE_WAITERS: NonZeroU32 = nonzero(10_000);

/// Varnish's `max_esi_depth`.
pub(crate) const ESI_DEPTH: NonZeroU32 = nonzero(5);
/// Far more than a page of portlets has; a page that includes itself in a loop ends here.
pub(crate) const ESI_FRAGMENTS: NonZeroU32 = nonzero(256);
/// As large as the largest entry may be when the file does not say.
pub(crate) const ESI_BYTES: u64 = CACHE_MAX_ENTRY_CAP;
/// Half the first-byte time-out: a page is as slow as its slowest fragment.
pub(crate) const ESI_TIMEOUT: Duration = Duration::from_secs(30);
/// nginx's `http2_max_concurrent_streams`; RFC 9113 §6.5.2 wants no less than 100.
pub(crate) const HTTP2_STREAMS: NonZeroU32 = nonzero(128);

/// Some ten thousand records: a second of a busy edge.
pub(crate) const ACCESS_LOG_BUFFER: u64 = 4 * MIB;
/// Less would not hold the records of one busy moment; more is memory that pages should have.
pub(crate) const ACCESS_LOG_BUFFER_BOUNDS: std::ops::RangeInclusive<u64> = 64 * KIB..=1024 * MIB;

/// FOSHttpCache's `user_hash_header`, in lower case.
pub(crate) const USER_CONTEXT_HEADER: &str = "x-user-context-hash";
/// FOSHttpCache's `user_hash_accept_header`.
pub(crate) const USER_CONTEXT_ACCEPT: &str = "application/vnd.fos.user-context-hash";
/// FOSHttpCache's `user_hash_uri`.
pub(crate) const USER_CONTEXT_PATH: &str = "/_fos_user_context_hash";

/// The largest response that is stored when the file does not say.
pub(crate) const fn max_entry(memory: u64) -> u64 {
    let share = memory / CACHE_MAX_ENTRY_SHARE;
    if share < CACHE_MAX_ENTRY_CAP { share } else { CACHE_MAX_ENTRY_CAP }
}
