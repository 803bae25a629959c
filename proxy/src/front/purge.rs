//! A purge request that came to a listener: read, checked, carried out, answered.

use std::net::IpAddr;
use std::time::Instant;

use clearcoat_cache::key::canonical_host;
use clearcoat_cache::{CacheKey, KeySecret, Moment, PurgeCount, PurgeMode, Scheme, Tag};
use clearcoat_purge::{Admitted, Outcome, PurgeError, PurgeRequest, apply};
use smallvec::SmallVec;
use tracing::{info, warn};

use super::audit::{self, By, Purged};
use super::route::Treatment;
use super::visitor::Visitor;
use super::{Front, Step, context, forward, known_host, token};
use crate::access::mask;
use crate::admin::{PurgeKind, RequestResult};
use crate::listen::head::Head;
use crate::respond::Local;

/// Where ezplatform-http-cache 0.8 shows a secret that the configuration has.
const OLD_TOKEN: &str = "x-purge-token";

/// A purge that somebody asks for, as far as it was read: all that is needed of it when its request is gone.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    request: Result<PurgeRequest, PurgeError>,
    /// What was shown by which the sender may purge.
    token: Option<Box<[u8]>>,
    pub(super) asked: Asked,
}

/// The request for a purge.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    method: Box<str>,
    /// Host and target, the latter as its route knows it.
    host: Box<[u8]>,
    target: Box<[u8]>,
    sender: Option<IpAddr>,
    started: Instant,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [host, target] = [&self.host, &self.target].map(|text| String::from_utf8_lossy(text));
        write!(f, "{host}{target}")
    }
}

impl Front {
    /// Carries out a purge. It is answered only after nothing that it named can be served any more.
    pub(super) fn purge(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment) -> Step {
        let treatment = self.routes.find(head.host, head.target);
        // A URL is purged under every spelling that the route makes one of, and under both schemes.
        let target = self.routes.known_target(head.host, head.target);
        let keys = url_keys(self.store.secret(), head.host, &target);
        let method = head.method.as_str();
        let request = self.purges.read(visitor.dialects, method, &forward::end_to_end(head), keys.to_vec());
        let shown = head.values(token::HEADER).next();
        let asked = Asked {
            method: method.into(),
            host: head.host.into(),
            target: target.as_ref().into(),
            sender: visitor.address,
            started: Instant::now(),
        };
        // The secret of the configuration is for all sites, and nobody is asked about it.
        if let (Some(treatment), Some(shown)) = (treatment, shown)
            && treatment.purge_token.is_some()
            && !self.guard.knows(shown)
        {
            let order = Order { request, token: Some(shown.into()), asked };
            return self.purge_by_token(order, treatment, head, visitor, now);
        }
        let shown = shown.or_else(|| head.values(OLD_TOKEN).next());
        let admitted = self.guard.admit(request, visitor.address, shown);
        Step::Local(self.carry_out(&asked, admitted), RequestResult::Purge)
    }

    /// Carries a purge out if it showed the token that the application told.
    pub(super) fn purge_shown(&self, order: Order, told: Option<&[u8]>) -> Local {
        let Order { request, token, asked } = order;
        let admitted = self.guard.admit_by(request, asked.sender, token.as_deref().unwrap_or_default(), told);
        self.carry_out(&asked, admitted)
    }

    fn carry_out(&self, asked: &Asked, admitted: Result<Admitted, PurgeError>) -> Local {
        let Asked { method, host, target, sender, started } = asked;
        let now = self.clock.now();
        let outcome = admitted.and_then(|admitted| {
            let (kind, what) = match admitted.request() {
                PurgeRequest::Url { .. } => (PurgeKind::Url, audit::told(asked)),
                request @ PurgeRequest::Tags { .. } => (PurgeKind::Tags, audit::told(request)),
                request @ PurgeRequest::Ban { .. } => (PurgeKind::Ban, audit::told(request)),
            };
            // A tag may be on a hundred thousand pages: the other connections of this thread go on elsewhere then. That they
            // do costs more than most purges.
            let done = apply(admitted, &self.store, now, |rest| tokio::task::block_in_place(rest))?;
            Ok((kind, what, done))
        });
        match outcome {
            Ok((kind, what, done)) => {
                let guards = || self.routes.find(host, target).is_some_and(Treatment::guards_context);
                let own = match kind {
                    PurgeKind::Url if guards() => self.purge_contexts(host, target, now),
                    PurgeKind::Url | PurgeKind::Tags | PurgeKind::Ban => PurgeCount::default(),
                };
                let done = Outcome {
                    purged: done.purged + own.purged,
                    softened: done.softened + own.softened,
                    ..done
                };
                self.note_purge(
                    kind,
                    &Purged {
                        by: By::Client(*sender),
                        method,
                        what: &what,
                        purged: done.purged,
                        softened: done.softened,
                        took: started.elapsed(),
                    },
                );
                Local::plain(done.status, Some(done.reason.clone()), done.reason).of_purge()
            }
            Err(error) => {
                warn!(%method, sender = sender.map(|address| address.to_string()), %error, "a purge was refused");
                // Whoever was let in is told what was wrong with it.
                let told = match &error {
                    PurgeError::BadBan(bad) => bad.to_string(),
                    _ => error.reason().to_owned(),
                };
                Local::plain(error.status(), Some(error.reason().to_owned()), told).refused()
            }
        }
    }
}

impl Front {
    /// Counts a purge that was carried out, and tells of it in the log and to those who ask later.
    pub(super) fn note_purge(&self, kind: PurgeKind, purged: &Purged<'_>) -> u64 {
        self.counters.purge(kind, purged.purged, purged.softened);
        let id = self.audit.note(purged);
        info!(
            id,
            method = purged.method,
            by = %purged.by,
            what = mask::shown(purged.what),
            purged = purged.purged,
            softened = purged.softened,
            micros = purged.took.as_micros() as u64,
            "purged"
        );
        id
    }

    /// Purges what a URL answered to visitors who were asked about by it, each under a key of its own.
    pub(super) fn purge_contexts(&self, host: &[u8], target: &[u8], now: Moment) -> PurgeCount {
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
