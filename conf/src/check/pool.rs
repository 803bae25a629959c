//! `[pools.NAME]`: nodes, choice, probes, and the numbers around them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::shape::join;
use super::{Check, count, number, optional_count};
use crate::config::{
    Balance, Dns, HashOn, HeaderName, Health, NamePattern, Node, NodeAddress, NodeTls, Passive, Pool, Probe,
    ProbeMethod, ProxyVersion, Queue, Retry, StatusList, Timeouts, default, parse_range,
};
use crate::error::Invalid;
use crate::file::{At, BalanceWord, HealthTable, HealthType, MethodWord, NodeEntry, PoolTable, ProxyWord};

/// The longest name of a pool, in bytes: names become labels of metrics.
const MAX_NAME_BYTES: usize = 64;

/// Checks all pools. A pool that cannot be built stays as `None`, so that sites may name it without another mistake.
pub(super) fn check(
    check: &mut Check<'_>,
    tables: BTreeMap<At<String>, At<PoolTable>>,
) -> BTreeMap<String, Option<Pool>> {
    let mut pools = BTreeMap::new();
    for (name, table) in tables {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.value.is_empty() || name.value.len() > MAX_NAME_BYTES || !name.value.bytes().all(good) {
            check.report(
                &name.span,
                "this cannot be the name of a pool",
                format!("use 1 to {MAX_NAME_BYTES} letters, digits, -, _ and ."),
            );
        }
        let pool = check_pool(check, table.value, &join("pools", &name.value));
        pools.insert(name.value, pool);
    }
    pools
}

/// Checks one pool; `key` is its own, such as `pools.web`.
fn check_pool(check: &mut Check<'_>, table: PoolTable, key: &str) -> Option<Pool> {
    let nodes = table.nodes.map(|nodes| check_nodes(check, nodes));
    let balance = check_balance(check, table.balance, table.hash_on, table.hash_balance_factor, key);
    let health = check_health(check, table.health.map(|at| at.value).unwrap_or_default());

    let passive = table.passive.map(|at| at.value).unwrap_or_default();
    let eject_max_span = passive.eject_max.as_ref().map(|at| at.span.clone());
    let eject_span = passive.eject.as_ref().map(|at| at.span.clone());
    let passive = Passive {
        errors: number(passive.errors, default::PASSIVE_ERRORS),
        eject: check.positive_duration(
            passive.eject,
            default::PASSIVE_EJECT,
            "write passive.errors = 0 to turn ejection off",
        ),
        eject_max: check.positive_duration(
            passive.eject_max,
            default::PASSIVE_EJECT_MAX,
            "write passive.errors = 0 to turn ejection off",
        ),
        max_ejected_percent: number(passive.max_ejected_percent, default::PASSIVE_MAX_EJECTED_PERCENT),
    };
    let passive_is_good = !check.is_wrong(&join(key, "passive"));
    if let (true, true, Some(span)) =
        (passive_is_good, passive.eject > passive.eject_max, eject_max_span.or(eject_span))
    {
        check.report(&span, "the first ejection is longer than the longest", "make eject_max at least eject");
    }

    let queue = table.queue.map(|at| at.value).unwrap_or_default();
    let queue = Queue {
        length: number(queue.length, default::QUEUE_LENGTH),
        timeout: check.positive_duration(
            queue.timeout,
            default::QUEUE_TIMEOUT,
            "write queue.length = 0 to let no request wait",
        ),
    };
    let retry = table.retry.map(|at| at.value).unwrap_or_default();
    let retry = Retry {
        attempts: count(retry.attempts, default::RETRY_ATTEMPTS),
        budget_percent: number(retry.budget_percent, default::RETRY_BUDGET_PERCENT),
        min_per_second: number(retry.min_per_second, default::RETRY_MIN_PER_SECOND),
    };
    let timeouts = table.timeouts.map(|at| at.value).unwrap_or_default();
    const LONG: &str = "write a long time, such as 1h, if it should hardly ever end";
    let timeouts = Timeouts {
        connect: check.positive_duration(timeouts.connect, default::CONNECT_TIMEOUT, LONG),
        first_byte: check.positive_duration(timeouts.first_byte, default::FIRST_BYTE_TIMEOUT, LONG),
        between_bytes: check.positive_duration(timeouts.between_bytes, default::BETWEEN_BYTES_TIMEOUT, LONG),
        idle: check.duration(timeouts.idle, default::IDLE_TIMEOUT),
    };

    let dns = table.dns.map(|at| at.value).unwrap_or_default();
    let (min_span, max_span) =
        (dns.min_ttl.as_ref().map(|at| at.span.clone()), dns.max_ttl.as_ref().map(|at| at.span.clone()));
    let mut dns = Dns {
        min_ttl: check.duration(dns.min_ttl, default::DNS_MIN_TTL),
        max_ttl: check.duration(dns.max_ttl, default::DNS_MAX_TTL),
    };
    if let (true, Some(span)) = (dns.min_ttl < default::DNS_MIN_TTL, &min_span) {
        check.report(span, "names cannot be looked up that often", "write 1s or more");
        dns.min_ttl = default::DNS_MIN_TTL;
    }
    let dns_is_good = !check.is_wrong(&join(key, "dns"));
    if let (true, true, Some(span)) = (dns_is_good, dns.min_ttl > dns.max_ttl, max_span.or(min_span)) {
        check.report(&span, "max_ttl is shorter than min_ttl", "make max_ttl at least min_ttl");
    }

    let tls = table.tls.map(|at| {
        let tls = NodeTls {
            verify: at.value.verify.is_none_or(|verify| verify.value),
            sni: at.value.sni.and_then(|at| {
                let name = check.value::<crate::config::NodeName>(&at)?;
                Some(name.as_str().to_owned())
            }),
            ca: at.value.ca.and_then(|at| {
                if at.value.is_empty() {
                    check.report(
                        &at.span,
                        "the path is empty",
                        "leave the key out to trust the system's authorities",
                    );
                    return None;
                }
                Some(check.path(&at.value))
            }),
        };
        (tls, at.span)
    });

    let nodes = nodes?;
    if let Some((tls, span)) = &tls {
        let nameless = nodes.iter().find(|node| !matches!(node.address, NodeAddress::Name { .. }));
        let is_wrong = check.is_wrong(&join(key, "tls"));
        if let (true, None, Some(node), false) = (tls.verify, &tls.sni, nameless, is_wrong) {
            check.report(
                span,
                format!("the node {} has no name that its certificate could be checked for", node.address),
                "add sni = \"web.internal\" or verify = false",
            );
        }
    }
    Some(Pool {
        nodes,
        balance,
        health,
        passive,
        slow_start: check.duration(table.slow_start, default::SLOW_START),
        refill_concurrency: count(table.refill_concurrency, default::REFILL_CONCURRENCY),
        queue,
        retry,
        timeouts,
        tls: tls.map(|(tls, _)| tls),
        proxy_protocol: table.proxy_protocol.map(|word| match word.value {
            ProxyWord::V1 => ProxyVersion::V1,
            ProxyWord::V2 => ProxyVersion::V2,
        }),
        forwarded: table.forwarded.is_some_and(|forwarded| forwarded.value),
        dns,
    })
}

