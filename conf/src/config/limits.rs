//! Bounds on what one client may ask for.

use std::num::NonZeroU32;
use std::time::Duration;

use super::default;

/// Bounds on what one client may ask for. Each one that fires is counted and logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most bytes of a request line and header block together (431 beyond). Default 64 KiB, 1 KiB to 1 MiB.
    pub header_bytes: u32,
    /// The most header fields of a request (431 beyond). Default 128, 1 to 256.
    pub header_count: NonZeroU32,
    /// From the first byte of a request to the end of its headers (408 beyond). Default 10 s; never zero.
    pub header_timeout: Duration,
    /// How long a request body may go without progress (nginx's `client_body_timeout`). Default 30 s; never zero.
    pub body_timeout: Duration,
    /// How long a connection may wait for its next request (HAProxy's `timeout http-keep-alive`). Default 60 s; never
    /// zero.
    pub idle_timeout: Duration,
    /// How long a write may go without progress (nginx's `send_timeout`). Default 60 s; never zero.
    pub write_timeout: Duration,
    /// The fewest bytes a second of a request body: its waits together may be as long as its bytes take at this rate, and
    /// `body_timeout` beyond (408 then). As Kestrel's `MinRequestBodyDataRate` and Apache's `RequestReadTimeout`. Default 240 B;
    /// zero: any rate.
    pub min_body_rate: u64,
    /// The fewest bytes a second that a client takes of an answer; only the time counts in which it takes nothing of what is
    /// there, and `write_timeout` is allowed beyond. As Kestrel's `MinResponseDataRate`. Default 240 B; zero: any rate.
    pub min_response_rate: u64,
    /// From the end of a request's head to the last byte of its answer; never zero. Not for what was upgraded (WebSocket).
    /// `None`, the default: no limit.
    pub request_lifetime: Option<Duration>,
    /// How long a connection that changed its protocol may rest both ways (HAProxy's `timeout tunnel`). Default 1 h; never
    /// zero.
    pub tunnel_timeout: Duration,
    /// The most bytes of a URL (414 beyond). Default 16 KiB, at least 256 B, at most `header_bytes`.
    pub url_bytes: u32,
    /// The most connections of visitors at once, all listeners together. Default 50 000; never zero.
    pub max_connections: NonZeroU32,
    /// The most connections at once of one client, all listeners together: an IPv4 address, or an IPv6 network of 64 bits, which is
    /// what one subscriber has (RFC 6177). More are closed at once, as by nginx's `limit_conn`. Whom the PROXY header names is
    /// the client; trusted proxies, balancers and Unix sockets are not counted. `None`, the default: no limit.
    pub connections_per_client: Option<NonZeroU32>,
    /// After that many requests a connection is closed (nginx's `keepalive_requests`). Default zero: no limit.
    pub requests_per_connection: u32,
    /// The longest wait for another visitor's fetch of the same page; then the request goes to a node alone. Default
    /// 30 s; zero never waits.
    pub collapse_timeout: Duration,
    /// The most requests that wait for one fetch (503 with Retry-After beyond). Default 10 000, 1 to 10 000 000.
    pub collapse_waiters: NonZeroU32,
    /// The most bytes of a request body (413 beyond). `None`, the default: no limit here, the nodes decide.
    pub max_body: Option<u64>,
    /// Bounds on pages that are put together from fragments.
    pub esi: EsiLimits,
    /// HTTP/2: the most requests at once on one connection (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 §6.5.2). Default
    /// 128, 1 to 65 536.
    pub http2_streams: NonZeroU32,
}

/// Bounds on pages that are put together from fragments (Edge Side Includes).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EsiLimits {
    /// How deep fragments may stand in fragments; the page itself is not counted (Varnish's `max_esi_depth`). Default 5,
    /// 1 to 32.
    pub depth: NonZeroU32,
    /// The most fragments of a page, those of its fragments included. Default 256, 1 to 10 000.
    pub fragments: NonZeroU32,
    /// The most bytes of a page that was put together. Default 64 MiB; never zero.
    pub bytes: u64,
    /// How long one fragment may take. Default 30 s; never zero.
    pub timeout: Duration,
}

impl Default for EsiLimits {
    fn default() -> Self {
        Self {
            depth: default::ESI_DEPTH,
            fragments: default::ESI_FRAGMENTS,
            bytes: default::ESI_BYTES,
            timeout: default::ESI_TIMEOUT,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: default::HEADER_BYTES,
            header_count: default::HEADER_COUNT,
            header_timeout: default::HEADER_TIMEOUT,
            idle_timeout: default::KEEP_ALIVE_TIMEOUT,
            body_timeout: default::BODY_TIMEOUT,
            write_timeout: default::WRITE_TIMEOUT,
            min_body_rate: default::MIN_RATE,
            min_response_rate: default::MIN_RATE,
            request_lifetime: None,
            tunnel_timeout: default::TUNNEL_TIMEOUT,
            url_bytes: default::URL_BYTES,
            max_connections: default::MAX_CONNECTIONS,
            connections_per_client: None,
            requests_per_connection: default::REQUESTS_PER_CONNECTION,
            collapse_timeout: default::COLLAPSE_TIMEOUT,
            collapse_waiters: default::COLLAPSE_WAITERS,
            max_body: None,
            esi: EsiLimits::default(),
            http2_streams: default::HTTP2_STREAMS,
        }
    }
}
