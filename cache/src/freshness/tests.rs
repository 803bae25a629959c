//! The rules as tables: status and header lines in, verdict out.

use http::{HeaderName, HeaderValue};

use super::*;

fn settings() -> FreshnessSettings {
    FreshnessSettings {
        defaults: DefaultTtls::usual(Duration::from_secs(120)),
        grace: Duration::from_secs(10),
        keep: Duration::from_secs(5),
        ..FreshnessSettings::default()
    }
}

/// ttl, initial age, grace, keep in seconds.
fn store(ttl: u64, age: u64, grace: u64, keep: u64) -> Verdict {
    let [ttl, initial_age, grace, keep] = [ttl, age, grace, keep].map(Duration::from_secs);
    // The settings of these tests give grace to whatever may be stale.
    let may_be_stale = !grace.is_zero();
    Verdict::Store(Lifetime {
        ttl,
        initial_age,
        grace,
        keep,
        stale_if_error: Duration::ZERO,
        may_be_stale,
        ask_always: false,
        said_by: SaidBy::Nobody,
    })
}

/// The lifetime of a response with status 200 that is stored.
#[track_caller]
fn lifetime(text: &str, settings: &FreshnessSettings) -> Lifetime {
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    match assess(&GET, StatusCode::OK, &headers(text), settings, received) {
        Verdict::Store(lifetime) => lifetime,
        Verdict::Uncacheable(reason) => panic!("{reason}, headers: {text:?}"),
    }
}

#[test]
fn it_is_known_who_said_the_lifetime_and_whether_that_is_the_operator() {
    let rules = [
        (Statuses::One(StatusCode::NOT_FOUND), Duration::from_secs(7)),
        (Statuses::Usual, Duration::from_secs(120)),
    ];
    let settings = FreshnessSettings {
        defaults: DefaultTtls::new(rules),
        heuristic_percent: 10,
        ..FreshnessSettings::default()
    };
    let overriding =
        FreshnessSettings { overrides: DefaultTtls::usual(Duration::from_secs(9)), ..settings.clone() };
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    for (settings, status, text, expected, is_operator) in [
        (&settings, 200, "cache-control: max-age=5, s-maxage=6", SaidBy::SMaxage, false),
        (&settings, 200, "cache-control: max-age=5\nexpires: 0", SaidBy::MaxAge, false),
        (
            &settings,
            200,
            "cdn-cache-control: max-age=5\ncache-control: max-age=6",
            SaidBy::TargetedMaxAge,
            false,
        ),
        (&settings, 200, "cdn-cache-control: s-maxage=5", SaidBy::TargetedSMaxage, false),
        (
            &settings,
            200,
            "surrogate-control: max-age=5\ncache-control: max-age=6",
            SaidBy::SurrogateControl,
            false,
        ),
        (&settings, 200, "x-reverse-proxy-ttl: 5\ncache-control: max-age=6", SaidBy::ReverseProxyTtl, false),
        (&settings, 200, "expires: Thu, 01 Jan 1970 00:33:20 GMT", SaidBy::Expires, false),
        (&settings, 200, "last-modified: Thu, 01 Jan 1970 00:00:20 GMT", SaidBy::Heuristic, true),
        (&settings, 200, "", SaidBy::DefaultTtl, true),
        (&settings, 200, "cache-control: public", SaidBy::DefaultTtl, true),
        (&settings, 404, "", SaidBy::StatusTtl, true),
        (&overriding, 200, "cache-control: max-age=5", SaidBy::Override, true),
        (&settings, 200, "cache-control: no-cache\netag: \"a\"", SaidBy::Nobody, false),
    ] {
        let settings = FreshnessSettings { keep: Duration::from_secs(5), ..settings.clone() };
        let status = StatusCode::from_u16(status).expect("a status");
        match assess(&GET, status, &headers(text), &settings, received) {
            Verdict::Store(Lifetime { said_by, .. }) => {
                assert_eq!((said_by, said_by.is_operator()), (expected, is_operator), "{status} {text:?}");
            }
            Verdict::Uncacheable(reason) => panic!("{reason}: {status} {text:?}"),
        }
    }
}

fn no(reason: Reason) -> Verdict {
    Verdict::Uncacheable(reason)
}

