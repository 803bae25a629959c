//! The sites of a configuration as the table that requests are looked up in.

use std::sync::Arc;

use anyhow::Context;
use clearcoat_cache::{DefaultTtls, FreshnessSettings, Statuses, TargetedFields};
use clearcoat_conf as conf;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use super::{context, gates};
use crate::front::cookies::CookieRules;
use crate::front::normalise::{self, By, Normaliser};
use crate::front::parts::KeyParts;
use crate::front::query::{Parameters, QueryRules};
use crate::front::route::{HashOn, HostRule, PathRule, Route, RouteTable, Site, Treatment};
use crate::front::seen::{NoCache, RequestRules};
use crate::pool::Pools;
use crate::session::pin::Pins;

pub(super) fn header_names(names: &[conf::HeaderName]) -> anyhow::Result<Vec<HeaderName>> {
    names.iter().map(|name| HeaderName::from_bytes(name.as_str().as_bytes()).map_err(Into::into)).collect()
}

pub(super) fn route_table(
    config: &conf::Config,
    pools: &Pools,
    pins: Option<&Arc<Pins>>,
    gates: &[gates::Builder],
) -> anyhow::Result<RouteTable> {
    let treatment = |pool: &str, policy: conf::CachePolicy, rules: &conf::Rules, normalise: &Arc<[_]>| {
        let freshness = freshness(&config.cache, rules)?;
        let settings = config.pools.get(pool).with_context(|| format!("there is no pool {pool}"))?;
        anyhow::Ok(Treatment {
            pool: pools.get(pool).with_context(|| format!("there is no pool {pool}"))?,
            hash_on: match &settings.balance {
                conf::Balance::Hash { on, .. } => Some(hash_on(on)),
                conf::Balance::RoundRobin | conf::Balance::LeastRequests | conf::Balance::RandomTwo => None,
            },
            pins: pins.cloned(),
            gate: None,
            pass: policy == conf::CachePolicy::Pass,
            request: request_rules(rules, normalise)?,
            freshness: freshness.clone(),
            deception_guard: rules.deception_guard,
            uncacheable_for: rules.uncacheable_ttl,
            compress: rules.compress,
            context: context::rules(rules, &freshness)?,
            purge_token: context::purge_token(rules, &freshness)?,
            forgeries: None,
            delivery: Arc::default(),
            grace_for_sessions: rules.grace_for_sessions,
            esi: rules.esi,
        })
    };
    let mut sites = Vec::new();
    for (site, gates) in config.sites.iter().zip(gates) {
        let hosts = site.hosts.iter().map(host_rule).collect();
        let normalise = site.normalise.iter().map(normaliser).collect::<anyhow::Result<Arc<[_]>>>()?;
        let forgeries = context::forgeries(site)?;
        let routes = site.routes.iter().map(|route| {
            let pool = route.pool.as_deref().unwrap_or(&site.pool);
            let mut treatment = treatment(pool, route.cache, &route.rules, &normalise)?;
            treatment.forgeries.clone_from(&forgeries);
            treatment.gate = gates.gate(&route.gate)?;
            treatment.delivery = context::delivery(&route.rules, &route.gate, site.hsts)?;
            anyhow::Ok(Route { path: path_rule(&route.path), treatment })
        });
        let routes = routes.collect::<anyhow::Result<Vec<_>>>()?;
        let mut default = treatment(&site.pool, site.cache, &site.rules, &normalise)?;
        default.forgeries.clone_from(&forgeries);
        default.gate = gates.gate(&site.gate)?;
        default.delivery = context::delivery(&site.rules, &site.gate, site.hsts)?;
        sites.push((hosts, Site { routes, default }));
    }
    Ok(RouteTable::new(sites))
}

fn request_rules(rules: &conf::Rules, normalise: &Arc<[Normaliser]>) -> anyhow::Result<RequestRules> {
    Ok(RequestRules {
        query: QueryRules {
            sort: rules.query.sort,
            parameters: match &rules.query.names {
                conf::QueryNames::All => Parameters::All,
                conf::QueryNames::Keep(names) => Parameters::Keep(names.as_slice().into()),
                conf::QueryNames::Drop(names) => Parameters::Drop(names.as_slice().into()),
            },
        },
        cookies: CookieRules {
            keep: match &rules.keep_cookies {
                conf::KeepCookies::All => None,
                conf::KeepCookies::Only(names) => Some(names.as_slice().into()),
            },
            pass: rules.cookies == conf::CookiePolicy::Pass,
            authorized_as_sent: rules.user_context.as_ref().is_some_and(|context| !context.authorized),
        },
        parts: KeyParts::new(
            header_names(&rules.key_headers)?,
            rules.key_cookies.iter().map(conf::CookieName::as_str),
        ),
        normalise: normalise.clone(),
        no_cache: match rules.request_no_cache {
            conf::RequestNoCache::Ignore => NoCache::Ignored,
            conf::RequestNoCache::Revalidate => NoCache::Everybody,
            conf::RequestNoCache::Refresh => NoCache::Purgers,
        },
    })
}

