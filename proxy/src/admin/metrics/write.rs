//! The counters and views, one part of the process after another.

use super::families::*;
use super::page::Page;
use crate::admin::kinds::{
    EsiTrouble, FetchResult, Forward, Handshake, Limit, ProxyHeader, PurgeKind, Renewal, RequestResult,
    StatusClass, Towards,
};
use crate::admin::sessions::{PinsView, SessionsView};
use crate::admin::totals::Totals;
use crate::admin::view::{CacheView, EncodingView, NodeState, NodeView, PoolView};

pub(super) fn traffic(page: &mut Page, totals: &Totals) {
    for result in RequestResult::ALL {
        page.counter(&REQUESTS, &[result.label()], totals.requests(*result));
        page.histogram(&DURATION, &[result.label()], totals, *result);
    }
    for class in StatusClass::ALL {
        page.counter(&RESPONSES, &[class.label()], totals.responses(*class));
    }
    for limit in Limit::ALL {
        page.counter(&LIMITS, &[limit.label()], totals.limit(*limit));
    }
    for reason in Forward::ALL {
        page.counter(&FORWARDS, &[reason.label()], totals.forwards(*reason));
    }
    for result in FetchResult::ALL {
        page.counter(&FETCHES, &[result.label()], totals.fetches(*result));
    }
    for trouble in EsiTrouble::ALL {
        page.counter(&ESI_TROUBLE, &[trouble.label()], totals.esi_trouble(*trouble));
    }
    for kind in PurgeKind::ALL {
        page.counter(&PURGES, &[kind.label()], totals.purges(*kind));
    }
    for handshake in Handshake::ALL {
        page.counter(&HANDSHAKES, &[handshake.label()], totals.handshakes(*handshake));
    }
    for renewal in Renewal::ALL {
        page.counter(&RENEWALS, &[renewal.label()], totals.renewals(*renewal));
    }
    for header in ProxyHeader::ALL {
        page.counter(&PROXY_HEADERS, &[header.label()], totals.proxy_headers(*header));
    }
    page.counter(&PURGED, &[], totals.purged_entries);
    page.counter(&SOFTENED, &[], totals.softened_entries);
    page.counter(&LOG_DROPPED, &[], totals.log_dropped);
    page.counter(&SENT, &[], totals.sent_bytes);
    page.counter(&CONNECTIONS, &[], totals.connections_opened);
    page.gauge(&CONNECTIONS_OPEN, &[], totals.connections_open as f64);
    page.gauge(&IN_FLIGHT, &[], totals.requests_in_flight as f64);
    page.gauge(&WAITING, &[], totals.requests_waiting as f64);
    page.counter(&TUNNELS, &[], totals.tunnels_opened);
    page.gauge(&TUNNELS_OPEN, &[], totals.tunnels_open as f64);
    for towards in Towards::ALL {
        page.counter(&TUNNEL_BYTES, &[towards.label()], totals.tunnelled(*towards));
    }
}

pub(super) fn cache(page: &mut Page, view: &CacheView) {
    page.gauge(&CACHE_ENTRIES, &[], view.entries as f64);
    page.gauge(&CACHE_BYTES, &[], view.bytes as f64);
    page.gauge(&CACHE_BUDGET, &[], view.budget_bytes as f64);
    page.gauge(&CACHE_FILL_BYTES, &[], view.fill_bytes as f64);
    page.gauge(&CACHE_FIXED_BYTES, &[], view.fixed_bytes as f64);
    page.gauge(&CACHE_CAPACITY, &[], view.capacity_bytes as f64);
    page.gauge(&CACHE_TAGS, &[], view.tags as f64);
    page.gauge(&CACHE_MARKS, &[], view.marks as f64);
    page.gauge(&CACHE_FETCHING, &[], view.fetching as f64);
    page.gauge(&CACHE_REFRESHING, &[], view.refreshing as f64);
    page.gauge(&CACHE_REFRESHES_WAITING, &[], view.refreshes_waiting as f64);
    page.counter(&CACHE_REFRESHES_DISPLACED, &[], view.refreshes_displaced);
    page.counter(&CACHE_STORED, &[], view.stored);
    page.counter(&CACHE_EVICTIONS, &[], view.evictions);
    page.counter(&CACHE_EXPIRATIONS, &[], view.expirations);
    page.gauge(&CACHE_BANS, &[], view.bans as f64);
    page.counter(&CACHE_BANNED, &[], view.banned);
    encoding(page, &view.encoding);
}