#[test]
fn the_lifetime_is_taken_in_order() {
    check("200", "cache-control: s-maxage=1, max-age=2\nexpires: 0", store(1, 0, 10, 5));
    check("200", "cache-control: max-age=2\nexpires: 0", store(2, 0, 10, 5));
    check(
        "200",
        "date: Thu, 01 Jan 2026 00:00:00 GMT\nexpires: Thu, 01 Jan 2026 00:01:00 GMT",
        store(60, 0, 10, 5),
    );
    // Without `Date` the time of arrival stands for it.
    check("200", "expires: Thu, 01 Jan 1970 00:33:20 GMT", store(1000, 0, 10, 5));
    check("200", "", store(120, 0, 10, 5));
}

#[test]
fn expires_that_says_nothing_means_stale() {
    for text in [
        "expires: 0",
        "expires: -1",
        "expires: tomorrow",
        "expires: Thu, 01 Jan 1970 00:00:00 GMT",
        "expires: Thu, 01 Jan 2026 00:01:00 GMT\nexpires: 0",
    ] {
        check("200", text, no(Reason::Expired));
    }
}

#[test]
fn the_age_of_the_response_counts() {
    check("200", "cache-control: max-age=60\nage: 59", store(60, 59, 10, 5));
    check("200", "cache-control: max-age=60\nage: 60", no(Reason::Expired));
    check("200", "cache-control: max-age=60\nage: 7, 60", store(60, 7, 10, 5));
    check("200", "cache-control: max-age=60\nage: soon", store(60, 0, 10, 5));
    check("200", "age: 200", no(Reason::Expired));
}

#[test]
fn some_statuses_need_explicit_freshness_and_some_are_never_stored() {
    for status in ["200", "203", "204", "300", "301", "308", "404", "410"] {
        check(status, "", store(120, 0, 10, 5));
    }
    for status in ["302", "303", "307", "400", "405", "413", "414", "299"] {
        check(status, "", no(Reason::NoLifetime));
        check(status, "cache-control: max-age=5", store(5, 0, 10, 5));
    }
    // The operator's grace is not for errors.
    for status in ["500", "501", "503", "599"] {
        check(status, "", no(Reason::NoLifetime));
        check(status, "cache-control: max-age=5", store(5, 0, 0, 5));
    }
    for status in ["100", "102", "103", "199", "206", "304", "428", "429", "431", "511"] {
        check(status, "cache-control: max-age=5", no(Reason::Status));
    }
}

#[test]
fn a_default_of_zero_stores_nothing_by_itself() {
    let settings = FreshnessSettings { defaults: DefaultTtls::default(), ..settings() };
    check_with(&GET, "200", "", &settings, no(Reason::NoLifetime));
    check_with(&GET, "200", "cache-control: max-age=1", &settings, store(1, 0, 10, 5));
}

/// Lifetimes that a response may name, and one that names none.
const NAMED: [&str; 6] = [
    "",
    "cache-control: max-age=5",
    "cache-control: max-age=0",
    "expires: 0",
    "cdn-cache-control: max-age=5",
    "surrogate-control: max-age=5",
];

#[test]
fn what_forbids_storing_does_so_whoever_names_the_lifetime() {
    let overrides = DefaultTtls::usual(Duration::from_secs(60));
    let overriding = FreshnessSettings { overrides, ..settings() };
    for (text, reason) in [
        ("cache-control: no-store", Reason::NoStore),
        ("cache-control: private", Reason::Private),
        ("cache-control: private=\"x-a\"", Reason::Private),
        ("cache-control: no-cache", Reason::NoCache),
        ("cache-control: no-cache=\"set-cookie\"", Reason::NoCache),
        ("set-cookie: a=b", Reason::SetCookie),
        ("vary: *", Reason::Vary),
        ("vary: accept, *", Reason::Vary),
    ] {
        check("200", &format!("cache-control: public, max-age=5\n{text}"), no(reason));
        check("200", &format!("{text}\ncache-control: s-maxage=5"), no(reason));
        check("200", &format!("x-reverse-proxy-ttl: 600\n{text}"), no(reason));
        check_with(&GET, "200", text, &overriding, no(reason));
    }
    check("200", "cache-control: max-age=0", no(Reason::Expired));
    check("200", "cache-control: s-maxage=0, max-age=60", no(Reason::Expired));
}

