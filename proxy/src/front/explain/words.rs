//! The answer in a sentence or two.

use std::fmt::Write as _;

use clearcoat_cache::{Entry, Known, Moment};

use super::super::look::{Passed, Way};
use super::Reason;
use crate::admin::why::{Explanation, Next, Outcome};
use crate::front::gate::Shut;

/// The stored entry that the request selects, and what is known around it.
pub(super) struct Stored<'a> {
    pub(super) entry: &'a Entry,
    pub(super) now: Moment,
    pub(super) explained: &'a Explanation,
}

/// The answer for a request of this method and URL.
pub(super) fn answer(
    method: &str,
    url: &str,
    reason: &Reason,
    next: &Next,
    pool: Option<&str>,
    stored: Option<Stored<'_>>,
) -> String {
    let subject = format!("The next {method} of {url}");
    let pool = pool.unwrap_or_default();
    let mut text = match reason {
        Reason::Malformed(why) => return format!("A request for {url} is refused: {why}."),
        Reason::NoSite => return format!("{subject} is refused: no site here is for this host."),
        Reason::Forged => {
            return format!(
                "{subject} is refused: it says what only the application may say of its visitor."
            );
        }
        Reason::Identify(_) => format!(
            "{subject} first asks pool {pool} for the hash of the visitor's context, which is not in memory; the page is looked up with it."
        ),
        Reason::Purge => {
            return format!(
                "{method} is a purge: what it names goes, if its sender may purge, and nothing is served."
            );
        }
        Reason::Passed(Passed::Method) => {
            format!("{subject} is passed to pool {pool}: only GET and HEAD are answered from memory.")
        }
        Reason::Passed(Passed::Upgrade) => {
            format!("{subject} is passed to pool {pool}: it asks for another protocol.")
        }
        Reason::Passed(Passed::Body) => format!("{subject} is passed to pool {pool}: it carries a body."),
        Reason::Bypass => format!("{subject} is passed to pool {pool}: its route says cache = \"pass\"."),
        Reason::Identity => {
            format!("{subject} is passed to pool {pool}: nodes are told whose certificate was shown.")
        }
        Reason::Cookie => format!(
            "{subject} is passed to pool {pool}: it has a cookie, and its route says cookies = \"pass\"."
        ),
        Reason::Cached(way, known) => cached(&subject, way, *known, next, pool, stored.as_ref()),
    };
    match next.status {
        Some(304) => text.push_str(" Its condition holds, so the status is 304."),
        Some(206) => text.push_str(" It asks for a range, so the status is 206."),
        Some(416) => text.push_str(" The range that it asks for is beyond the end, so the status is 416."),
        Some(_) | None => {}
    }
    let asks_a_node = match next.outcome {
        Outcome::Revalidate | Outcome::Fetch | Outcome::FetchApart | Outcome::Pass => true,
        Outcome::Hit | Outcome::Grace | Outcome::Disconnected => false,
        Outcome::Join | Outcome::Purge | Outcome::Redirect | Outcome::Refused => false,
    };
    if asks_a_node && next.node_up == Some(false) {
        let _ = write!(text, " No node of pool {pool} is up; they are tried all the same.");
    }
    text
}

/// The answer for a request that does not come in.
pub(super) fn barred(method: &str, url: &str, shut: &Shut<'_>) -> String {
    let subject = format!("The next {method} of {url}");
    match shut {
        Shut::Redirect => format!("{subject} is sent to https: its site says redirect_to_https = true."),
        Shut::Denied => format!(
            "{subject} is refused: access.allow and access.deny do not let its address in (the one that is asked about, else none)."
        ),
        Shut::Maintenance(_) => format!("{subject} gets the page of maintenance in place of the site."),
        Shut::TooLarge => format!("{subject} is refused: its body is larger than max_body."),
        Shut::Password(_) => format!("{subject} is refused: its site wants a password, by basic_auth."),
        Shut::Unverified(_) => {
            format!(
                "{subject} has a password for basic_auth that was not looked at yet; what follows depends on it."
            )
        }
        Shut::TooMany(rule, wait) => format!(
            "{subject} is refused: by the rate limit {} the next may come in {} ms.",
            rule.name,
            wait.as_millis()
        ),
    }
}

