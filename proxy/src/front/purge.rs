//! A purge request that came to a listener: read, checked, carried out, answered.

use std::net::IpAddr;

use clearcoat_cache::key::canonical_host;
use clearcoat_cache::{CacheKey, KeySecret, Moment, PurgeCount, PurgeMode, Scheme, Tag};
use clearcoat_purge::{Outcome, apply, read};
use smallvec::SmallVec;
use tracing::{info, warn};

use super::context;
use super::forward;
use super::route::Treatment;
use super::{Front, known_host};
use crate::admin::PurgeKind;
use crate::listen::head::Head;
use crate::respond::Local;

impl Front {
    /// Carries out a purge. The answer is made only after nothing that it named can be served any more.
    pub(super) fn purge(&self, head: &Head<'_, '_>, sender: Option<IpAddr>) -> Local {
        let method = head.method.as_str();
        let started = std::time::Instant::now();
        let now = self.clock.now();
        // A URL is purged under every spelling that the route makes one of, and under both schemes.
        let routes = self.routes.load();
        let target = routes.known_target(head.host, head.target);
        let keys = url_keys(self.store.secret(), head.host, &target);
        let headers = forward::end_to_end(head);
        let token = head.values("x-invalidate-token").next();
        let outcome = self
            .guard
            .admit(read(method, &headers, keys.to_vec()), sender, token)
            // A tag may be on a hundred thousand pages: the other connections of this thread go on elsewhere.
            .map(|admitted| tokio::task::block_in_place(|| apply(admitted, &self.store, now)));
        match outcome {
            Ok(done) => {
                let kind = if method == "PURGE" { PurgeKind::Url } else { PurgeKind::Tags };
                let own = match kind {
                    PurgeKind::Url
                        if routes.find(head.host, &target).is_some_and(Treatment::guards_context) =>
                    {
                        self.purge_contexts(head.host, &target, now)
                    }
                    PurgeKind::Url | PurgeKind::Tags => PurgeCount::default(),
                };
                let done = Outcome {
                    purged: done.purged + own.purged,
                    softened: done.softened + own.softened,
                    ..done
                };
                self.counters.purge(kind, done.purged, done.softened);
                info!(
                    method,
                    sender = sender.map(|address| address.to_string()),
                    target = %String::from_utf8_lossy(head.target),
                    purged = done.purged,
                    softened = done.softened,
                    micros = started.elapsed().as_micros() as u64,
                    "purged"
                );
                Local::plain(done.status, Some(done.reason.clone()), done.reason).of_purge()
            }
            Err(error) => {
                warn!(method, sender = sender.map(|address| address.to_string()), %error, "a purge was refused");
                Local::plain(error.status(), Some(error.reason().to_owned()), error.reason().to_owned())
                    .refused()
            }
        }
    }
}

impl Front {
    /// Purges what a URL answered to visitors who were asked about by it, each under a key of its own.
    fn purge_contexts(&self, host: &[u8], target: &[u8], now: Moment) -> PurgeCount {
        let target = String::from_utf8_lossy(target);
        let hosts = [Scheme::Http, Scheme::Https].map(|scheme| known_host(scheme, host));
        let tags: Vec<Tag> = hosts.iter().filter_map(|host| context::tag(host, &target)).collect();
        tokio::task::block_in_place(|| self.store.purge_tags(&tags, PurgeMode::Hard, now))
    }
}

/// Every key under which a URL may be stored, whatever scheme the one who names it means.
///
/// Varnish never tells schemes apart, and those who purge (FOSHttpCache, ezplatform-http-cache) rely on it: they say path
/// and host, over whatever connection they have to us. The own port of either scheme is none, for the same reason.
pub(super) fn url_keys(secret: &KeySecret, host: &[u8], target: &[u8]) -> SmallVec<[CacheKey; 4]> {
    let both = [Scheme::Http, Scheme::Https];
    let mut spellings: SmallVec<[&[u8]; 2]> = both
        .iter()
        .map(|scheme| match canonical_host(*scheme, host) {
            (name, b"") => name,
            _ => host,
        })
        .collect();
    // Nearly always there is one spelling, and then no key comes twice.
    spellings.dedup();
    let mut keys: SmallVec<[CacheKey; 4]> = both
        .iter()
        .flat_map(|scheme| spellings.iter().map(|host| secret.key(*scheme, host, target)))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_named_under_both_schemes() {
        let secret = KeySecret::new([3; 16]);
        for (named, count, stored) in [
            (
                "a.test",
                2,
                &[(Scheme::Http, "A.test:80"), (Scheme::Https, "a.test."), (Scheme::Https, "a.test:443")][..],
            ),
            (
                "a.test:80",
                3,
                &[(Scheme::Http, "a.test"), (Scheme::Https, "a.test"), (Scheme::Https, "a.test:80")],
            ),
            (
                "a.test:443",
                3,
                &[(Scheme::Http, "a.test"), (Scheme::Https, "a.test"), (Scheme::Http, "a.test:443")],
            ),
            ("a.test:8443", 2, &[(Scheme::Http, "a.test:8443"), (Scheme::Https, "a.test:8443")]),
            ("[::1]:443", 3, &[(Scheme::Http, "[::1]"), (Scheme::Https, "[::1]")]),
        ] {
            let keys = url_keys(&secret, named.as_bytes(), b"/x");
            assert_eq!(keys.len(), count, "{named}");
            for (scheme, host) in stored {
                assert!(
                    keys.contains(&secret.key(*scheme, host.as_bytes(), b"/x")),
                    "{named}: {scheme:?} {host}"
                );
            }
            assert!(!keys.contains(&secret.key(Scheme::Http, b"b.test", b"/x")));
        }
    }
}
