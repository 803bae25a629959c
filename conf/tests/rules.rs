//! The rules of sites and routes: what they come to, and which of them contradict each other.
#![allow(clippy::unwrap_used)]

mod one_site;

use std::time::Duration;

use clearcoat_conf::{
    AccessFormat, AccessTarget, Coding, Config, CookiePolicy, KeepCookies, NamePattern, NormaliseHow,
    QueryNames, RequestNoCache, Rules, SetCookiePolicy, UserContext, parse,
};

use self::one_site::FILE;

fn read(text: &str) -> Config {
    parse(&format!("{FILE}{text}\n"), "edge.toml", &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Checks that exactly these mistakes are found below [`FILE`]; each is a part of `LINE KEY: MESSAGE; HINT`, lines counted
/// from 1.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let Err(mistakes) = parse(&format!("{FILE}{text}\n"), "edge.toml", &|_| None) else {
        assert!(expected.is_empty(), "no mistake was found in\n{text}");
        return;
    };
    assert_eq!(mistakes.len(), expected.len(), "in\n{text}\n{mistakes}");
    for (mistake, part) in mistakes.iter().zip(expected) {
        let line = mistake.place.unwrap().line + 1 - FILE.lines().count();
        let shown = format!("{} {}: {}; {}", line - 1, mistake.key, mistake.message, mistake.hint);
        assert!(shown.contains(part), "{part:?} in {shown:?}");
        assert!(!mistake.hint.is_empty(), "{mistake}");
    }
}

