//! Who may come to a site or route: networks, passwords, rates, maintenance.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Check, distinct, nets, optional_count, text_file};
use crate::config::{
    Access, BasicAuth, HeaderName, HeaderText, HeaderValue, Hsts, Maintenance, Method, PasswordHash,
    PathPattern, Peer, Rate, RateKey, RateLimit, default,
};
use crate::error::Invalid;
use crate::file::{
    AccessTable, At, BasicAuthEntry, BasicAuthTable, HstsTable, MaintenanceTable, RateLimitTable,
};

/// The largest file of passwords, in bytes.
const MAX_PASSWORDS: u64 = 4 << 20;

fn peers(check: &mut Check<'_>, list: At<Vec<At<String>>>) -> Vec<Peer> {
    nets::list(check, list, "peer", str::parse)
}

/// Checks which addresses may come; each key that is left out is as in `outer`.
pub(super) fn access(check: &mut Check<'_>, table: Option<At<AccessTable>>, outer: &Access) -> Access {
    let AccessTable { allow, deny } = table.map(|at| at.value).unwrap_or_default();
    Access {
        allow: allow.map(|list| peers(check, list)).or_else(|| outer.allow.clone()),
        deny: deny.map_or_else(|| outer.deny.clone(), |list| peers(check, list)),
    }
}

/// Checks the password in front; a table stands for itself alone, whatever `outer` is.
pub(super) fn basic_auth(
    check: &mut Check<'_>,
    entry: Option<At<BasicAuthEntry>>,
    outer: Option<&BasicAuth>,
) -> Option<BasicAuth> {
    let Some(At { span, value }) = entry else { return outer.cloned() };
    let BasicAuthTable { realm, users, file, except } = match value {
        BasicAuthEntry::Table(table) => table,
        BasicAuthEntry::Switch(false) => return None,
        BasicAuthEntry::Switch(true) => {
            check.report(&span, "true says nothing here", "name users or a file, or write false for none");
            return None;
        }
    };
    let is_given = users.is_some() || file.is_some();
    let realm = realm.and_then(|at| check.read(&at.span, quotable(&at.value)));
    let mut known = BTreeMap::new();
    for at in users.map(|list| list.value).unwrap_or_default() {
        let Some((name, hash)) = check.read(&at.span, user(&at.value)) else { continue };
        if known.insert(name, hash).is_some() {
            check.report(&at.span, "this user stands in the list already", "take one of the two out");
        }
    }
    if let Some(at) = file {
        let read = users_of(check, &at.value);
        known.extend(check.read(&at.span, read).unwrap_or_default());
    }
    if known.is_empty() && !is_given && !check.damaged.contains(&span) {
        check.report(&span, "nobody would be let in", "add file = \"/etc/clearcoat/htpasswd\", or users");
    }
    Some(BasicAuth {
        realm: realm.unwrap_or_else(HeaderText::restricted),
        users: known,
        except: except.map(|list| peers(check, list)).unwrap_or_default(),
    })
}

/// What can stand between quotes as it is.
fn quotable(text: &str) -> Result<HeaderText, Invalid> {
    if text.contains(['"', '\\']) {
        return Err(Invalid::new("a realm has no quotes and backslashes", "write a few words"));
    }
    text.parse()
}

/// A line of htpasswd.
fn user(line: &str) -> Result<(String, PasswordHash), Invalid> {
    // The line is not repeated: messages end up in logs.
    let (name, hash) = line
        .split_once(':')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Invalid::new("this is not NAME:HASH", "write what htpasswd -nB NAME prints"))?;
    Ok((name.to_owned(), hash.parse()?))
}

fn users_of(check: &Check<'_>, path: &str) -> Result<BTreeMap<String, PasswordHash>, Invalid> {
    if path.is_empty() {
        return Err(Invalid::new("the path is empty", "name a file of htpasswd"));
    }
    let text = text_file::read(check, &check.path(path), MAX_PASSWORDS)?;
    let users = text_file::lines(&text).map(|(number, line)| {
        user(line).map_err(|invalid| {
            Invalid::new(
                format!("line {number} of {path:?}: {}", invalid.problem()),
                invalid.hint().to_owned(),
            )
        })
    });
    let users: BTreeMap<_, _> = users.collect::<Result<_, _>>()?;
    if users.is_empty() {
        return Err(Invalid::new(format!("nobody is in {path:?}"), "add a user: htpasswd -B FILE NAME"));
    }
    Ok(users)
}