#[test]
fn no_cache_is_kept_to_be_asked_after() {
    let asked_after = Verdict::Store(Lifetime {
        initial_age: Duration::from_secs(3),
        keep: Duration::from_secs(5),
        ask_always: true,
        ..Lifetime::default()
    });
    let validator = "etag: \"a\"\nage: 3";
    let modified = "last-modified: Thu, 01 Jan 2026 00:00:00 GMT\nage: 3";
    check("200", &format!("cache-control: no-cache\n{validator}"), asked_after);
    check("200", &format!("cache-control: max-age=60, no-cache\n{modified}"), asked_after);
    check("200", &format!("cdn-cache-control: no-cache\ncache-control: max-age=60\n{modified}"), asked_after);
    check("404", &format!("cache-control: no-cache\n{validator}"), no(Reason::NoCache));
    check("200", &format!("cache-control: no-cache, private\n{validator}"), no(Reason::Private));
    check("200", &format!("cache-control: no-cache\nset-cookie: a=b\n{validator}"), no(Reason::SetCookie));
    let forgetful = FreshnessSettings { keep: Duration::ZERO, ..settings() };
    let text = format!("cache-control: no-cache\n{validator}");
    check_with(&GET, "200", &text, &forgetful, no(Reason::NoCache));
}

#[test]
fn the_request_has_a_word() {
    let fresh = "cache-control: max-age=5";
    check_with(&RequestFacts { method: &Method::POST, ..GET }, "200", fresh, &settings(), no(Reason::Method));
    check_with(&RequestFacts { method: &Method::HEAD, ..GET }, "200", fresh, &settings(), no(Reason::Method));
    check_with(
        &RequestFacts { no_store: true, ..GET },
        "200",
        fresh,
        &settings(),
        no(Reason::RequestNoStore),
    );
    let authorized = RequestFacts { authorization: true, ..GET };
    check_with(&authorized, "200", fresh, &settings(), no(Reason::Authorization));
    check_with(&authorized, "200", "", &settings(), no(Reason::Authorization));
    let public = "cache-control: public, max-age=5";
    check_with(&authorized, "200", public, &settings(), store(5, 0, 10, 5));
    check_with(&authorized, "200", "cache-control: s-maxage=5", &settings(), store(5, 0, 10, 5));
    let revalidate = "cache-control: must-revalidate, max-age=5";
    check_with(&authorized, "200", revalidate, &settings(), store(5, 0, 0, 5));
}

#[test]
fn grace_follows_the_response_and_the_operator() {
    check("200", "cache-control: max-age=5, stale-while-revalidate=30", store(5, 0, 30, 5));
    check("200", "cache-control: max-age=5, stale-while-revalidate=3", store(5, 0, 10, 5));
    check("200", "cache-control: s-maxage=5, stale-while-revalidate=30", store(5, 0, 30, 5));
    for directive in ["must-revalidate", "proxy-revalidate"] {
        let text = format!("cache-control: max-age=5, stale-while-revalidate=30, {directive}");
        check("200", &text, store(5, 0, 0, 5));
        let as_varnish = FreshnessSettings { grace_over_revalidate: true, ..settings() };
        check_with(&GET, "200", &text, &as_varnish, store(5, 0, 30, 5));
    }
}

#[test]
fn without_a_node_s_maxage_forbids_what_nobody_allowed() {
    for (text, grace, over, expected) in [
        ("cache-control: max-age=5", 0, false, true),
        ("cache-control: s-maxage=5", 0, false, false),
        ("cache-control: s-maxage=5", 10, false, true),
        ("cache-control: s-maxage=5", 0, true, true),
        ("cache-control: max-age=5, must-revalidate", 10, false, false),
        ("cache-control: max-age=5, must-revalidate", 0, true, true),
    ] {
        let settings = FreshnessSettings {
            grace: Duration::from_secs(grace),
            grace_over_revalidate: over,
            ..settings()
        };
        assert_eq!(lifetime(text, &settings).may_be_stale, expected, "{text:?}, grace {grace} s, {over}");
    }
}

