//! `[[site]]`: hosts, pools that exist, routes that are reached.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::origin::{Origin, Origins, SiteOrigins};
use super::{Check, access, listed, nearest, normalise, optional_count, preset, rules};
use crate::config::{Cache, CachePolicy, Gate, HostPattern, PathPattern, Pool, Preset, Route, Rules, Site};
use crate::file::{At, CacheWord, GateTable, PresetWord, RouteTable, SiteTable};

/// Checks all sites.
pub(super) fn check(
    check: &mut Check<'_>,
    list: Option<At<Vec<At<SiteTable>>>>,
    pools: &BTreeMap<String, Option<Pool>>,
    cache: (&Cache, Origins),
) -> Vec<(Site, SiteOrigins)> {
    // A missing `site` has been reported by its shape.
    let Some(list) = list else { return Vec::new() };
    if list.value.is_empty() && !check.damaged.contains(&list.span) {
        check.report(&list.span, "there is no site", "add [[site]] with hosts = [\"*\"] and pool = \"web\"");
    }
    let mut seen: HashMap<HostPattern, Range<usize>> = HashMap::new();
    let mut sites = Vec::with_capacity(list.value.len());
    let (outer, cache_origins) = (Rules::of_cache(cache.0), cache.1);
    for At { value: mut table, span } in list.value {
        let (written, gate) = (table.take_rules(), table.take_gate());
        let hosts = table.hosts.map(|hosts| check_hosts(check, hosts, &mut seen)).unwrap_or_default();
        let pool = table.pool.and_then(|pool| check_pool_name(check, pool, pools)).unwrap_or_default();
        let policy_is_good =
            ["cache", "route"].iter().all(|key| !check.is_wrong(&check.key_under(&span, key)));
        let cache = table.cache.map_or(CachePolicy::default(), |at| policy(at.value));
        let routes = table.route.map(|routes| routes.value).unwrap_or_default();
        let caches = |at: &At<RouteTable>| {
            at.value.cache.as_ref().is_some_and(|word| policy(word.value) == CachePolicy::Cache)
        };
        // A site that passes may have rules for the routes that do not.
        if cache == CachePolicy::Pass && policy_is_good && !routes.iter().any(caches) {
            let normalised = table.normalise.as_ref().map(|at| at.span.clone());
            mean_nothing(check, written.spans().into_iter().chain(normalised), "site");
        }
        let preset = table.preset.map_or(Preset::default(), |at| named(at.value));
        let redirect_to_https = table.redirect_to_https.is_some_and(|redirect| redirect.value);
        let gate = check_gate(check, gate, &Gate::default());
        let hsts = access::hsts(check, table.hsts);
        let maintenance = access::maintenance(check, table.maintenance);
        let rate_limits = access::rate_limits(check, table.rate_limit);
        let max_concurrent = optional_count(table.max_concurrent);
        let (ready_made, origins) = preset::check(check, preset, (&outer, &cache_origins));
        let origins = origins.under(&written.written(), Origin::Site);
        let rules = rules::check(check, written, &span, &ready_made);
        let normalise = table.normalise.map(|list| normalise::check(check, list)).unwrap_or_default();
        let (routes, of_routes) =
            check_routes(check, routes, (cache, &rules, &gate, &origins), pools).into_iter().unzip();
        sites.push((
            Site {
                hosts,
                pool,
                preset,
                redirect_to_https,
                hsts,
                gate,
                maintenance,
                rate_limits,
                max_concurrent,
                routes,
                cache,
                rules,
                normalise,
            },
            SiteOrigins { site: origins, routes: of_routes },
        ));
    }
    sites
}

fn check_hosts(
    check: &mut Check<'_>,
    list: At<Vec<At<String>>>,
    seen: &mut HashMap<HostPattern, Range<usize>>,
) -> Vec<HostPattern> {
    if list.value.is_empty() && !check.damaged.contains(&list.span) {
        check.report(&list.span, "a site needs at least one host", "write \"*\" for every host");
    }
    let mut hosts = Vec::with_capacity(list.value.len());
    for at in list.value {
        let Some(host) = check.value::<HostPattern>(&at) else { continue };
        if let Some(first) = seen.get(&host) {
            let line = check.line(first);
            check.report(
                &at.span,
                format!("the host {host} stands in line {line} already"),
                "keep one of the two",
            );
            continue;
        }
        seen.insert(host.clone(), at.span);
        hosts.push(host);
    }
    hosts
}

