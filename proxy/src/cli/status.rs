//! `status`: the status document of a running edge as a page of text.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Deserialize;

use super::admin::AdminArguments;
use super::table::Table;
use super::{Trouble, print};

/// Show what a running edge says about itself.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// The document itself.
    #[arg(long)]
    json: bool,
}

/// Asks for the document and prints it.
pub(super) fn command(arguments: &Arguments) -> Result<(), Trouble> {
    let document = arguments.admin.get("/api/status")?;
    if arguments.json {
        return Ok(print(&String::from_utf8_lossy(&document))?);
    }
    let status: Status = serde_json::from_slice(&document).context("reading the status document")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(print(&page(&status, now))?)
}

/// The parts of the document that are shown. An edge of another version may lack some.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    version: String,
    pid: u32,
    uptime_seconds: u64,
    resident_bytes: Option<u64>,
    readiness: Readiness,
    hit_ratio: HitRatio,
    requests: BTreeMap<String, u64>,
    requests_in_flight: u64,
    connections: Connections,
    limits: BTreeMap<String, u64>,
    cache: Cache,
    pools: Vec<Pool>,
    sessions: Option<Sessions>,
    pins: Option<Pins>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pins {
    found: u64,
    made: u64,
    moved: u64,
    fallbacks: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sessions {
    connections: u64,
    repaired_missing: u64,
    repaired_older: u64,
    locks_taken: u64,
    locks_refused: u64,
    servers: Vec<Memcached>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memcached {
    name: String,
    up: bool,
    doubted: bool,
    requests: u64,
    failures: u64,
    outages: u64,
    items: u64,
    bytes: u64,
    limit_bytes: u64,
    evictions: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Readiness {
    state: String,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HitRatio {
    last_minute: Option<f64>,
    since_start: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Connections {
    open: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cache {
    entries: u64,
    bytes: u64,
    budget_bytes: u64,
    tags: u64,
    evictions: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pool {
    name: String,
    queued: u64,
    nodes: Vec<Node>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    name: String,
    state: String,
    reason: String,
    since: u64,
    weight: u32,
    backup: bool,
    in_flight: u64,
    requests: u64,
    failures: BTreeMap<String, u64>,
    ejections: u64,
    probe_ms: Option<f64>,
}

fn page(status: &Status, now: Duration) -> String {
    let Status { cache, hit_ratio, readiness, .. } = status;
    let mut facts = Table::new(&["Clearcoat", &format!("{}, process {}", status.version, status.pid)]);
    let mut fact = |name: &str, value: String| facts.row([name.to_owned(), value]);
    let reason = if readiness.reason.is_empty() { String::new() } else { format!(": {}", readiness.reason) };
    fact("State", format!("{}{reason}", readiness.state));
    fact("Running for", span(Duration::from_secs(status.uptime_seconds)));
    fact("Memory", status.resident_bytes.map_or_else(|| "unknown".into(), size));
    let (used, budget) = (size(cache.bytes), size(cache.budget_bytes));
    let Cache { entries, tags, evictions, .. } = cache;
    fact("Cache", format!("{entries} entries, {used} of {budget}, {tags} tags, {evictions} evicted"));
    let (minute, ever) = (percent(hit_ratio.last_minute), percent(hit_ratio.since_start));
    fact("Hits", format!("{minute} in the last minute, {ever} since the start"));
    fact("Requests", counts(&status.requests));
    fact(
        "Now",
        format!("{} connections, {} requests at nodes", status.connections.open, status.requests_in_flight),
    );
    if !status.limits.is_empty() {
        fact("Limits", counts(&status.limits));
    }
    if let Some(sessions) = &status.sessions {
        let repaired = sessions.repaired_missing + sessions.repaired_older;
        let Sessions { connections, locks_taken, locks_refused, .. } = sessions;
        fact(
            "Sessions",
            format!(
                "{connections} connections, {locks_taken} locks taken, {locks_refused} refused, {repaired} copies repaired"
            ),
        );
    }
    if let Some(Pins { found, made, moved, fallbacks }) = &status.pins {
        fact(
            "Pins",
            format!("{found} found, {made} made, {moved} moved, {fallbacks} by hash for want of memcached"),
        );
    }
    let servers = status.sessions.iter().map(|sessions| format!("\n{}", memcached(&sessions.servers)));
    format!("{}\n{}{}", facts.text(), nodes(&status.pools, now), servers.collect::<String>())
}

fn nodes(pools: &[Pool], now: Duration) -> String {
    let mut table = Table::new(&[
        "POOL", "NODE", "STATE", "FOR", "WEIGHT", "NOW", "REQUESTS", "FAILED", "EJECTED", "PROBE", "WHY",
    ]);
    for pool in pools {
        for node in &pool.nodes {
            table.row([
                pool.name.clone(),
                node.name.clone(),
                node.state.clone(),
                span(Duration::from_secs(now.as_secs().saturating_sub(node.since))),
                format!("{}{}", node.weight, if node.backup { " (backup)" } else { "" }),
                node.in_flight.to_string(),
                node.requests.to_string(),
                node.failures.values().sum::<u64>().to_string(),
                node.ejections.to_string(),
                node.probe_ms.map_or_else(|| "-".into(), |milliseconds| format!("{milliseconds:.1} ms")),
                node.reason.clone(),
            ]);
        }
        if pool.queued > 0 {
            table.row([pool.name.clone(), format!("{} waiting", pool.queued)]);
        }
    }
    table.text()
}

fn memcached(servers: &[Memcached]) -> String {
    let mut table =
        Table::new(&["MEMCACHED", "STATE", "REQUESTS", "FAILED", "OUTAGES", "ITEMS", "MEMORY", "EVICTED"]);
    for server in servers {
        let state = match (server.up, server.doubted) {
            (false, _) => "down",
            (true, true) => "up, compared with the others",
            (true, false) => "up",
        };
        table.row([
            server.name.clone(),
            state.to_owned(),
            server.requests.to_string(),
            server.failures.to_string(),
            server.outages.to_string(),
            server.items.to_string(),
            format!("{} of {}", size(server.bytes), size(server.limit_bytes)),
            server.evictions.to_string(),
        ]);
    }
    table.text()
}

/// The counts that are not zero.
fn counts(counts: &BTreeMap<String, u64>) -> String {
    let shown: Vec<String> = counts
        .iter()
        .filter(|(_, number)| **number > 0)
        .map(|(name, number)| format!("{number} {name}"))
        .collect();
    if shown.is_empty() { "none".into() } else { shown.join(", ") }
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{:.1} %", ratio * 100.0))
}

/// A size rounded for people, in units of 1024.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A time rounded for people: its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_page_shows_what_matters() {
        let document = r#"{
            "version": "9.9.9", "pid": 12, "uptime_seconds": 3720, "resident_bytes": 2097152,
            "readiness": {"state": "not-yet", "reason": "pool web: no node is up"},
            "hit_ratio": {"last_minute": 0.934, "since_start": null},
            "requests": {"hit": 7, "miss": 0, "pass": 2}, "limits": {"queue_full": 1},
            "cache": {"entries": 3, "bytes": 1536, "budget_bytes": 1073741824, "tags": 4, "evictions": 0},
            "pools": [{"name": "web", "queued": 2, "nodes": [
                {"name": "10.0.0.11:80", "state": "down", "since": 1000, "weight": 1, "failures": {"connect": 2, "status": 1},
                 "reason": "connection refused", "unheard-of": true}]}],
            "a key of tomorrow": {}
        }"#;
        let page = page(&serde_json::from_str(document).unwrap(), Duration::from_secs(1065));
        for part in [
            "9.9.9, process 12",
            "not-yet: pool web: no node is up",
            "1h 2m",
            "2.0 MiB",
            "3 entries, 1.5 KiB of 1.0 GiB, 4 tags",
            "93.4 % in the last minute, - since the start",
            "7 hit, 2 pass\n",
            "1 queue_full",
            "web   10.0.0.11:80  down   1m 5s  1       0    0         3       0        -      connection refused\n",
            "2 waiting",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
    }

    #[test]
    fn an_empty_document_is_a_page_too() {
        assert!(page(&serde_json::from_str("{}").unwrap(), Duration::ZERO).contains("POOL"));
    }

    #[test]
    fn times_and_sizes_are_rounded() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (90_061, "1d 1h")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"), (1 << 50, "1024.0 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