#[test]
fn a_failing_node_has_a_window_of_its_own() {
    // Seconds: the operator's, the expected.
    for (text, configured, expected) in [
        ("cache-control: max-age=5", 0, 0),
        ("cache-control: max-age=5", 7, 7),
        ("cache-control: max-age=5, stale-if-error=30", 7, 30),
        ("cache-control: max-age=5, stale-if-error=3", 7, 7),
        ("cache-control: max-age=5, stale-if-error=x", 0, 0),
        ("cache-control: max-age=5, stale-if-error=30, must-revalidate", 7, 0),
        ("cache-control: max-age=5, stale-if-error=30, proxy-revalidate", 7, 0),
        ("cache-control: s-maxage=5, stale-if-error=30", 7, 30),
        ("cache-control: s-maxage=5", 7, 7),
        ("cdn-cache-control: max-age=5, stale-if-error=30\ncache-control: must-revalidate", 7, 30),
    ] {
        let seconds = Duration::from_secs;
        let strict = FreshnessSettings { stale_if_error: seconds(configured), ..settings() };
        assert_eq!(lifetime(text, &strict).stale_if_error, seconds(expected), "{configured} s, {text:?}");
        let as_varnish = FreshnessSettings { grace_over_revalidate: true, ..strict };
        let most = if text.contains("error=30") { 30 } else { configured };
        assert_eq!(lifetime(text, &as_varnish).stale_if_error, seconds(most), "{configured} s, {text:?}");
    }
}

#[test]
fn a_targeted_field_replaces_what_cache_control_and_expires_say() {
    let cdn = "cdn-cache-control: max-age=60\n";
    check("200", &format!("{cdn}cache-control: no-store, max-age=5\nexpires: 0"), store(60, 0, 10, 5));
    check("200", &format!("{cdn}cache-control: private, must-revalidate"), store(60, 0, 10, 5));
    check("200", &format!("{cdn}age: 60"), no(Reason::Expired));
    check("200", &format!("{cdn}set-cookie: a=b"), no(Reason::SetCookie));
    check("200", "cdn-cache-control: max-age=0\ncache-control: max-age=60", no(Reason::Expired));
    check("200", "cdn-cache-control: s-maxage=5, max-age=60", store(5, 0, 10, 5));
    for (field, reason) in
        [("no-store", Reason::NoStore), ("private", Reason::Private), ("no-cache", Reason::NoCache)]
    {
        check("200", &format!("cdn-cache-control: {field}\ncache-control: max-age=60"), no(reason));
    }
    // Without a lifetime of its own the default applies; neither `max-age` nor `Expires` helps out.
    let future = "expires: Thu, 01 Jan 2026 00:01:00 GMT";
    check(
        "200",
        &format!("cdn-cache-control: foo\ncache-control: max-age=5\n{future}"),
        store(120, 0, 10, 5),
    );
    let wrong_type = "cdn-cache-control: max-age=\"60\"\ncache-control: max-age=5";
    let none = FreshnessSettings { defaults: DefaultTtls::default(), ..settings() };
    check_with(&GET, "200", wrong_type, &none, no(Reason::NoLifetime));
    check("200", "cdn-cache-control: max-age=60,\ncache-control: max-age=5", store(5, 0, 10, 5));
}

#[test]
fn surrogate_control_brings_lifetime_and_grace() {
    let control = "cache-control: private, must-revalidate\nexpires: 0";
    check("200", &format!("surrogate-control: max-age=60\n{control}"), store(60, 0, 10, 5));
    check("200", &format!("surrogate-control: max-age=60+30\n{control}"), store(60, 0, 30, 5));
    check("200", &format!("surrogate-control: max-age=0+30\n{control}"), store(0, 0, 30, 5));
    check("200", "surrogate-control: no-store\ncache-control: max-age=5", no(Reason::NoStore));
    check("200", "surrogate-control: max-age=0\ncache-control: max-age=5", no(Reason::Expired));
    check("200", "surrogate-control: content=\"ESI/1.0\"\ncache-control: max-age=5", store(5, 0, 10, 5));
    check("200", &format!("surrogate-control: content=\"ESI/1.0\"\n{control}"), no(Reason::Private));
}

#[test]
fn the_lifetime_for_this_cache_alone_replaces_every_other() {
    let own = "x-reverse-proxy-ttl: 600\n";
    for text in NAMED {
        check("200", &format!("{own}{text}"), store(600, 0, 10, 5));
    }
    check("200", &format!("{own}cache-control: s-maxage=0"), store(600, 0, 10, 5));
    check("404", own.trim_end(), store(600, 0, 10, 5));
    check("503", own.trim_end(), store(600, 0, 0, 5));
    check("200", &format!("{own}age: 60"), store(600, 60, 10, 5));
    check("200", "x-reverse-proxy-ttl:  7 ", store(7, 0, 10, 5));
    for value in ["0", "-5", "x", "1.5", "5s", ""] {
        let text =
            format!("x-reverse-proxy-ttl: {value}\ncache-control: max-age=60, stale-while-revalidate=60");
        check("200", &text, no(Reason::Expired));
    }
    let deaf = FreshnessSettings { reverse_proxy_ttl: false, ..settings() };
    check_with(&GET, "200", "x-reverse-proxy-ttl: 0\ncache-control: max-age=5", &deaf, store(5, 0, 10, 5));
}

