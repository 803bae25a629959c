//! `user_context` of a site or route: how the group of a visitor is asked for.

use super::rules::is_about_one_request;
use super::{Check, distinct};
use crate::config::{HeaderName, HeaderText, MediaType, UrlSuffix, UserContext};
use crate::error::Invalid;
use crate::file::{At, UserContextEntry, UserContextTable};

/// Checks what a site or route says; each key that it leaves out is as in `outer`, and as its default where there is none.
pub(super) fn check(
    check: &mut Check<'_>,
    At { value, span }: At<UserContextEntry>,
    outer: Option<&UserContext>,
) -> Option<UserContext> {
    let table = match value {
        UserContextEntry::Table(table) => *table,
        UserContextEntry::Switch(false) => return None,
        UserContextEntry::Switch(true) => {
            check.report(&span, "true says nothing here", "write {} for the defaults, or false for none");
            return None;
        }
    };
    let UserContextTable { header: name, accept, path, except, anonymous, authorized, rewrite_cache_control } =
        table;
    let outer = outer.cloned().unwrap_or_default();
    Some(UserContext {
        header: name.and_then(|at| check.read(&at.span, header(&at.value))).unwrap_or(outer.header),
        accept: accept.and_then(|at| check.value::<MediaType>(&at)).unwrap_or(outer.accept),
        path: path.and_then(|at| check.read(&at.span, target(at.value))).unwrap_or(outer.path),
        except: match except {
            Some(list) => distinct(check, list, "ending", |text| text.parse::<UrlSuffix>()),
            None => outer.except,
        },
        anonymous: anonymous.and_then(|at| check.value::<HeaderText>(&at)).or(outer.anonymous),
        authorized: authorized.map_or(outer.authorized, |at| at.value),
        rewrite_cache_control: rewrite_cache_control.map_or(outer.rewrite_cache_control, |at| at.value),
    })
}

/// The name of the header that carries the hash.
fn header(text: &str) -> Result<HeaderName, Invalid> {
    let name: HeaderName = text.parse()?;
    let is_taken = is_about_one_request(&name)
        || matches!(name.as_str(), "accept" | "accept-encoding" | "authorization" | "cookie" | "forwarded")
        || name.as_str().starts_with("x-forwarded-");
    if is_taken {
        return Err(Invalid::new(
            format!("{text} has another meaning"),
            "name a header of its own, such as X-User-Context-Hash",
        ));
    }
    Ok(name)
}

/// A path, perhaps with a query.
pub(super) fn target(text: String) -> Result<String, Invalid> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Ok(text);
    }
    Err(Invalid::new(
        format!("{text:?} is not a path"),
        "begin with / and write spaces and letters beyond ASCII in their %XX form",
    ))
}
