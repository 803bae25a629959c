//! What is known of a URL, as plain values.

use std::sync::Arc;

use clearcoat_cache::vary::EncodingClass;
use clearcoat_cache::{CacheKey, Entry, Freshness, Moment, SelectingHeaders, Store};
use http::header;

use super::super::route::Place;
use crate::admin::why::{
    EntryFacts, FetchFacts, KeyFacts, MOST_VARIANTS, RouteFacts, Selecting, VariantFacts,
};
use crate::fetch::{FillResult, LastFetch};

/// Tags that are shown of an entry; the rest are only many more of the same.
const MOST_TAGS: usize = 1000;

/// Where a URL belongs.
pub(super) fn route(place: &Place<'_>) -> RouteFacts {
    let (route, path) = match &place.route {
        Some((number, path)) => (Some(*number), Some(path.clone())),
        None => (None, None),
    };
    RouteFacts {
        site: place.site,
        host: place.host.clone(),
        route,
        path,
        pool: place.treatment.pool.name(),
        cache: if place.treatment.pass { "pass" } else { "cache" },
    }
}

/// What a URL is looked up by, and which variants of it are stored.
pub(super) fn key(
    store: &Store,
    (key, url): (CacheKey, String),
    request: &dyn SelectingHeaders,
    stored: &[Arc<Entry>],
    selected: Option<&Entry>,
    now: Moment,
) -> KeyFacts {
    let vary = store.vary_of(key);
    let names = vary.iter().flat_map(|vary| vary.names());
    let variant = |entry: &Arc<Entry>| VariantFacts {
        hash: format!("{:032x}", entry.variant().number()),
        selected: selected.is_some_and(|selected| std::ptr::eq(selected, &**entry)),
        status: entry.status(),
        age: entry.age_seconds(now),
        ttl: entry.ttl_left(now),
    };
    KeyFacts {
        url,
        hash: format!("{:032x}", key.number()),
        vary: names.map(|name| Selecting { name: name.to_owned(), value: value(name, request) }).collect(),
        variants: stored.len() as u64,
        // The one stored last stands last.
        stored: stored.iter().rev().take(MOST_VARIANTS).map(variant).collect(),
    }
}

/// What of a request's header counts for the variant.
fn value(name: &str, request: &dyn SelectingHeaders) -> Option<String> {
    if name == header::ACCEPT_ENCODING.as_str() {
        return EncodingClass::of(request).as_header_value().map(str::to_owned);
    }
    let mut lines: Option<Vec<String>> = None;
    request.visit(name, &mut |line| {
        lines.get_or_insert_default().push(String::from_utf8_lossy(line).into_owned());
    });
    lines.map(|lines| lines.join(", "))
}

/// What is stored, and how its times add up.
pub(super) fn entry(entry: &Entry, now: Moment) -> EntryFacts {
    let meant = entry.stored().saturating_add(entry.ttl().saturating_sub(entry.initial_age()));
    EntryFacts {
        state: match entry.freshness(now) {
            Freshness::Fresh => "fresh",
            Freshness::Grace => "grace",
            Freshness::Stale => "stale",
            Freshness::Dead => "dead",
        },
        status: entry.status(),
        body_bytes: entry.body().len() as u64,
        memory_bytes: u64::from(entry.weight()),
        lifetime: entry.ttl().as_secs(),
        lifetime_from: entry.said_by().as_str(),
        initial_age: entry.initial_age().as_secs(),
        stored_for: now.since(entry.stored()).as_secs(),
        age: entry.age_seconds(now),
        ttl: entry.ttl_left(now),
        soft_purged: entry.fresh_until() < meant,
        grace: entry.grace().as_secs(),
        keep: entry.keep().as_secs(),
        stale_if_error: entry.stale_if_error().as_secs(),
        may_be_stale: entry.may_be_stale(),
        ask_always: entry.ask_always(),
        tags: entry
            .tags()
            .iter()
            .take(MOST_TAGS)
            .map(|tag| String::from_utf8_lossy(tag.as_bytes()).into_owned())
            .collect(),
    }
}

/// What became of the last fetch.
pub(super) fn fetch(fetch: &LastFetch, now: Moment) -> FetchFacts {
    FetchFacts {
        ago: now.since(fetch.began).as_secs(),
        took_ms: u64::try_from(fetch.took.as_millis()).unwrap_or(u64::MAX),
        node: fetch.answered.as_ref().map(|(node, _)| node.to_string()),
        status: fetch.answered.as_ref().map(|(_, status)| *status),
        result: fetch.result.as_str(),
        stored: fetch.result == FillResult::Stored,
    }
}
