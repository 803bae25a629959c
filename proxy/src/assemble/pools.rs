//! The pools of a configuration as the settings that pools are made from.

use anyhow::Context;
use clearcoat_conf as conf;

use crate::pool;

pub(crate) fn pool_settings(config: &conf::Config) -> anyhow::Result<Vec<pool::PoolSettings>> {
    config.pools.iter().map(|(name, settings)| one_pool(name, settings)).collect()
}

fn one_pool(name: &str, settings: &conf::Pool) -> anyhow::Result<pool::PoolSettings> {
    let nodes = settings.nodes.iter().map(|node| pool::NodeSettings {
        address: match &node.address {
            conf::NodeAddress::Ip(address) => pool::NodeAddress::Ip(*address),
            conf::NodeAddress::Name { host, port } => {
                pool::NodeAddress::Name { host: host.as_str().to_owned(), port: *port }
            }
            conf::NodeAddress::Unix(path) => pool::NodeAddress::Unix(path.clone()),
        },
        weight: node.weight.get(),
        backup: node.backup,
        max_connections: node.max_connections.map(std::num::NonZero::get),
    });
    let health = &settings.health;
    let tls = settings.tls.as_ref().map(|tls| {
        let ca = tls.ca.as_deref().map(|path| {
            let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            pool::TrustedCas::from_pem(&pem).with_context(|| format!("reading {}", path.display()))
        });
        anyhow::Ok(pool::NodeTls { verify: tls.verify, sni: tls.sni.clone(), ca: ca.transpose()? })
    });
    Ok(pool::PoolSettings {
        name: name.to_owned(),
        nodes: nodes.collect(),
        balance: match &settings.balance {
            conf::Balance::RoundRobin => pool::Balance::RoundRobin,
            conf::Balance::LeastRequests => pool::Balance::LeastRequests,
            conf::Balance::RandomTwo => pool::Balance::RandomTwo,
            conf::Balance::Hash { balance_factor, .. } => {
                pool::Balance::Hash { balance_factor: *balance_factor }
            }
        },
        health: match &health.probe {
            None => pool::HealthSettings::OFF,
            Some(probe) => pool::HealthSettings {
                check: check(probe)?,
                interval: health.interval,
                timeout: health.timeout,
                fall: health.fall.get(),
                rise: health.rise.get(),
            },
        },
        passive: pool::PassiveSettings {
            failures: settings.passive.errors,
            eject: settings.passive.eject,
            eject_max: settings.passive.eject_max,
            max_ejected_percent: settings.passive.max_ejected_percent,
        },
        slow_start: settings.slow_start,
        queue_length: settings.queue.length as usize,
        queue_timeout: settings.queue.timeout,
        refill_concurrency: settings.refill_concurrency.get(),
        retry: pool::RetrySettings {
            attempts: settings.retry.attempts.get(),
            budget_percent: settings.retry.budget_percent,
            min_per_second: settings.retry.min_per_second,
        },
        timeouts: pool::Timeouts {
            connect: settings.timeouts.connect,
            first_byte: settings.timeouts.first_byte,
            between_bytes: settings.timeouts.between_bytes,
            idle: settings.timeouts.idle,
        },
        tls: tls.transpose()?,
        proxy_protocol: settings.proxy_protocol.map(|version| match version {
            conf::ProxyVersion::V1 => pool::ProxyVersion::V1,
            conf::ProxyVersion::V2 => pool::ProxyVersion::V2,
        }),
        forwarded: settings.forwarded,
        dns_min_ttl: settings.dns.min_ttl,
        dns_max_ttl: settings.dns.max_ttl,
    })
}

fn check(probe: &conf::Probe) -> anyhow::Result<pool::Check> {
    Ok(match probe {
        conf::Probe::Tcp => pool::Check::Tcp,
        conf::Probe::Http { method, path, host, expect, body } => pool::Check::Http(pool::HttpCheck {
            method: method.as_str().parse().unwrap_or(http::Method::GET),
            path: path.clone(),
            host: host.clone(),
            statuses: expect.ranges().iter().flat_map(|&(first, last)| first..=last).collect(),
            body: match body {
                Some(body) => Some(pool::BodyPattern(regex::bytes::Regex::new(body.as_str())?)),
                None => None,
            },
        }),
    })
}