fn cached(
    subject: &str,
    way: &Way,
    known: Known,
    next: &Next,
    pool: &str,
    stored: Option<&Stored<'_>>,
) -> String {
    let ttl = stored.map_or(0, |stored| stored.entry.ttl_left(stored.now));
    let stale = seconds(ttl.unsigned_abs());
    let why_stale = match stored {
        Some(stored) if stored.entry.ask_always() => "the node wants to be asked each time".to_owned(),
        Some(stored) if is_soft_purged(stored) => {
            format!("a soft purge made the stored copy stale {stale} ago")
        }
        Some(_) | None => format!("the stored copy has been stale for {stale}"),
    };
    if next.outcome == Outcome::Join {
        return format!(
            "{subject} waits for the fetch that another request has started, and gets its answer."
        );
    }
    match way {
        Way::Hit(_) => format!("{subject} is a hit: fresh for {} more.", seconds(ttl.unsigned_abs())),
        Way::Grace(entry) => {
            let left = i64::try_from(entry.grace().as_secs()).unwrap_or(i64::MAX).saturating_add(ttl);
            let refresh =
                if next.fetch_under_way { "is being fetched already" } else { "is fetched meanwhile" };
            format!(
                "{subject} is a hit within grace: {why_stale}, is served for {} more, and a newer one {refresh}.",
                seconds(left.unsigned_abs())
            )
        }
        Way::Disconnected(_) => {
            format!("{subject} is a hit although {why_stale}: no node of pool {pool} is up.")
        }
        Way::Anew(_) => {
            let how = if next.conditions.is_empty() { "fetches it anew from" } else { "asks after it at" };
            format!(
                "{subject} does not want the fresh copy unasked, and {how} pool {pool}; what comes of it is for all."
            )
        }
        Way::Nothing => {
            format!(
                "{subject} is refused: it wants what is stored or nothing (only-if-cached), and nothing fits."
            )
        }
        Way::Revalidate(_) => {
            let mut text = if next.conditions.is_empty() {
                format!(
                    "{subject} is fetched from pool {pool}: {why_stale}, and has no ETag or Last-Modified to ask by."
                )
            } else {
                format!(
                    "{subject} asks pool {pool} whether the stored copy is still right ({}): {why_stale}.",
                    next.conditions.join(", ")
                )
            };
            if let Some(stored) = stored.filter(|stored| stored.entry.may_serve_on_error(stored.now)) {
                let left = stored.entry.grace().max(stored.entry.stale_if_error()).as_secs();
                let left = i64::try_from(left).unwrap_or(i64::MAX).saturating_add(ttl);
                let _ = write!(
                    text,
                    " Should the node fail, the copy may stand in for {} more.",
                    seconds(left.unsigned_abs())
                );
            }
            text
        }
        Way::Fetch => match known {
            Known::OtherVariants => {
                format!("{subject} is fetched from pool {pool}: only variants for other requests are stored.")
            }
            Known::Nothing | Known::ThisVariant => {
                format!("{subject} is fetched from pool {pool}: nothing of this URL is stored.")
            }
        },
        Way::FetchApart => {
            format!(
                "{subject} is fetched from pool {pool} for itself alone: lately its answer was not for sharing."
            )
        }
    }
}

fn is_soft_purged(stored: &Stored<'_>) -> bool {
    stored.explained.entry.as_ref().is_some_and(|entry| entry.soft_purged)
}

/// A span for people.
fn seconds(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_two_units() {
        for (number, expected) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(seconds(number), expected);
        }
    }
}