/// Checks the rate limits of a site.
pub(super) fn rate_limits(
    check: &mut Check<'_>,
    list: Option<At<Vec<At<RateLimitTable>>>>,
) -> Vec<RateLimit> {
    let mut limits: Vec<RateLimit> = Vec::new();
    for (number, At { value: table, .. }) in (1..).zip(list.map(|list| list.value).unwrap_or_default()) {
        let RateLimitTable { name, paths, methods, by, rate, burst, except } = table;
        let span = name.as_ref().map(|at| at.span.clone());
        let name = name.and_then(|at| check.value::<HeaderText>(&at));
        let name = name.unwrap_or_else(|| HeaderText::number(number));
        if let Some(span) = span
            && limits.iter().any(|other| other.name == name)
        {
            check.report(&span, format!("another limit is called {name}"), "give it a name of its own");
        }
        let paths =
            paths.map(|list| distinct(check, list, "path", str::parse::<PathPattern>)).unwrap_or_default();
        let methods =
            methods.map(|list| distinct(check, list, "method", str::parse::<Method>)).unwrap_or_default();
        let by = by.and_then(|at| check.value::<RateKey>(&at)).unwrap_or_default();
        let burst = optional_count(burst);
        let except = except.map(|list| peers(check, list)).unwrap_or_default();
        // A missing rate has been reported by its shape.
        let Some(rate) = rate.and_then(|at| check.value::<Rate>(&at)) else { continue };
        limits.push(RateLimit { name, paths, methods, by, rate, burst: burst.unwrap_or(rate.count), except });
    }
    limits
}

/// Checks the page in place of a site.
pub(super) fn maintenance(check: &mut Check<'_>, table: Option<At<MaintenanceTable>>) -> Option<Maintenance> {
    let MaintenanceTable { flag, page, retry_after, except } = table?.value;
    let mut path = |at: Option<At<String>>, hint: &str| -> Option<PathBuf> {
        let at = at?;
        if at.value.is_empty() {
            check.report(&at.span, "the path is empty", hint);
            return None;
        }
        Some(check.path(&at.value))
    };
    Some(Maintenance {
        flag: path(flag, "name a file, such as /run/clearcoat/maintenance"),
        page: path(page, "name a file, such as /etc/clearcoat/maintenance.html"),
        retry_after: check.positive_duration(
            retry_after,
            default::MAINTENANCE_RETRY_AFTER,
            "write a time, such as 5m",
        ),
        except: except.map(|list| peers(check, list)).unwrap_or_default(),
    })
}

/// Checks what browsers are told of https.
pub(super) fn hsts(check: &mut Check<'_>, table: Option<At<HstsTable>>) -> Option<Hsts> {
    /// What the list of browsers asks for.
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let HstsTable { max_age, subdomains, preload } = table?.value;
    let max_age = check.duration(max_age, default::HSTS_MAX_AGE);
    let subdomains = subdomains.is_some_and(|at| at.value);
    let span = preload.as_ref().map(|at| at.span.clone());
    let preload = preload.is_some_and(|at| at.value);
    if let Some(span) = span
        && preload
        && (!subdomains || max_age < YEAR)
    {
        check.report(
            &span,
            "browsers have only those built in that say a year and all subdomains",
            "add subdomains = true and max_age = \"365d\", or take preload out",
        );
    }
    Some(Hsts { max_age, subdomains, preload })
}

/// Checks response headers that are set; an empty text takes back what `outer` sets.
pub(super) fn response_headers(
    check: &mut Check<'_>,
    table: Option<At<BTreeMap<At<String>, At<String>>>>,
    outer: &BTreeMap<HeaderName, HeaderValue>,
) -> BTreeMap<HeaderName, HeaderValue> {
    let mut headers = outer.clone();
    for (name, value) in table.map(|at| at.value).unwrap_or_default() {
        let Some(known) = check.value::<HeaderName>(&name) else { continue };
        if let Some((message, hint)) = is_taken(&known) {
            check.report(&name.span, message, hint);
        } else if value.value.is_empty() {
            headers.remove(&known);
        } else if let Some(value) = check.value::<HeaderValue>(&value) {
            headers.insert(known, value);
        }
    }
    headers
}

/// Headers that something depends on which a fixed value would break.
fn is_taken(name: &HeaderName) -> Option<(String, &'static str)> {
    let hint = match name.as_str() {
        "connection" | "content-length" | "keep-alive" | "proxy-connection" | "te" | "trailer"
        | "transfer-encoding" | "upgrade" => "it frames the response: leave it out",
        "content-encoding" | "content-range" | "content-type" | "accept-ranges" => {
            "it tells what the body is, which the node knows: leave it out"
        }
        "age" | "cache-control" | "cache-status" | "date" | "etag" | "expires" | "last-modified"
        | "pragma" | "vary" => "caches live by it: let the node say it, or use the keys of the cache",
        "location" | "set-cookie" | "www-authenticate" => "it is about one answer: let the node say it",
        "strict-transport-security" => "write hsts = {}, which knows when to say it",
        _ => return None,
    };
    Some((format!("{name} cannot be set here"), hint))
}