#[test]
fn must_understand_is_about_the_status() {
    let both = "cache-control: must-understand, no-store, max-age=5";
    for status in ["200", "204", "301", "404", "451"] {
        check(status, both, store(5, 0, 10, 5));
    }
    check("503", both, store(5, 0, 0, 5));
    for status in ["299", "306", "499", "599"] {
        check(status, both, no(Reason::Status));
        check(status, "cache-control: must-understand, max-age=5", no(Reason::Status));
    }
    check("200", "cache-control: must-understand, max-age=5", store(5, 0, 10, 5));
    check("200", "cache-control: must-understand, no-store, private, max-age=5", no(Reason::Private));
    check("200", "cache-control: must-understand=\"x\", no-store, max-age=5", store(5, 0, 10, 5));
}

#[test]
fn a_lifetime_is_guessed_where_the_operator_allows_it() {
    let settings = FreshnessSettings { heuristic_percent: 10, ..settings() };
    let date = "date: Fri, 02 Jan 2026 00:00:00 GMT";
    // A hundred seconds, and a year.
    let recent = format!("{date}\nlast-modified: Thu, 01 Jan 2026 23:58:20 GMT");
    let old = format!("{date}\nlast-modified: Thu, 02 Jan 2025 00:00:00 GMT");
    let grace = |status: &str| if status.starts_with('5') { 0 } else { 10 };
    for status in ["200", "203", "204", "300", "301", "308", "404", "405", "410", "414", "501"] {
        check_with(&GET, status, &recent, &settings, store(10, 0, grace(status), 5));
        check_with(&GET, status, &old, &settings, store(86_400, 0, grace(status), 5));
    }
    for status in ["201", "302", "403", "500", "503", "599"] {
        check_with(&GET, status, &recent, &settings, no(Reason::NoLifetime));
        let public = format!("{recent}\ncache-control: public");
        check_with(&GET, status, &public, &settings, store(10, 0, grace(status), 5));
    }
    check_with(&GET, "200", &format!("{recent}\ncache-control: max-age=3"), &settings, store(3, 0, 10, 5));
    check_with(&GET, "200", &format!("{recent}\nexpires: 0"), &settings, no(Reason::Expired));
    check_with(&GET, "200", &format!("{recent}\nage: 10"), &settings, no(Reason::Expired));
    // Without a date the time of arrival counts, a thousand seconds after 1970.
    let at_epoch = "last-modified: Thu, 01 Jan 1970 00:00:00 GMT";
    check_with(&GET, "200", at_epoch, &settings, store(100, 0, 10, 5));
    // Nothing to go by: the default.
    for modified in ["Fri, 02 Jan 2026 00:00:00 GMT", "Sat, 03 Jan 2026 00:00:00 GMT", "lately"] {
        let text = format!("{date}\nlast-modified: {modified}");
        check_with(&GET, "200", &text, &settings, store(120, 0, 10, 5));
    }
    check("200", &recent, store(120, 0, 10, 5));
}

#[test]
fn defaults_go_by_status() {
    let defaults = [(Statuses::Usual, 60), (Statuses::Class(5), 1), (Statuses::Class(2), 2)];
    let defaults = DefaultTtls::new(defaults.map(|(statuses, ttl)| (statuses, Duration::from_secs(ttl))));
    let settings = FreshnessSettings { defaults, ..settings() };
    for (status, expected) in [
        ("200", store(60, 0, 10, 5)),
        ("201", store(2, 0, 10, 5)),
        ("206", no(Reason::Status)),
        ("302", no(Reason::NoLifetime)),
        ("503", store(1, 0, 0, 5)),
        ("511", no(Reason::Status)),
    ] {
        check_with(&GET, status, "", &settings, expected);
    }
}