fn encoding(page: &mut Page, view: &EncodingView) {
    page.gauge(&ENCODED_ENTRIES, &[], view.entries as f64);
    page.gauge(&ENCODED_BYTES, &[], view.bytes as f64);
    for (coding, forms) in
        [("gzip", view.gzip), ("br", view.br), ("zstd", view.zstd), ("identity", view.identity)]
    {
        page.counter(&ENCODED_FORMS, &[coding], forms);
    }
    page.counter(&ENCODED_SAVED, &[], view.saved_bytes);
    page.fraction(&ENCODE_SECONDS, &[], view.seconds);
}

pub(super) fn nodes(page: &mut Page, pool: &PoolView) {
    page.gauge(&POOL_QUEUED, &[&pool.name], pool.queued as f64);
    for node in &pool.nodes {
        let labels = [pool.name.as_str(), node.name.as_str()];
        page.gauge(&NODE_UP, &labels, f64::from(u8::from(node.state.is_up())));
        for state in NodeState::ALL {
            let current = f64::from(u8::from(state == node.state));
            page.gauge(&NODE_STATE, &[labels[0], labels[1], state.label()], current);
        }
        traffic_of_node(page, labels, node);
    }
}

fn traffic_of_node(page: &mut Page, labels: [&str; 2], node: &NodeView) {
    let [pool, name] = labels;
    if !node.reason.is_empty() {
        page.gauge(&NODE_REASON, &[pool, name, &node.reason], 1.0);
    }
    page.gauge(&NODE_WEIGHT, &labels, node.effective_weight);
    page.gauge(&NODE_IN_FLIGHT, &labels, node.in_flight as f64);
    page.gauge(&NODE_QUEUED, &labels, node.queued as f64);
    page.counter(&NODE_REQUESTS, &labels, node.requests);
    for (kind, number) in &node.failures.0 {
        page.counter(&NODE_FAILURES, &[pool, name, kind], *number);
    }
    page.counter(&NODE_EJECTIONS, &labels, node.ejections);
    page.counter(&NODE_PROBES, &[pool, name, "ok"], node.probes_ok);
    page.counter(&NODE_PROBES, &[pool, name, "failed"], node.probes_failed);
    if let Some(milliseconds) = node.probe_ms {
        page.gauge(&NODE_PROBE_SECONDS, &labels, milliseconds / 1000.0);
    }
}

pub(super) fn pins(page: &mut Page, view: &PinsView) {
    page.counter(&PINS, &["found"], view.found);
    page.counter(&PINS, &["made"], view.made);
    page.counter(&PINS, &["moved"], view.moved);
    page.counter(&PINS, &["hashed"], view.fallbacks);
    for server in &view.servers {
        page.gauge(&PIN_SERVER_UP, &[server.name.as_str()], f64::from(u8::from(server.up)));
    }
}

pub(super) fn sessions(page: &mut Page, view: &SessionsView) {
    page.gauge(&SESSION_CONNECTIONS, &[], view.connections as f64);
    page.counter(&SESSION_CONNECTIONS_OPENED, &[], view.connections_opened);
    page.counter(&SESSION_CONNECTIONS_REFUSED, &[], view.connections_refused);
    page.counter(&SESSION_REPAIRS, &["missing"], view.repaired_missing);
    page.counter(&SESSION_REPAIRS, &["older"], view.repaired_older);
    page.counter(&SESSION_DEGRADED, &[], view.degraded);
    page.counter(&SESSION_FAILED, &[], view.failed);
    page.counter(&SESSION_LOCKS, &["taken"], view.locks_taken);
    page.counter(&SESSION_LOCKS, &["refused"], view.locks_refused);
    page.counter(&SESSION_LOCKS, &["given_back"], view.locks_given_back);
    for server in &view.servers {
        let name = &[server.name.as_str()];
        page.gauge(&MEMCACHED_UP, name, f64::from(u8::from(server.up)));
        page.gauge(&MEMCACHED_DOUBTED, name, f64::from(u8::from(server.doubted)));
        page.counter(&MEMCACHED_REQUESTS, name, server.requests);
        page.counter(&MEMCACHED_FAILURES, name, server.failures);
        page.counter(&MEMCACHED_OUTAGES, name, server.outages);
        page.gauge(&MEMCACHED_ITEMS, name, server.items as f64);
        page.gauge(&MEMCACHED_BYTES, name, server.bytes as f64);
        page.gauge(&MEMCACHED_LIMIT, name, server.limit_bytes as f64);
        page.counter(&MEMCACHED_EVICTIONS, name, server.evictions);
    }
}