fn normaliser(settings: &conf::Normaliser) -> anyhow::Result<Normaliser> {
    let name = |name: &conf::HeaderName| HeaderName::from_bytes(name.as_str().as_bytes());
    let by = match &settings.how {
        conf::NormaliseHow::Languages(tags) => {
            let tags = tags.iter().map(|tag| HeaderValue::from_str(tag.as_str()));
            By::Languages(tags.collect::<Result<_, _>>()?)
        }
        conf::NormaliseHow::Classes { classes, otherwise } => {
            let classes = classes.iter().map(|class| {
                let pattern = normalise::pattern(class.pattern.as_str())?;
                anyhow::Ok((HeaderValue::from_str(class.value.as_str())?, pattern))
            });
            By::Classes {
                classes: classes.collect::<anyhow::Result<_>>()?,
                otherwise: match otherwise {
                    Some(value) => Some(HeaderValue::from_str(value.as_str())?),
                    None => None,
                },
            }
        }
    };
    Ok(Normaliser {
        header: name(&settings.header)?,
        by,
        goes_to: settings.into.as_ref().map(name).transpose()?,
    })
}

fn freshness(cache: &conf::Cache, rules: &conf::Rules) -> anyhow::Result<FreshnessSettings> {
    let targeted = TargetedFields::new(header_names(&cache.targeted_fields)?);
    // Codes come before classes, and both before the lifetime for all.
    let mut by_status = Vec::new();
    for (statuses, ttl) in rules.status_ttl.iter() {
        let statuses = match statuses {
            conf::StatusKey::Code(code) => Statuses::One(StatusCode::from_u16(code)?),
            conf::StatusKey::Class(digit) => Statuses::Class(digit),
        };
        by_status.push((statuses, ttl));
    }
    let with_rest = |ttl| DefaultTtls::new(by_status.iter().copied().chain([(Statuses::Usual, ttl)]));
    Ok(FreshnessSettings {
        overrides: rules.ttl.map(with_rest).unwrap_or_default(),
        defaults: with_rest(rules.default_ttl),
        heuristic_percent: cache.heuristic_percent,
        grace: rules.grace,
        keep: rules.keep,
        stale_if_error: rules.stale_if_error,
        grace_over_revalidate: cache.grace_over_revalidate,
        targeted: if cache.keep_targeted_fields { targeted } else { targeted.kept_back() },
        surrogate_control: cache.surrogate_control,
        reverse_proxy_ttl: cache.reverse_proxy_ttl,
        strip_set_cookie: match rules.set_cookie {
            conf::SetCookiePolicy::Refuse => false,
            conf::SetCookiePolicy::Strip => true,
        },
    })
}

fn hash_on(on: &conf::HashOn) -> HashOn {
    match on {
        conf::HashOn::Path => HashOn::Path,
        conf::HashOn::Header(name) => HashOn::Header(name.as_str().to_ascii_lowercase().into()),
        conf::HashOn::Cookie(pattern) => HashOn::Cookie(pattern.clone()),
        conf::HashOn::Client => HashOn::Client,
    }
}

pub(super) fn host_rule(pattern: &conf::HostPattern) -> HostRule {
    match pattern {
        conf::HostPattern::Any => HostRule::Any,
        // Kept with its dot, so that the end of a longer name does not match.
        conf::HostPattern::Below(name) => HostRule::Below(format!(".{name}").into()),
        conf::HostPattern::Exact(name) => HostRule::Exact(name.as_str().into()),
    }
}

pub(super) fn path_rule(pattern: &conf::PathPattern) -> PathRule {
    match pattern {
        conf::PathPattern::Exact(path) => PathRule::Exact(path.as_str().into()),
        conf::PathPattern::Prefix(prefix) => PathRule::Prefix(prefix.as_str().into()),
        conf::PathPattern::Suffix(suffix) => PathRule::Suffix(suffix.as_str().into()),
    }
}