#[test]
fn what_the_operator_says_of_a_status_goes_before_a_guess() {
    let not_found = Statuses::One(StatusCode::NOT_FOUND);
    let rules = [(not_found, 7), (Statuses::Class(3), 0), (Statuses::Usual, 60)];
    let defaults = DefaultTtls::new(rules.map(|(statuses, ttl)| (statuses, Duration::from_secs(ttl))));
    let settings = FreshnessSettings { defaults, heuristic_percent: 10, ..settings() };
    // A hundred seconds.
    let text = "date: Fri, 02 Jan 2026 00:00:00 GMT\nlast-modified: Thu, 01 Jan 2026 23:58:20 GMT";
    check_with(&GET, "200", text, &settings, store(10, 0, 10, 5));
    check_with(&GET, "404", text, &settings, store(7, 0, 10, 5));
    check_with(&GET, "301", text, &settings, no(Reason::NoLifetime));
    check_with(&GET, "301", &format!("{text}\ncache-control: max-age=3"), &settings, store(3, 0, 10, 5));
}

#[test]
fn the_operators_lifetime_goes_before_the_responses() {
    let rules = [(Statuses::One(StatusCode::NOT_FOUND), 7), (Statuses::Class(5), 0), (Statuses::Usual, 60)];
    let overrides = DefaultTtls::new(rules.map(|(statuses, ttl)| (statuses, Duration::from_secs(ttl))));
    let settings = FreshnessSettings { overrides, heuristic_percent: 10, ..settings() };
    let check = |status, text: &str, expected| check_with(&GET, status, text, &settings, expected);
    let modified = "date: Fri, 02 Jan 2026 00:00:00 GMT\nlast-modified: Thu, 01 Jan 2026 23:58:20 GMT";
    for text in NAMED.into_iter().chain(["x-reverse-proxy-ttl: 5", modified]) {
        check("200", text, store(60, 0, 10, 5));
        check("404", text, store(7, 0, 10, 5));
    }
    // Neither the usual statuses nor named.
    check("302", "", no(Reason::NoLifetime));
    check("302", "cache-control: max-age=5", store(5, 0, 10, 5));
    check("503", "cache-control: max-age=5", store(5, 0, 0, 5));
    check("200", "x-reverse-proxy-ttl: 0", no(Reason::Expired));
    check("200", "age: 60", no(Reason::Expired));
    check("200", "age: 59", store(60, 59, 10, 5));
    // What it says of being stale still counts.
    check("200", "cache-control: s-maxage=5", store(60, 0, 10, 5));
    check("200", "cache-control: max-age=5, stale-while-revalidate=30", store(60, 0, 30, 5));
    let authorized = RequestFacts { authorization: true, ..GET };
    check_with(&authorized, "200", "", &settings, no(Reason::Authorization));
}

#[test]
fn an_error_page_is_not_served_stale_unless_it_says_so_itself() {
    let seconds = Duration::from_secs;
    let settings = FreshnessSettings { stale_if_error: seconds(40), ..settings() };
    for (status, text, grace, on_error, may_be_stale) in [
        ("404", "cache-control: max-age=5", 10, 40, true),
        ("500", "cache-control: max-age=5", 0, 0, false),
        ("500", "cache-control: max-age=5, stale-while-revalidate=3, stale-if-error=4", 3, 4, false),
    ] {
        let status: StatusCode = status.parse().expect("a status");
        let Verdict::Store(lifetime) =
            assess(&GET, status, &headers(text), &settings, SystemTime::UNIX_EPOCH)
        else {
            panic!("{status} is stored")
        };
        let found = (lifetime.grace, lifetime.stale_if_error, lifetime.may_be_stale);
        assert_eq!(found, (seconds(grace), seconds(on_error), may_be_stale), "{status}, headers: {text:?}");
    }
}

#[test]
fn a_response_that_sets_a_cookie_is_stored_where_that_is_stripped() {
    let stripping = FreshnessSettings { strip_set_cookie: true, ..settings() };
    let text = "cache-control: max-age=5\nset-cookie: a=b";
    check("200", text, no(Reason::SetCookie));
    check_with(&GET, "200", text, &stripping, store(5, 0, 10, 5));
    check_with(&GET, "200", "cache-control: private\nset-cookie: a=b", &stripping, no(Reason::Private));
}

