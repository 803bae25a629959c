//! The rules that a site and its routes may each have: read, and filled in from outside.

use std::ops::Range;

use super::{Check, cache, distinct, user_context};
use crate::config::{
    CookieName, CookiePolicy, HeaderName, KeepCookies, NamePattern, QueryNames, QueryRules, RequestNoCache,
    Rules, SetCookiePolicy,
};
use crate::error::Invalid;
use crate::file::{At, CookiesWord, QueryTable, RequestNoCacheWord, RulesTable, SetCookieWord};
use crate::units;

/// Checks the rules of the site or route at `place`; what it leaves open is as in `outer`.
pub(super) fn check(check: &mut Check<'_>, table: RulesTable, place: &Range<usize>, outer: &Rules) -> Rules {
    let spans = Spans::of(&table);
    let ttl = table.ttl.and_then(|at| {
        let ttl = check.read(&at.span, units::duration(&at.value.0))?;
        if ttl.is_zero() {
            check.report(
                &at.span,
                "zero is not possible here",
                "write cache = \"pass\" to store nothing, or leave the key out",
            );
            return None;
        }
        Some(ttl)
    });
    let rules = Rules {
        ttl: ttl.or(outer.ttl),
        default_ttl: check.duration(table.default_ttl, outer.default_ttl),
        status_ttl: match table.status_ttl {
            Some(at) => cache::status_ttl(check, at),
            None => outer.status_ttl.clone(),
        },
        grace: check.duration(table.grace, outer.grace),
        keep: check.duration(table.keep, outer.keep),
        stale_if_error: check.duration(table.stale_if_error, outer.stale_if_error),
        uncacheable_ttl: check.duration(table.uncacheable_ttl, outer.uncacheable_ttl),
        request_no_cache: table.request_no_cache.map_or(outer.request_no_cache, |at| match at.value {
            RequestNoCacheWord::Ignore => RequestNoCache::Ignore,
            RequestNoCacheWord::Revalidate => RequestNoCache::Revalidate,
            RequestNoCacheWord::Refresh => RequestNoCache::Refresh,
        }),
        cookies: table.cookies.map_or(outer.cookies, |at| match at.value {
            CookiesWord::Share => CookiePolicy::Share,
            CookiesWord::Pass => CookiePolicy::Pass,
        }),
        keep_cookies: match table.keep_cookies {
            Some(list) => keep_cookies(check, list),
            None => outer.keep_cookies.clone(),
        },
        set_cookie: table.set_cookie.map_or(outer.set_cookie, |at| match at.value {
            SetCookieWord::Refuse => SetCookiePolicy::Refuse,
            SetCookieWord::Strip => SetCookiePolicy::Strip,
        }),
        query: match table.query {
            Some(at) => query(check, at.value),
            None => outer.query.clone(),
        },
        key_headers: match table.key_headers {
            Some(list) => distinct(check, list, "header", key_header),
            None => outer.key_headers.clone(),
        },
        key_cookies: match table.key_cookies {
            Some(list) => distinct(check, list, "cookie", |text| text.parse::<CookieName>()),
            None => outer.key_cookies.clone(),
        },
        deception_guard: table.deception_guard.map_or(outer.deception_guard, |at| at.value),
        compress: table.compress.map_or(outer.compress, |at| at.value),
        esi: table.esi.map_or(outer.esi, |at| at.value),
        grace_for_sessions: table.grace_for_sessions.map_or(outer.grace_for_sessions, |at| at.value),
        hide_headers: match table.hide_headers {
            Some(list) => distinct(check, list, "header", hidden_header),
            None => outer.hide_headers.clone(),
        },
        tag_suffix_header: match table.tag_suffix_header {
            Some(at) => check.value::<HeaderName>(&at),
            None => outer.tag_suffix_header.clone(),
        },
        debug_header: match table.debug_header {
            Some(at) => check.value::<HeaderName>(&at),
            None => outer.debug_header.clone(),
        },
        purge_token_path: match table.purge_token_path {
            Some(at) if at.value.is_empty() => None,
            Some(at) => check.read(&at.span, user_context::target(at.value)),
            None => outer.purge_token_path.clone(),
        },
        user_context: match table.user_context {
            Some(at) => user_context::check(check, at, outer.user_context.as_ref()),
            None => outer.user_context.clone(),
        },
    };
    contradictions(check, &rules, &spans, place);
    rules
}

/// Where those keys stand that another key may contradict.
struct Spans {
    default_ttl: Option<Range<usize>>,
    keep_cookies: Option<Range<usize>>,
    key_cookies: Option<Range<usize>>,
}