/// The rules of the first site and of its routes.
fn rules(text: &str) -> (Rules, Vec<Rules>) {
    let mut config = read(text);
    let site = config.sites.swap_remove(0);
    (site.rules, site.routes.into_iter().map(|route| route.rules).collect())
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn a_route_goes_before_its_site_and_that_before_the_cache() {
    let (site, routes) = rules(
        r#"
        grace = "20s"
        stale_if_error = "0s"
        status_ttl = { 5xx = "2s" }
        key_headers = ["X-Currency"]
        route = [
            { path = "/a", grace = "30s", status_ttl = {}, key_headers = [], compress = false },
            { path = "/b", default_ttl = "5s", query = { sort = true } },
        ]
        [cache]
        default_ttl = "1s"
        grace = "10s"
        keep = "11s"
        stale_if_error = "12s"
        uncacheable_ttl = "13s"
        status_ttl = { 404 = "14s" }
        compress.enabled = true
        "#,
    );
    let times = |rules: &Rules| {
        [rules.default_ttl, rules.grace, rules.keep, rules.stale_if_error, rules.uncacheable_ttl]
            .map(|time| time.as_secs())
    };
    assert_eq!(times(&site), [1, 20, 11, 0, 13]);
    assert_eq!(times(&routes[0]), [1, 30, 11, 0, 13]);
    assert_eq!(times(&routes[1]), [5, 20, 11, 0, 13]);
    let of = |rules: &Rules| [rules.status_ttl.of(404), rules.status_ttl.of(500)];
    assert_eq!(of(&site), [None, Some(seconds(2))]);
    assert_eq!(of(&routes[0]), [None, None]);
    assert_eq!(of(&routes[1]), of(&site));
    assert_eq!([&site, &routes[0], &routes[1]].map(|rules| rules.compress), [true, false, true]);
    assert_eq!([&site, &routes[0], &routes[1]].map(|rules| rules.key_headers.len()), [1, 0, 1]);
    assert_eq!([&site, &routes[0], &routes[1]].map(|rules| rules.query.sort), [false, false, true]);
}

#[test]
fn every_rule_is_read() {
    let (site, _) = rules(
        r#"
        ttl = "1h"
        request_no_cache = "revalidate"
        cookies = "pass"
        keep_cookies = ["eZSESSID*", "a"]
        set_cookie = "strip"
        query = { sort = true, drop = ["utm_*"] }
        key_headers = ["X-Currency", "accept"]
        deception_guard = false
        "#,
    );
    assert_eq!(site.ttl, Some(seconds(3600)));
    assert_eq!(site.request_no_cache, RequestNoCache::Revalidate);
    assert_eq!((site.cookies, site.set_cookie), (CookiePolicy::Pass, SetCookiePolicy::Strip));
    let cookies = ["eZSESSID*", "a"].map(|text| NamePattern::cookie(text).unwrap());
    assert_eq!(site.keep_cookies, KeepCookies::Only(cookies.into()));
    let parameters = vec![NamePattern::parameter("utm_*").unwrap()];
    assert_eq!(site.query.names, QueryNames::Drop(parameters));
    assert!(site.query.sort && !site.query.is_identity());
    assert_eq!(
        site.key_headers.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["x-currency", "accept"]
    );
    assert!(!site.deception_guard);

    let (site, _) = rules("keep_cookies = [\"*\"]\nquery = { drop = [] }");
    assert_eq!((site.keep_cookies, site.query.names.clone()), (KeepCookies::All, QueryNames::All));
    assert!(site.query.is_identity());
    let (site, _) = rules("keep_cookies = []\nquery = { keep = [] }\nkey_headers = []");
    assert_eq!(site.keep_cookies, KeepCookies::Only(Vec::new()));
    assert_eq!(site.query.names, QueryNames::Keep(Vec::new()));
    let (site, _) = rules("keep_cookies = [\"cur*\"]\nkey_cookies = [\"currency\"]");
    assert_eq!(site.key_cookies[0].as_str(), "currency");
}

#[test]
fn groups_of_visitors_are_read_key_by_key() {
    let (site, routes) = rules(
        r#"
        route = [
            { path = "/a", user_context = { path = "/who?am=i" } },
            { path = "/b", user_context = false },
            { path = "/c" },
        ]
        [site.user_context]
        header = "X-User-Hash"
        except = ["*.css", "*.js"]
        anonymous = "38015b703d82206ebc01d17a39c727e5"
        "#,
    );
    let context = site.user_context.clone().unwrap();
    assert_eq!((context.header.as_str(), context.path.as_str()), ("x-user-hash", "/_fos_user_context_hash"));
    assert_eq!(context.accept.as_str(), "application/vnd.fos.user-context-hash");
    assert_eq!(context.anonymous.as_ref().unwrap().as_str(), "38015b703d82206ebc01d17a39c727e5");
    assert!(context.except[1].matches("/a.js") && !context.rewrite_cache_control);
    assert_eq!(routes[0].user_context, Some(UserContext { path: "/who?am=i".to_owned(), ..context }));
    assert_eq!((&routes[1].user_context, &routes[2].user_context), (&None, &site.user_context));
    assert_eq!(rules("user_context = {}").0.user_context, Some(UserContext::default()));
    // What was turned off begins anew.
    let (_, routes) =
        rules("user_context = false\nroute = [{ path = \"/a\", user_context = { path = \"/x\" } }]");
    assert_eq!(routes[0].user_context.as_ref().unwrap().header.as_str(), "x-user-context-hash");
}

#[test]
fn listeners_logs_and_bounds_are_read() {
    let text = r#"
        pools.web.nodes = ["10.0.0.11:80"]
        site = [{ hosts = ["*"], pool = "web" }]
        [[listen]]
        address = "unix:/run/edge.sock"
        http2 = true
        [[listen]]
        address = "0.0.0.0:443"
        tls = { certificates = [{ cert = "a.pem", key = "/etc/a.key" }] }
        [log.access]
        file = "logs/access.log"
        format = "json"
        [limits]
        esi_depth = 32
        esi_bytes = "1MiB"
        http2_streams = 65536
    "#;
    let config = parse(text, "conf/edge.toml", &|_| None).unwrap();
    let [socket, tls] = config.listen.as_slice() else { panic!("two") };
    assert!(socket.http2 && socket.tls.is_none() && !tls.http2);
    let tls = tls.tls.as_ref().unwrap();
    assert!(tls.http2);
    let pair = &tls.certificates[0];
    assert_eq!((pair.cert.to_str(), pair.key.to_str()), (Some("conf/a.pem"), Some("/etc/a.key")));
    let access = config.log.access.unwrap();
    assert_eq!(access.target, AccessTarget::File("conf/logs/access.log".into()));
    assert_eq!((access.format, access.buffer_bytes), (AccessFormat::Json, 4 << 20));
    assert_eq!((config.limits.esi.depth.get(), config.limits.esi.fragments.get()), (32, 256));
    assert_eq!((config.limits.esi.bytes, config.limits.http2_streams.get()), (1 << 20, 65536));
}

#[test]
fn normalisers_are_read() {
    let config = read(
        r#"
        [[site.normalise]]
        header = "Accept-Language"
        languages = ["en", "pt-BR"]
        [[site.normalise]]
        header = "User-Agent"
        classes = [{ value = "mobile", pattern = "(?i)mobi" }, { value = "bot", pattern = "bot" }]
        as = "X-Device"
        "#,
    );
    let [languages, device] = config.sites[0].normalise.as_slice() else { panic!("two") };
    assert_eq!((languages.header.as_str(), &languages.into), ("accept-language", &None));
    let NormaliseHow::Languages(tags) = &languages.how else { panic!("languages") };
    assert_eq!(tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["en", "pt-BR"]);
    assert_eq!(device.into.as_ref().unwrap().as_str(), "x-device");
    let NormaliseHow::Classes { classes, otherwise } = &device.how else { panic!("classes") };
    assert_eq!((classes.len(), classes[0].value.as_str(), otherwise), (2, "mobile", &None));
    assert!(classes[1].pattern.matches(b"robot"));
}

#[test]
fn the_new_keys_of_the_cache_are_read() {
    let config = read(
        r#"
        [cache]
        heuristic_percent = 10
        grace_over_revalidate = true
        targeted_fields = ["Clearcoat-Cache-Control", "CDN-Cache-Control"]
        keep_targeted_fields = false
        surrogate_control = false
        reverse_proxy_ttl = false
        finish_abandoned = 0
        compress = { codings = ["gzip"], types = ["*/*+json"], min_size = 0, max_size = "1MiB" }
        [limits]
        collapse_waiters = 7
        "#,
    );
    let cache = &config.cache;
    assert_eq!(cache.heuristic_percent, 10);
    assert!(cache.grace_over_revalidate && !cache.keep_targeted_fields);
    assert!(!cache.surrogate_control && !cache.reverse_proxy_ttl);
    assert_eq!(cache.targeted_fields[0].as_str(), "clearcoat-cache-control");
    assert_eq!((cache.finish_abandoned, cache.compress.min_size, cache.compress.max_size), (0, 0, 1 << 20));
    assert_eq!(cache.compress.codings, [Coding::Gzip]);
    assert!(cache.compress.types[0].matches("application/ld+json") && !cache.compress.enabled);
    assert_eq!(config.limits.collapse_waiters.get(), 7);
}

#[test]
fn mistakes_of_the_cache() {
    for (line, expected) in [
        ("status_ttl = { 40x = \"1s\" }", "cache.status_ttl.40x: \"40x\" is not a status code or a class"),
        ("status_ttl = { 304 = \"1s\" }", "cache.status_ttl.304: responses with 304 are never stored"),
        ("status_ttl = { 404 = \"1\" }", "cache.status_ttl.404: \"1\" has no unit"),
        ("status_ttl = { 404 = 10 }", "cache.status_ttl.404: a duration is expected, not the number 10"),
        ("status_ttl = \"10s\"", "cache.status_ttl: a table is expected, not text; write for instance"),
        (
            "heuristic_percent = 101",
            "cache.heuristic_percent: 101 is out of range; write a number from 0 to 100",
        ),
        ("targeted_fields = [\"Cache-Control\"]", "cache.targeted_fields[0]: Cache-Control is read where"),
        ("targeted_fields = [\"Surrogate-Control\"]", "no targeted field; write surrogate_control = true"),
        ("targeted_fields = [\"X-Reverse-Proxy-TTL\"]", "no targeted field; write reverse_proxy_ttl = true"),
        (
            "targeted_fields = [\"A-B\", \"a-b\"]",
            "cache.targeted_fields[1]: the field a-b stands in this list already",
        ),
        ("finish_abandoned = \"1M\"", "cache.finish_abandoned: \"1M\" has an unknown unit"),
        ("compress = true", "cache.compress: a table is expected, not true"),
        (
            "compress.codings = [\"gzp\"]",
            "cache.compress.codings[0]: \"gzp\" is not known here; did you mean \"gzip\"?",
        ),
        ("compress.codings = [\"deflate\"]", "\"deflate\" is not known here; write one of br, zstd, gzip"),
        (
            "compress.codings = []",
            "cache.compress.codings: there is no coding to offer; write enabled = false",
        ),
        (
            "compress.codings = [\"br\", \"br\"]",
            "cache.compress.codings[1]: the coding br stands in this list already",
        ),
        ("compress.types = []", "cache.compress.types: there is no type to compress"),
        ("compress.types = [\"text\"]", "cache.compress.types[0]: \"text\" is not a media type"),
        (
            "compress.min_size = \"5MiB\"",
            "cache.compress.min_size: no body is 5MiB or larger and 4MiB or smaller",
        ),
        ("compress.max_size = 0", "cache.compress.max_size: 0B is not possible here"),
    ] {
        check(&format!("[cache]\n{line}"), &[expected]);
    }
    check("[limits]\ncollapse_waiters = 0", &["2 limits.collapse_waiters: 0 is out of range"]);
}

#[test]
fn mistakes_of_rules() {
    for (line, expected) in [
        ("ttl = \"0s\"", "site[0].ttl: zero is not possible here; write cache = \"pass\""),
        ("ttl = \"soon\"", "site[0].ttl: \"soon\" is not a duration"),
        (
            "request_no_cache = \"revalidat\"",
            "site[0].request_no_cache: \"revalidat\" is not known here; did you mean",
        ),
        ("cookies = \"drop\"", "site[0].cookies: \"drop\" is not known here; write one of share, pass"),
        (
            "set_cookie = \"keep\"",
            "site[0].set_cookie: \"keep\" is not known here; write one of refuse, strip",
        ),
        ("keep_cookies = [\"*\", \"a\"]", "site[0].keep_cookies[0]: * keeps every cookie"),
        ("keep_cookies = [\"a*b\"]", "site[0].keep_cookies[0]: \"a*b\" is not a cookie name"),
        (
            "query = { keep = [\"a\"], drop = [\"b\"] }",
            "site[0].query.drop: keep says already which parameters stay",
        ),
        ("query = { keep = [\"a&b\"] }", "site[0].query.keep[0]: \"a&b\" is not the name of a parameter"),
        (
            "query = { sorted = true }",
            "site[0].query.sorted: there is no key \"sorted\" here; did you mean sort?",
        ),
        ("query = \"sort\"", "site[0].query: a table is expected, not text"),
        (
            "key_headers = [\"Cookie\"]",
            "site[0].key_headers[0]: whole Cookie headers are never alike; name the cookies",
        ),
        ("key_headers = [\"host\"]", "site[0].key_headers[0]: the host is part of every key"),
        ("key_headers = [\"X-Forwarded-Host\"]", "no node hears X-Forwarded-Host from a client"),
        ("key_headers = [\"X_Device\"]", "no node hears X_Device from a client"),
        ("key_headers = [\"If-None-Match\"]", "If-None-Match is about one request or its connection"),
        (
            "key_cookies = [\"a*\"]",
            "site[0].key_cookies[0]: \"a*\" is not the name of a cookie; write an exact name",
        ),
        ("key_cookies = [\"a\", \"a\"]", "site[0].key_cookies[1]: the cookie a stands in this list already"),
        ("compress = { enabled = true }", "site[0].compress: true or false is expected, not a table"),
        (
            "preset = \"ez\"",
            "site[0].preset: \"ez\" is not known here; write one of http, symfony, ez-platform,",
        ),
        ("preset = \"ez-platform-3\"", "did you mean \"ez-platform-"),
        ("esi = 1", "site[0].esi: true or false is expected"),
        (
            "hide_headers = [\"Content-Encoding\"]",
            "without Content-Encoding visitors could not read the response",
        ),
        (
            "hide_headers = [\"a\", \"A\"]",
            "site[0].hide_headers[1]: the header a stands in this list already",
        ),
        ("user_context = true", "site[0].user_context: true says nothing here; write {} for the defaults"),
        ("user_context = \"x\"", "site[0].user_context: a table or false is expected, not text"),
        ("user_context.header = \"Cookie\"", "site[0].user_context.header: Cookie has another meaning"),
        ("user_context.header = \"If-Match\"", "If-Match has another meaning; name a header of its own"),
        ("user_context.accept = \"text/*\"", "site[0].user_context.accept: \"text/*\" is not a media type"),
        ("user_context.path = \"hash\"", "site[0].user_context.path: \"hash\" is not a path; begin with /"),
        ("user_context.except = [\"/a.css\"]", "user_context.except[0]: \"/a.css\" is not the end of a URL"),
        (
            "user_context.except = [\"*.a\", \"*.a\"]",
            "user_context.except[1]: the ending *.a stands in this list",
        ),
        ("user_context.anonymous = \"\"", "site[0].user_context.anonymous: "),
        ("user_context.hash = \"a\"", "site[0].user_context.hash: there is no key \"hash\" here"),
        ("deception_guard = 1", "site[0].deception_guard: true or false is expected"),
    ] {
        check(line, &[expected]);
    }
}

#[test]
fn rules_that_contradict_each_other() {
    check("ttl = \"1h\"\ndefault_ttl = \"5s\"", &["2 site[0].default_ttl: means nothing beside ttl"]);
    check(
        "ttl = \"1h\"\nroute = [{ path = \"/a\", default_ttl = \"5s\" }]",
        &["2 site[0].route[0].default_ttl: means nothing beside ttl"],
    );
    check("default_ttl = \"5s\"\nroute = [{ path = \"/a\", ttl = \"1h\" }]", &[]);
    // What is wrong itself contradicts nothing.
    check("ttl = \"1\"\ndefault_ttl = \"5s\"", &["1 site[0].ttl: \"1\" has no unit"]);

    // Who has no other cookie than those in the key is not passed.
    check("cookies = \"pass\"\nkey_cookies = [\"a\"]", &[]);
    check(
        "keep_cookies = [\"b*\"]\nkey_cookies = [\"bc\", \"a\"]",
        &[
            "2 site[0].key_cookies: the cookie a is dropped by keep_cookies, so that it cannot be part of a key; add \"a\"",
        ],
    );
    check(
        "key_cookies = [\"a\"]\nroute = [{ path = \"/a\", keep_cookies = [] }, { path = \"/b\" }]",
        &["2 site[0].route[0].keep_cookies: the cookie a is dropped"],
    );
}

#[test]
fn rules_where_nothing_is_stored() {
    check(
        "route = [{ path = \"/a\", cache = \"pass\", compress = true, query = {}, ttl = \"1s\" }]",
        &[
            "site[0].route[0].compress: nothing is stored on this route, so this means nothing; write cache = \"cache\"",
            "site[0].route[0].query: nothing is stored",
            "site[0].route[0].ttl: nothing is stored",
        ],
    );
    check("cache = \"pass\"\nkeep_cookies = []", &["2 site[0].keep_cookies: nothing is stored on this site"]);
    check(
        "cache = \"pass\"\nnormalise = [{ header = \"Accept-Language\", languages = [\"en\"] }]",
        &["2 site[0].normalise: nothing is stored on this site"],
    );
    check("cache = \"pass\"\nkeep = \"1s\"\nroute = [{ path = \"/a\", cache = \"cache\" }]", &[]);
    check("cache = \"pass\"\nhide_headers = [\"X-Lang\"]\npreset = \"symfony\"", &[]);
    check("cache = \"pass\"\nesi = true", &["2 site[0].esi: nothing is stored on this site"]);
    check("cache = \"pas\"\nkeep = \"1s\"", &["1 site[0].cache"]);
    check("keep = \"1s\"\nroute = [{ path = \"/a\", cache = \"pass\" }]", &[]);
}

#[test]
fn mistakes_of_normalisers() {
    for (table, expected) in [
        ("header = \"A\"", "site[0].normalise[0]: nothing says which values are told apart; add languages"),
        ("languages = [\"en\"]", "site[0].normalise[0].header: is missing"),
        ("header = \"Host\", languages = [\"en\"]", "normalise[0].header: Host is about one request"),
        ("header = \"Cookie\", languages = [\"en\"]", "normalise[0].header: cookies are no single value"),
        ("header = \"A\", languages = []", "normalise[0].languages: there is no language"),
        (
            "header = \"A\", languages = [\"en\", \"EN\"]",
            "normalise[0].languages[1]: the language EN stands in this list",
        ),
        ("header = \"A\", languages = [\"*\"]", "normalise[0].languages[0]: \"*\" is not a language"),
        (
            "header = \"A\", languages = [\"en\"], otherwise = \"x\"",
            "normalise[0].otherwise: means nothing beside languages",
        ),
        (
            "header = \"A\", languages = [\"en\"], classes = [{ value = \"x\", pattern = \"y\" }]",
            "normalise[0].classes: a header is told apart by languages or by classes, not by both",
        ),
        (
            "header = \"A\", languages = [\"en\"], as = \"a\"",
            "normalise[0].as: this is the header that is read",
        ),
        ("header = \"A\", languages = [\"en\"], as = \"Host\"", "normalise[0].as: Host is about one request"),
        ("header = \"A\", classes = []", "normalise[0].classes: there is no class"),
        ("header = \"A\", classes = [{ value = \"x\" }]", "normalise[0].classes[0].pattern: is missing"),
        (
            "header = \"A\", classes = [{ value = \"\", pattern = \"y\" }]",
            "classes[0].value: \"\" is not the value",
        ),
        (
            "header = \"A\", classes = [{ value = \"x\", pattern = \"(\" }]",
            "classes[0].pattern: \"(\" is not a regex",
        ),
        (
            "header = \"A\", language = [\"en\"]",
            "normalise[0].language: there is no key \"language\" here; did you mean",
        ),
    ] {
        check(&format!("normalise = [{{ {table} }}]"), &[expected]);
    }
    let two = |one: &str, two: &str| {
        format!("normalise = [{{ languages = [\"en\"], {one} }}, {{ languages = [\"de\"], {two} }}]")
    };
    check(&two("header = \"A\"", "header = \"a\""), &["normalise[1].header: a is written in line 7 already"]);
    check(
        &two("header = \"A\", as = \"X\"", "header = \"B\", as = \"X\""),
        &["normalise[1].as: x is written in line 7 already"],
    );
    check(
        &two("header = \"A\", as = \"B\"", "header = \"B\", as = \"C\""),
        &["normalise[1].as: this and the one in line 7 read and write the same header"],
    );
    check(&two("header = \"A\", as = \"X\"", "header = \"A\", as = \"Y\""), &[]);
    check(
        "normalise = { header = \"A\" }",
        &["normalise: a list is expected, not a table; begin each one with [[site.normalise]]"],
    );
}
