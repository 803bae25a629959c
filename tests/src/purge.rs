//! Invalidation as the CMS sends it: `PURGE` of a URL, `PURGEKEYS` with tags.

use std::net::SocketAddr;

use crate::client::{self, Answer, Request};

/// A `PURGE` of every variant of one URL.
pub fn url(target: &str) -> Request {
    Request::new("PURGE", target).header("Connection", "Close")
}

/// A `PURGEKEYS` that removes what carries any of the tags. The path means nothing, so one that no page has is sent.
pub fn tags(tags: &str) -> Request {
    Request::new("PURGEKEYS", "/").header("xkey-purge", tags).header("Connection", "Close")
}

/// A `PURGEKEYS` that makes stale what carries any of the tags.
pub fn soft_tags(tags: &str) -> Request {
    Request::new("PURGEKEYS", "/").header("xkey-softpurge", tags).header("Connection", "Close")
}

/// What a `PURGEKEYS` did, by its reason phrase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counts {
    /// Entries removed.
    pub purged: u64,
    /// Entries made stale.
    pub expired: u64,
}

/// Sends a `PURGEKEYS` and requires its success.
///
/// # Panics
///
/// If the answer is not 200 with both counts, or its body says anything else than its reason phrase.
pub async fn counted(address: SocketAddr, request: &Request) -> Counts {
    let answer = client::ask(address, request).await.expect_status(200);
    let counts = counts(&answer.reason).unwrap_or_else(|| panic!("no counts in {answer}"));
    assert!(answer.text().contains(&answer.reason), "body and reason phrase differ: {answer}");
    counts
}

/// Sends a `PURGE` and requires its success.
///
/// # Panics
///
/// If the answer is not `200 Purged`.
pub async fn done(address: SocketAddr, request: &Request) -> Answer {
    let answer = client::ask(address, request).await.expect_status(200);
    assert_eq!(answer.reason, "Purged", "{answer}");
    answer
}

fn counts(reason: &str) -> Option<Counts> {
    let rest = reason.strip_prefix("Purged ")?;
    let (purged, rest) = rest.split_once(" objects, expired ")?;
    let expired = rest.strip_suffix(" objects")?;
    Some(Counts { purged: purged.parse().ok()?, expired: expired.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(counts("Purged 3 objects, expired 12 objects"), Some(Counts { purged: 3, expired: 12 }));
        assert_eq!(counts("Purged"), None);
        assert_eq!(counts("Purged x objects, expired 1 objects"), None);
    }
}
