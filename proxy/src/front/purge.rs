//! A purge request that came to a listener: read, checked, carried out, answered.

use std::net::IpAddr;

use clearcoat_cache::Scheme;
use clearcoat_purge::{apply, read};
use tracing::{info, warn};

use super::Front;
use super::forward;
use crate::admin::PurgeKind;
use crate::listen::head::Head;
use crate::respond::Local;

impl Front {
    /// Carries out a purge. The answer is made only after nothing that it named can be served any more.
    pub(super) fn purge(&self, head: &Head<'_, '_>, sender: Option<IpAddr>) -> Local {
        let method = head.method.as_str();
        let started = std::time::Instant::now();
        let now = self.clock.now();
        // A URL is purged under every spelling that the route makes one of.
        let routes = self.routes.load();
        let target = routes.known_target(head.host, head.target);
        let key = self.store.secret().key(Scheme::Http, head.host, &target);
        let headers = forward::end_to_end(head);
        let token = head.values("x-invalidate-token").next();
        let outcome = self
            .guard
            .admit(read(method, &headers, key), sender, token)
            // A tag may be on a hundred thousand pages: the other connections of this thread go on elsewhere.
            .map(|admitted| tokio::task::block_in_place(|| apply(admitted, &self.store, now)));
        match outcome {
            Ok(done) => {
                let kind = if method == "PURGE" { PurgeKind::Url } else { PurgeKind::Tags };
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
