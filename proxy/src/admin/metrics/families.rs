//! Every metric by name, type, labels and meaning.

use std::collections::HashMap;

use prometheus::core::Desc;
use prometheus::proto::MetricType;

/// A metric's name, type and meaning.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

impl Family {
    pub(super) fn describe(&self) -> prometheus::Result<Desc> {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(self.name.into(), self.help.into(), labels, HashMap::new())
    }
}

/// Declares a constant per metric, and `FAMILIES` with all of them.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(super) const $constant: Family =
            Family { name: $name, kind: MetricType::$kind, labels: &[$($label),*], help: $help };)+

        /// Every metric there is.
        pub(super) const FAMILIES: &[Family] = &[$($constant),+];
    };
}

families! {
    REQUESTS: COUNTER "clearcoat_requests_total" ["result"]
        "Requests by how they were answered.";
    RESPONSES: COUNTER "clearcoat_responses_total" ["class"]
        "Answers by the first digit of their status.";
    DURATION: HISTOGRAM "clearcoat_request_duration_seconds" ["result"]
        "Time from the end of a request's head to the last byte of its answer.";
    IN_FLIGHT: GAUGE "clearcoat_requests_in_flight" []
        "Requests that wait for a node or stream from one.";
    WAITING: GAUGE "clearcoat_requests_waiting" []
        "Requests among them that wait for the head of another request's fetch.";
    SENT: COUNTER "clearcoat_sent_bytes_total" []
        "Bytes of response bodies sent to clients.";
    TUNNELS: COUNTER "clearcoat_tunnels_opened_total" []
        "Connections and streams that changed their protocol, such as to WebSocket.";
    TUNNELS_OPEN: GAUGE "clearcoat_tunnels_open" []
        "Those of them that are open.";
    TUNNEL_BYTES: COUNTER "clearcoat_tunnel_bytes_total" ["towards"]
        "Bytes that went through them.";
    HIT_RATIO: GAUGE "clearcoat_hit_ratio" ["window"]
        "Share of the requests that asked the cache and were answered from it; NaN if none asked.";
    CONNECTIONS: COUNTER "clearcoat_connections_opened_total" []
        "Connections accepted from clients.";
    CONNECTIONS_OPEN: GAUGE "clearcoat_connections_open" []
        "Connections of clients that are open.";
    HANDSHAKES: COUNTER "clearcoat_tls_handshakes_total" ["result"]
        "TLS handshakes with clients by how they ended.";
    RENEWALS: COUNTER "clearcoat_tls_renewals_total" ["result"]
        "Times that files of certificates were written anew, by whether what is in them is shown now.";
    CERTIFICATE_EXPIRY: GAUGE "clearcoat_tls_certificate_expiry_timestamp_seconds" ["file"]
        "When the certificate expires that was read from the file, in seconds since 1970.";
    PROXY_HEADERS: COUNTER "clearcoat_proxy_headers_total" ["result"]
        "Connections that had to begin with a PROXY header, by what they began with.";
    LIMITS: COUNTER "clearcoat_limits_total" ["limit"]
        "Limits that fired.";
    FORWARDS: COUNTER "clearcoat_forwards_total" ["reason"]
        "Requests that went to a node, or waited for one that did, by why; the words of fwd in Cache-Status.";
    FETCHES: COUNTER "clearcoat_fetches_total" ["result"]
        "Exchanges with nodes by how they ended.";
    ESI_TROUBLE: COUNTER "clearcoat_esi_trouble_total" ["kind"]
        "Fragments that failed or broke off, and tags that were left out, where pages are put together.";
    PURGES: COUNTER "clearcoat_purges_total" ["kind"]
        "Purges that were applied.";
    PURGED: COUNTER "clearcoat_purged_entries_total" []
        "Entries that purges removed.";
    SOFTENED: COUNTER "clearcoat_softened_entries_total" []
        "Entries that soft purges made stale.";
    LOG_DROPPED: COUNTER "clearcoat_log_dropped_total" []
        "Requests without a line in the access log, because its file took no more.";
    LOG_READERS: GAUGE "clearcoat_log_readers" []
        "Those who look at requests while they are answered.";
    CACHE_ENTRIES: GAUGE "clearcoat_cache_entries" []
        "Stored responses.";
    CACHE_BYTES: GAUGE "clearcoat_cache_bytes" []
        "Memory that stored responses take: bodies, heads, index and tags.";
    CACHE_BUDGET: GAUGE "clearcoat_cache_budget_bytes" []
        "The most memory that stored responses and bodies on their way may take.";
    CACHE_FILL_BYTES: GAUGE "clearcoat_cache_fill_bytes" []
        "Memory that bodies on their way from nodes take; it comes out of the same budget.";
    CACHE_FIXED_BYTES: GAUGE "clearcoat_cache_fixed_bytes" []
        "Memory set aside for tables of a fixed size, such as the URLs remembered as uncacheable.";
    CACHE_CAPACITY: GAUGE "clearcoat_cache_capacity_bytes" []
        "The memory that stored responses may take now: below the budget while the process takes more than is in use.";
    CACHE_TAGS: GAUGE "clearcoat_cache_tags" []
        "Distinct tags that entries carry.";
    CACHE_MARKS: GAUGE "clearcoat_cache_marks" []
        "URLs remembered as uncacheable.";
    CACHE_FETCHING: GAUGE "clearcoat_cache_fetching" []
        "Fetches into the cache that run now.";
    CACHE_REFRESHING: GAUGE "clearcoat_cache_refreshing" []
        "Refreshes of stale pages at the nodes, or next.";
    CACHE_REFRESHES_WAITING: GAUGE "clearcoat_cache_refreshes_waiting" []
        "Stale pages that wait for their refresh.";
    CACHE_REFRESHES_DISPLACED: COUNTER "clearcoat_cache_refreshes_displaced_total" []
        "Refreshes given up for pages that are asked for more.";
    CACHE_STORED: COUNTER "clearcoat_cache_stored_total" []
        "Entries stored.";
    CACHE_EVICTIONS: COUNTER "clearcoat_cache_evictions_total" []
        "Entries removed to make room.";
    CACHE_EXPIRATIONS: COUNTER "clearcoat_cache_expirations_total" []
        "Entries removed because they were too old to be of use.";
    CACHE_BANS: GAUGE "clearcoat_cache_bans" []
        "Bans that not all entries were tested against yet, or that a fetch under way has to be.";
    CACHE_BANNED: COUNTER "clearcoat_cache_banned_total" []
        "Entries removed because of a ban.";
    ENCODED_ENTRIES: GAUGE "clearcoat_cache_encoded_entries" []
        "Stored responses that have forms in other content codings.";
    ENCODED_BYTES: GAUGE "clearcoat_cache_encoded_bytes" []
        "Memory that forms in other content codings take; part of clearcoat_cache_bytes.";
    ENCODED_FORMS: COUNTER "clearcoat_encoded_forms_total" ["coding"]
        "Forms in other content codings that were made and kept; identity is what was decoded.";
    ENCODED_SAVED: COUNTER "clearcoat_encoded_saved_bytes_total" []
        "Bytes by which compressed forms are smaller than the plain text, at their making.";
    ENCODE_SECONDS: COUNTER "clearcoat_encode_seconds_total" []
        "Time spent on compressing and decoding.";
    POOL_QUEUED: GAUGE "clearcoat_pool_queued" ["pool"]
        "Requests that wait for a node with room.";
    NODE_UP: GAUGE "clearcoat_node_up" ["pool", "node"]
        "1 if the node takes new requests.";
    NODE_STATE: GAUGE "clearcoat_node_state" ["pool", "node", "state"]
        "1 for the state that the node is in, 0 for the others.";
    NODE_REASON: GAUGE "clearcoat_node_reason" ["pool", "node", "reason"]
        "1 for the reason why the node is in its state; one series a node, none while there is nothing to say.";
    NODE_WEIGHT: GAUGE "clearcoat_node_weight" ["pool", "node"]
        "The node's share of new requests at this moment.";
    NODE_IN_FLIGHT: GAUGE "clearcoat_node_in_flight" ["pool", "node"]
        "Requests at the node.";
    NODE_QUEUED: GAUGE "clearcoat_node_queued" ["pool", "node"]
        "Requests that wait for room on this very node.";
    NODE_REQUESTS: COUNTER "clearcoat_node_requests_total" ["pool", "node"]
        "Requests sent to the node.";
    NODE_FAILURES: COUNTER "clearcoat_node_failures_total" ["pool", "node", "kind"]
        "Requests that failed at the node.";
    NODE_EJECTIONS: COUNTER "clearcoat_node_ejections_total" ["pool", "node"]
        "How often failing requests took the node out.";
    NODE_PROBES: COUNTER "clearcoat_node_probes_total" ["pool", "node", "result"]
        "Probes of the node.";
    NODE_PROBE_SECONDS: GAUGE "clearcoat_node_probe_seconds" ["pool", "node"]
        "How long the last good probe took.";
    READY: GAUGE "clearcoat_ready" []
        "1 if traffic should be sent here.";
    PINS: COUNTER "clearcoat_pins_total" ["result"]
        "Pins of sessions to nodes: found, made, moved to another node, or replaced by the session's hash for want of memcached.";
    PIN_SERVER_UP: GAUGE "clearcoat_pin_memcached_up" ["server"]
        "1 if the memcached server that pins are kept on answers, else 0.";
    SESSION_CONNECTIONS: GAUGE "clearcoat_session_connections" []
        "Connections of web nodes that keep their sessions here.";
    SESSION_CONNECTIONS_OPENED: COUNTER "clearcoat_session_connections_opened_total" []
        "Connections of web nodes that were let in.";
    SESSION_CONNECTIONS_REFUSED: COUNTER "clearcoat_session_connections_refused_total" []
        "Connections to the session listener that were turned away.";
    SESSION_REPAIRS: COUNTER "clearcoat_session_repairs_total" ["kind"]
        "Copies that a memcached server lacked (missing) or had in an older version (older), and was given.";
    SESSION_DEGRADED: COUNTER "clearcoat_session_degraded_total" []
        "Requests for sessions while one of their memcached servers was away.";
    SESSION_FAILED: COUNTER "clearcoat_session_failed_total" []
        "Requests for sessions for which no memcached server was up.";
    SESSION_LOCKS: COUNTER "clearcoat_session_locks_total" ["result"]
        "Locks of sessions that were taken, refused because another had them, given back because whoever had them was gone.";
    MEMCACHED_UP: GAUGE "clearcoat_memcached_up" ["server"]
        "1 if the memcached server answers, else 0.";
    MEMCACHED_DOUBTED: GAUGE "clearcoat_memcached_doubted" ["server"]
        "1 if the server was away and is only believed together with the others, else 0.";
    MEMCACHED_REQUESTS: COUNTER "clearcoat_memcached_requests_total" ["server"]
        "Requests to the server.";
    MEMCACHED_FAILURES: COUNTER "clearcoat_memcached_failures_total" ["server"]
        "Requests that the server did not answer, or too late.";
    MEMCACHED_OUTAGES: COUNTER "clearcoat_memcached_outages_total" ["server"]
        "How often the server went away.";
    MEMCACHED_ITEMS: GAUGE "clearcoat_memcached_items" ["server"]
        "Items that the server keeps, as it says.";
    MEMCACHED_BYTES: GAUGE "clearcoat_memcached_bytes" ["server"]
        "Memory that the server uses for items, as it says.";
    MEMCACHED_LIMIT: GAUGE "clearcoat_memcached_limit_bytes" ["server"]
        "Memory that the server may use for items.";
    MEMCACHED_EVICTIONS: COUNTER "clearcoat_memcached_evictions_total" ["server"]
        "Items that the server dropped for want of memory; sessions among them are lost.";
    BUILD: GAUGE "clearcoat_build_info" ["version"]
        "Always 1; the label tells the version.";
    UPTIME: GAUGE "clearcoat_uptime_seconds" []
        "Time since the process started.";
    LIVE: GAUGE "clearcoat_process_allocated_bytes" []
        "Memory in allocations that are in use, the cache's among them.";
    RESIDENT: GAUGE "clearcoat_process_resident_bytes" []
        "Memory of the process that is in RAM.";
    OPEN_FILES: GAUGE "clearcoat_process_open_files" []
        "File descriptors in use, connections among them.";
}