/// The name of a pool that exists.
fn check_pool_name(
    check: &mut Check<'_>,
    at: At<String>,
    pools: &BTreeMap<String, Option<Pool>>,
) -> Option<String> {
    if pools.contains_key(&at.value) || check.lost_pool(&at.value) {
        return Some(at.value);
    }
    let names = || pools.keys().map(String::as_str);
    let hint = match nearest(&at.value, names()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if pools.is_empty() => "define one: [pools.web] with nodes = [\"10.0.0.11:80\"]".to_owned(),
        None => format!("the pools are {}", listed(names())),
    };
    check.report(&at.span, format!("there is no pool {:?}", at.value), hint);
    None
}

/// Keys about what is stored, where nothing is.
fn mean_nothing(check: &mut Check<'_>, spans: impl IntoIterator<Item = Range<usize>>, place: &str) {
    for span in spans {
        check.report(
            &span,
            format!("nothing is stored on this {place}, so this means nothing"),
            "write cache = \"cache\" or take the key out",
        );
    }
}

fn check_routes(
    check: &mut Check<'_>,
    tables: Vec<At<RouteTable>>,
    (site_cache, site_rules, site_gate, site_origins): (CachePolicy, &Rules, &Gate, &Origins),
    pools: &BTreeMap<String, Option<Pool>>,
) -> Vec<(Route, Origins)> {
    let mut routes: Vec<(Route, Origins, Range<usize>)> = Vec::with_capacity(tables.len());
    for At { value: mut table, span } in tables {
        let (written, gate) = (table.take_rules(), table.take_gate());
        let policy_is_good = !check.is_wrong(&check.key_under(&span, "cache"));
        let cache = table.cache.map_or(site_cache, |at| policy(at.value));
        let pool = table.pool.and_then(|pool| check_pool_name(check, pool, pools));
        if cache == CachePolicy::Pass && policy_is_good {
            mean_nothing(check, written.spans(), "route");
        }
        let gate = check_gate(check, gate, site_gate);
        let origins = site_origins.under(&written.written(), Origin::Route);
        let rules = rules::check(check, written, &span, site_rules);
        let Some(at) = table.path else { continue };
        let Some(path) = check.value::<PathPattern>(&at) else { continue };
        if let Some((earlier, _, first)) = routes.iter().find(|(earlier, ..)| earlier.path.covers(&path)) {
            let line = check.line(first);
            check.report(
                &at.span,
                format!("this route is never reached: {} in line {line} takes its paths", earlier.path),
                "put it before that one, or take it out",
            );
            continue;
        }
        routes.push((Route { path, cache, pool, gate, rules }, origins, at.span));
    }
    routes.into_iter().map(|(route, origins, _)| (route, origins)).collect()
}

/// Checks what stands before a site or route; what is left out is as in `outer`.
fn check_gate(check: &mut Check<'_>, table: GateTable, outer: &Gate) -> Gate {
    let GateTable { access, basic_auth, max_body, response_headers } = table;
    let max_body = max_body.and_then(|at| check.body_size(&at));
    Gate {
        access: access::access(check, access, &outer.access),
        basic_auth: access::basic_auth(check, basic_auth, outer.basic_auth.as_ref()),
        max_body: max_body.or(outer.max_body),
        response_headers: access::response_headers(check, response_headers, &outer.response_headers),
    }
}

fn named(word: PresetWord) -> Preset {
    match word {
        PresetWord::Http => Preset::Http,
        PresetWord::Symfony => Preset::Symfony,
        PresetWord::EzPlatform => Preset::EzPlatform,
        PresetWord::EzPlatform2 => Preset::EzPlatform2,
        PresetWord::EzPlatform1 => Preset::EzPlatform1,
    }
}

fn policy(word: CacheWord) -> CachePolicy {
    match word {
        CacheWord::Cache => CachePolicy::Cache,
        CacheWord::Pass => CachePolicy::Pass,
    }
}