impl Spans {
    fn of(table: &RulesTable) -> Self {
        fn span<T>(at: Option<&At<T>>) -> Option<Range<usize>> {
            at.map(|at| at.span.clone())
        }
        Self {
            default_ttl: span(table.default_ttl.as_ref()),
            keep_cookies: span(table.keep_cookies.as_ref()),
            key_cookies: span(table.key_cookies.as_ref()),
        }
    }
}

/// Keys that make each other meaningless, also one here and one outside. Each is reported where one of them is written;
/// with both, the one that means nothing.
fn contradictions(check: &mut Check<'_>, rules: &Rules, spans: &Spans, place: &Range<usize>) {
    let good = |check: &Check<'_>, keys: &[&str]| {
        keys.iter().all(|key| !check.is_wrong(&check.key_under(place, key)))
    };
    if let (Some(_), Some(span)) = (rules.ttl, &spans.default_ttl)
        && good(check, &["ttl", "default_ttl"])
    {
        check.report(span, "means nothing beside ttl, which goes before it", "keep one of the two");
    }
    let is_dropped = |name: &CookieName| match &rules.keep_cookies {
        KeepCookies::All => false,
        KeepCookies::Only(kept) => !kept.iter().any(|pattern| pattern.matches(name.as_str().bytes())),
    };
    let dropped = rules.key_cookies.iter().find(|name| is_dropped(name));
    if let (Some(name), Some(span)) = (dropped, spans.key_cookies.as_ref().or(spans.keep_cookies.as_ref()))
        && good(check, &["keep_cookies", "key_cookies"])
    {
        check.report(
            span,
            format!("the cookie {name} is dropped by keep_cookies, so that it cannot be part of a key"),
            format!("add \"{name}\" to keep_cookies"),
        );
    }
}

fn keep_cookies(check: &mut Check<'_>, list: At<Vec<At<String>>>) -> KeepCookies {
    let Some(star) = list.value.iter().find(|at| at.value == "*") else {
        return KeepCookies::Only(distinct(check, list, "cookie", NamePattern::cookie));
    };
    if list.value.len() > 1 {
        let span = star.span.clone();
        check.report(
            &span,
            "* keeps every cookie, whatever else is in the list",
            "take it out, or the others",
        );
    }
    KeepCookies::All
}

fn query(check: &mut Check<'_>, table: QueryTable) -> QueryRules {
    let patterns = |check: &mut Check<'_>, list| distinct(check, list, "parameter", NamePattern::parameter);
    let names = match (table.keep, table.drop) {
        (None, None) => QueryNames::All,
        (Some(keep), None) => QueryNames::Keep(patterns(check, keep)),
        (None, Some(drop)) => match patterns(check, drop) {
            dropped if dropped.is_empty() => QueryNames::All,
            dropped => QueryNames::Drop(dropped),
        },
        (Some(_), Some(drop)) => {
            check.report(&drop.span, "keep says already which parameters stay", "keep one of the two lists");
            QueryNames::All
        }
    };
    QueryRules { sort: table.sort.is_some_and(|word| word.value), names }
}

/// The name of a header that may be part of the key.
fn key_header(text: &str) -> Result<HeaderName, Invalid> {
    let name: HeaderName = text.parse()?;
    match name.as_str() {
        "host" => Err(Invalid::new("the host is part of every key", "take it out")),
        "cookie" => Err(Invalid::new(
            "whole Cookie headers are never alike",
            "name the cookies that count in key_cookies",
        )),
        name if name == "forwarded" || name.starts_with("x-forwarded-") || name.contains('_') => {
            Err(Invalid::new(format!("no node hears {text} from a client"), "take it out"))
        }
        _ if is_about_one_request(&name) => {
            Err(Invalid::new(format!("{text} is about one request or its connection"), "take it out"))
        }
        _ => Ok(name),
    }
}

/// The name of a response header that may be kept from visitors.
fn hidden_header(text: &str) -> Result<HeaderName, Invalid> {
    let name: HeaderName = text.parse()?;
    if is_about_one_request(&name) || matches!(name.as_str(), "content-encoding" | "content-range") {
        return Err(Invalid::new(
            format!("without {text} visitors could not read the response"),
            "take it out",
        ));
    }
    Ok(name)
}

/// Whether a header is about the connection (RFC 9110 §7.6.1), the framing, or what one client holds already, so that it
/// can neither tell URLs apart nor be replaced.
pub(super) fn is_about_one_request(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-range"
            | "if-unmodified-since"
            | "keep-alive"
            | "proxy-connection"
            | "range"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}
