//! `[sessions]`: cookies, servers, and which of them are needed for what.

use std::num::NonZeroU32;

use super::misc::secret;
use super::process::SocketKeys;
use super::{Check, count, distinct, number};
use crate::config::{
    CookieName, ListenAddress, MemcachedAddress, NamePattern, Pin, SessionMode, Sessions, SocketFile,
    default, parse_net,
};
use crate::error::Invalid;
use crate::file::{At, PinWord, SessionModeWord, SessionPrefixTable, SessionsTable};

/// Checks `[sessions]`; `taken` are the addresses that are listened on already.
pub(super) fn check(
    check: &mut Check<'_>,
    table: Option<At<SessionsTable>>,
    taken: &[ListenAddress],
) -> Sessions {
    const LONG: &str = "write a long time, such as 1h";
    const SHORT: &str = "write a short time, such as 20ms";
    let Some(At { span, value: mut table }) = table else { return Sessions::default() };
    let mut sessions = Sessions::default();
    let mode_span = table.mode.as_ref().map_or_else(|| span.clone(), |mode| mode.span.clone());
    sessions.mode = table.mode.map_or(SessionMode::Off, |mode| match mode.value {
        SessionModeWord::Off => SessionMode::Off,
        SessionModeWord::Pin => SessionMode::Pin,
        SessionModeWord::Replicate => SessionMode::Replicate,
        SessionModeWord::Both => SessionMode::Both,
    });
    let has_list = table.memcached.is_some();
    if let Some(list) = table.cookies {
        let at = list.span.clone();
        sessions.cookies = distinct(check, list, "cookie", NamePattern::cookie);
        if sessions.cookies.is_empty() && sessions.mode.pins() && !check.is_wrong("sessions.cookies") {
            check.report(&at, "no cookie names a session", "name one, such as \"PHPSESSID\"");
        }
    }
    if let Some(list) = table.memcached {
        sessions.memcached = distinct(check, list, "server", |text| text.parse::<MemcachedAddress>());
    }
    if let Some(list) = table.allow {
        sessions.allow = distinct(check, list, "network", parse_net);
    }
    let pin_span = table.pin.as_ref().map(|pin| pin.span.clone());
    let word = table.pin.map(|pin| pin.value);
    let cookie = pin_cookie(check, table.pin_cookie.take());
    let signed_with = table.pin_secret.take().and_then(|entry| secret(check, entry));
    sessions.pin = match word {
        None if sessions.memcached.is_empty() => Pin::Hash,
        None | Some(PinWord::Memcached) => Pin::Memcached,
        Some(PinWord::Hash) => Pin::Hash,
        Some(PinWord::Cookie) => match (cookie, signed_with) {
            (Some(name), Some(secret)) => Pin::Cookie { name, secret },
            (_, signed_with) => {
                if signed_with.is_none() && !check.is_wrong("sessions.pin_secret") {
                    let span = pin_span.clone().unwrap_or_else(|| span.clone());
                    check.report(
                        &span,
                        "the cookie has to be signed",
                        "add pin_secret, the same on every edge",
                    );
                }
                Pin::Hash
            }
        },
    };
    let servers_are_good = !check.is_wrong("sessions.memcached");
    if sessions.memcached.is_empty() && servers_are_good {
        if sessions.mode.replicates() {
            check.report(
                &mode_span,
                "there are no servers to keep sessions on",
                "add memcached = [\"HOST:11211\", …]",
            );
        } else if sessions.mode.pins() && sessions.pin == Pin::Memcached {
            let span = pin_span.unwrap_or(mode_span.clone());
            check.report(
                &span,
                "there are no servers to keep pins on",
                "add memcached = [\"HOST:11211\", …], or write pin = \"hash\"",
            );
        }
    }
    if sessions.memcached.len() > default::MOST_MEMCACHED && servers_are_good && has_list {
        let message = format!("{} servers are more than there can be", sessions.memcached.len());
        check.report(&span, message, format!("name {} at most", default::MOST_MEMCACHED));
    }
    let keys = SocketKeys { mode: table.socket_mode, user: table.socket_user, group: table.socket_group };
    if let Some(listen) = table.listen {
        let address = check.read(&listen.span, listen.value.parse::<ListenAddress>());
        if let Some(address) = &address
            && let Some(other) = taken.iter().find(|other| address.clashes_with(other))
        {
            check.report(&listen.span, format!("{other} is listened on already"), "choose another port");
        }
        sessions.socket = keys.check(check, address.as_ref(), SocketFile::FOR_GROUP);
        sessions.listen = address;
    } else if sessions.mode.replicates() {
        check.report(
            &mode_span,
            "web nodes have nowhere to keep their sessions",
            "add listen = \"ADDRESS:11311\"",
        );
    }
    sessions.pin_ttl = check.positive_duration(table.pin_ttl, sessions.pin_ttl, LONG);
    sessions.pin_timeout = check.positive_duration(table.pin_timeout, sessions.pin_timeout, SHORT);
    sessions.recovery = check.duration(table.recovery, sessions.recovery);
    sessions.timeout = check.positive_duration(table.timeout, sessions.timeout, SHORT);
    sessions.lock_wait = check.duration(table.lock_wait, sessions.lock_wait);
    sessions.replicas = count(table.replicas, sessions.replicas);
    sessions.acknowledge = NonZeroU32::new(number(table.acknowledge, 0));
    sessions.item_size =
        check.size(table.item_size.as_ref(), default::SESSION_ITEM_BOUNDS, sessions.item_size);
    sessions.server_connections = count(table.server_connections, sessions.server_connections);
    sessions.max_connections = count(table.max_connections, sessions.max_connections);
    if let Some(list) = table.prefix {
        sessions.prefixes = list.value.into_iter().filter_map(|entry| prefix(check, entry)).collect();
    }
    sessions
}

fn pin_cookie(check: &mut Check<'_>, name: Option<At<String>>) -> Option<CookieName> {
    match name {
        Some(name) => check.read(&name.span, name.value.parse()),
        None => default::PIN_COOKIE.parse().ok(),
    }
}

/// `None` only together with a mistake.
fn prefix(check: &mut Check<'_>, entry: At<SessionPrefixTable>) -> Option<(String, NonZeroU32)> {
    // Missing keys have been reported by their shape.
    let (prefix, replicas) = (entry.value.prefix?, entry.value.replicas?);
    let usable = !prefix.value.is_empty() && prefix.value.bytes().all(|byte| byte.is_ascii_graphic());
    if !usable {
        let invalid = Invalid::new(
            format!("{:?} is not the beginning of keys", prefix.value),
            "write visible characters without spaces, such as :ezp:",
        );
        check.report_invalid(&prefix.span, &invalid);
        return None;
    }
    Some((prefix.value, count(Some(replicas), NonZeroU32::MIN)))
}