#[test]
fn numbers_are_clamped_and_never_negative() {
    for value in ["-1", "x", "1.5", "", "+5", "0x5", "'5'", "5s"] {
        check("200", &format!("cache-control: max-age={value}"), no(Reason::Expired));
        check("200", &format!("cache-control: s-maxage={value}, max-age=60"), no(Reason::Expired));
    }
    for value in ["2147483648", "4294967296", "99999999999999999999"] {
        check("200", &format!("cache-control: max-age={value}"), store(1 << 31, 0, 10, 5));
        check("200", &format!("cache-control: max-age=60\nage: {value}"), no(Reason::Expired));
    }
    check("200", "cache-control: max-age=\"60\"", store(60, 0, 10, 5));
    check("200", "cache-control: max-age=0060", store(60, 0, 10, 5));
    check("200", "cache-control: max-age=60, max-age=5", store(60, 0, 10, 5));
    check("200", "cache-control: max-age=5\ncache-control: max-age=60", store(5, 0, 10, 5));
    for age in ["-60", "60.0", "a60", "60;x=1", "60s"] {
        check("200", &format!("cache-control: max-age=60\nage: {age}"), store(60, 0, 10, 5));
    }
    check("200", "cache-control: max-age=60\nage: 60\nage: 0", no(Reason::Expired));
    check("200", "cache-control: max-age=60\nage: 0\nage: 60", store(60, 0, 10, 5));
}

#[test]
fn expires_is_read_in_every_form() {
    let date = "date: Sun, 06 Nov 1994 08:49:00 GMT";
    for expires in [
        "Sun, 06 Nov 1994 08:50:00 GMT",
        "Sunday, 06-Nov-94 08:50:00 GMT",
        "Sun Nov  6 08:50:00 1994",
        "sun, 06 NOV 1994 08:50:00 gmt",
        "Sun, 06 Nov 1994 08:50:00 GMT\nexpires: Sun, 06 Nov 1994 08:50:00 GMT",
    ] {
        check("200", &format!("{date}\nexpires: {expires}"), store(60, 0, 10, 5));
        // What is wrong with `Date` does not matter to a page that names no date of its own.
        check("200", &format!("date: x\ncache-control: max-age=5\nexpires: {expires}"), store(5, 0, 10, 5));
    }
    check("200", "date: x\nexpires: Thu, 01 Jan 1970 00:33:20 GMT", store(1000, 0, 10, 5));
    check(
        "200",
        &format!("{date}\nexpires: Sun, 06 Nov 1994 08:50:00 GMT\ncache-control: public"),
        store(60, 0, 10, 5),
    );
}

#[test]
fn a_response_born_stale_is_kept_only_if_it_asked_for_it() {
    check("200", "cache-control: max-age=0, stale-while-revalidate=30", store(0, 0, 30, 5));
    check("200", "cache-control: max-age=5, stale-while-revalidate=30\nage: 35", no(Reason::Expired));
    check("200", "cache-control: max-age=5, stale-while-revalidate=30\nage: 34", store(5, 34, 30, 5));
}

#[test]
fn facts_are_read_from_a_request() {
    let request = headers("authorization: Basic x\ncache-control: no-store");
    let facts = RequestFacts::read(&Method::GET, &request);
    assert!(facts.authorization && facts.no_store);
    let plain = headers("accept: */*");
    let facts = RequestFacts::read(&Method::GET, &plain);
    assert!(!facts.authorization && !facts.no_store);
}

const GET: RequestFacts<'static> =
    RequestFacts { method: &Method::GET, authorization: false, no_store: false };

#[track_caller]
fn check(status: &str, text: &str, expected: Verdict) {
    check_with(&GET, status, text, &settings(), expected);
}

#[track_caller]
fn check_with(
    request: &RequestFacts<'_>,
    status: &str,
    text: &str,
    settings: &FreshnessSettings,
    expected: Verdict,
) {
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let status = status.parse().expect("a status");
    let mut found = assess(request, status, &headers(text), settings, received);
    if let Verdict::Store(lifetime) = &mut found {
        // That has a table of its own.
        lifetime.said_by = SaidBy::Nobody;
    }
    assert_eq!(found, expected, "{status}, headers: {text:?}");
}

pub(super) fn headers(text: &str) -> HeaderMap {
    let pairs = text.lines().map(|line| line.split_once(": ").expect("name: value"));
    pairs
        .map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
        })
        .fold(HeaderMap::new(), |mut all, (name, value)| {
            all.append(name, value);
            all
        })
}