fn check_nodes(check: &mut Check<'_>, list: At<Vec<At<NodeEntry>>>) -> Vec<Node> {
    let complete = !check.damaged.contains(&list.span);
    let entries = list.value.len();
    if entries == 0 && complete {
        check.report(
            &list.span,
            "a pool needs at least one node",
            "add its address, such as \"10.0.0.11:80\"",
        );
    }
    let mut nodes: Vec<(Node, Range<usize>)> = Vec::with_capacity(entries);
    for entry in list.value {
        let (address, weight, backup, max_connections) = match entry.value {
            NodeEntry::Address(text) => (At { span: entry.span, value: text }, None, None, None),
            NodeEntry::Table(table) => match table.address {
                Some(address) => (address, table.weight, table.backup, table.max_connections),
                None => continue,
            },
        };
        let Some(node_address) = check.value::<NodeAddress>(&address) else { continue };
        if let Some((_, first)) = nodes.iter().find(|(node, _)| node.address == node_address) {
            let line = check.line(first);
            check.report(
                &address.span,
                format!("the node {node_address} is in the pool twice, first in line {line}"),
                "take it out, or give the first one a weight",
            );
            continue;
        }
        let node = Node {
            address: node_address,
            weight: count(weight, default::WEIGHT),
            backup: backup.is_some_and(|backup| backup.value),
            max_connections: optional_count(max_connections),
        };
        nodes.push((node, address.span));
    }
    // Only said of a list that was understood as a whole: a node that fell out may have been the one.
    if complete && entries > 0 && nodes.len() == entries && nodes.iter().all(|(node, _)| node.backup) {
        check.report(
            &list.span,
            "every node of the pool is a backup",
            "take backup = true away from those that should do the everyday work",
        );
    }
    nodes.into_iter().map(|(node, _)| node).collect()
}

fn check_balance(
    check: &mut Check<'_>,
    word: Option<At<BalanceWord>>,
    hash_on: Option<At<String>>,
    factor: Option<At<u64>>,
    pool_key: &str,
) -> Balance {
    let hashed = word.as_ref().is_some_and(|word| word.value == BalanceWord::Hash);
    if !hashed {
        let spans = [hash_on.map(|at| at.span), factor.map(|at| at.span)];
        // A misspelt `balance` may have meant it.
        if !check.is_wrong(&join(pool_key, "balance")) {
            for span in spans.into_iter().flatten() {
                check.report(
                    &span,
                    "only means something with balance = \"hash\"",
                    "set that, or take this key out",
                );
            }
        }
        return match word.map(|word| word.value) {
            None | Some(BalanceWord::Hash) => Balance::default(),
            Some(BalanceWord::RoundRobin) => Balance::RoundRobin,
            Some(BalanceWord::LeastRequests) => Balance::LeastRequests,
            Some(BalanceWord::RandomTwo) => Balance::RandomTwo,
        };
    }
    let on = hash_on.and_then(|at| check.read(&at.span, parse_hash_on(&at.value))).unwrap_or_default();
    let balance_factor = match factor {
        Some(at) if (1..=100).contains(&at.value) => {
            check.report(
                &at.span,
                format!("{} percent of the average cannot hold all requests", at.value),
                "write more than 100, or 0 for no bound",
            );
            default::HASH_BALANCE_FACTOR
        }
        factor => number(factor, default::HASH_BALANCE_FACTOR),
    };
    Balance::Hash { on, balance_factor }
}

fn parse_hash_on(text: &str) -> Result<HashOn, Invalid> {
    match text.split_once(':') {
        Some(("header", name)) => Ok(HashOn::Header(name.parse::<HeaderName>()?)),
        Some(("cookie", pattern)) => Ok(HashOn::Cookie(NamePattern::cookie(pattern)?)),
        None if text == "path" => Ok(HashOn::Path),
        None if text == "client" => Ok(HashOn::Client),
        Some(_) | None => Err(Invalid::new(
            format!("{text:?} cannot be hashed"),
            "write path, header:NAME, cookie:NAME or client",
        )),
    }
}

fn check_health(check: &mut Check<'_>, table: HealthTable) -> Health {
    let HealthTable { kind, method, path, host, expect, body, interval, timeout, fall, rise } = table;
    // What only an HTTP probe has, in the order of the file's documentation.
    let http_only: Vec<Range<usize>> = [
        method.as_ref().map(|at| at.span.clone()),
        path.as_ref().map(|at| at.span.clone()),
        host.as_ref().map(|at| at.span.clone()),
        expect.as_ref().map(|at| at.span.clone()),
        body.as_ref().map(|at| at.span.clone()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let kind = match kind {
        Some(kind) => kind.value,
        None if http_only.is_empty() => HealthType::Tcp,
        None => HealthType::Http,
    };

    let method = method.map_or(ProbeMethod::default(), |at| match at.value {
        MethodWord::Get => ProbeMethod::Get,
        MethodWord::Head => ProbeMethod::Head,
        MethodWord::Options => ProbeMethod::Options,
    });
    let path = path.map(|at| {
        if !at.value.starts_with('/') || !at.value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
        {
            check.report(
                &at.span,
                format!("{:?} is not a path", at.value),
                "begin with / and write spaces and letters beyond ASCII in their %XX form",
            );
        }
        at.value
    });
    let host = host.and_then(|at| check.read(&at.span, parse_probe_host(&at.value)));
    let expect = expect.map(|list| check_expect(check, list)).unwrap_or_default();
    let body_span = body.as_ref().map(|at| at.span.clone());
    let body = body.and_then(|at| check.value(&at));
    let probe = match kind {
        HealthType::Off => None,
        HealthType::Tcp => {
            for span in http_only {
                check.report(
                    &span,
                    "means nothing to a tcp probe",
                    "write type = \"http\" or take this key out",
                );
            }
            Some(Probe::Tcp)
        }
        HealthType::Http => {
            if let (ProbeMethod::Head, Some(span)) = (method, body_span) {
                check.report(
                    &span,
                    "the answer to HEAD has no body",
                    "write method = \"GET\" or take body out",
                );
            }
            let path = path.unwrap_or_else(|| default::HEALTH_PATH.to_owned());
            Some(Probe::Http { method, path, host, expect, body })
        }
    };

    const OFF: &str = "write type = \"off\" to turn probing off";
    Health {
        probe,
        interval: check.positive_duration(interval, default::HEALTH_INTERVAL, OFF),
        timeout: check.positive_duration(timeout, default::HEALTH_TIMEOUT, OFF),
        fall: count(fall, default::HEALTH_FALL),
        rise: count(rise, default::HEALTH_RISE),
    }
}

/// A `Host` header: a name or an address, and perhaps a port.
fn parse_probe_host(text: &str) -> Result<String, Invalid> {
    let (host, port) = match text.rsplit_once(':') {
        // The colons inside brackets belong to an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    let good_port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    match host.parse::<crate::config::HostPattern>() {
        Ok(crate::config::HostPattern::Exact(_)) if good_port => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(Invalid::new(
            format!("{text:?} is not a host"),
            "write a name and perhaps a port, such as www.example.com or www.example.com:8080",
        )),
    }
}

fn check_expect(check: &mut Check<'_>, list: At<Vec<At<crate::file::StatusText>>>) -> StatusList {
    let complete = !check.damaged.contains(&list.span);
    let bad = list.value.iter().filter(|at| check.read(&at.span, parse_range(&at.value.0)).is_none()).count();
    let expect = StatusList::parse(list.value.iter().map(|at| at.value.0.as_str()));
    if bad > 0 || !complete {
        return expect.unwrap_or_default();
    }
    check.read(&list.span, expect).unwrap_or_default()
}
