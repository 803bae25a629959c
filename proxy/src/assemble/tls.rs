//! TLS of the listeners: their certificates, read and checked before anything starts, and looked after from then on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use clearcoat_conf as conf;
use http::HeaderName;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tracing::{info, warn};

use super::generation::Current;
use crate::admin::{Counters, Renewal};
use crate::front::identity::Identities;
use crate::listen::tls::{Acceptor, CertificateFiles, ClientAuth, TlsSettings};

/// What each listener speaks TLS with; `None` where it is plain. In the order of the configuration.
///
/// # Errors
///
/// What is wrong with a certificate, with the listener and the file.
pub(crate) fn acceptors(config: &conf::Config) -> anyhow::Result<Vec<Option<Arc<Acceptor>>>> {
    config.listen.iter().map(|listen| acceptor(config, listen)).collect()
}

/// The same of one listener.
pub(super) fn acceptor(
    config: &conf::Config,
    listen: &conf::Listen,
) -> anyhow::Result<Option<Arc<Acceptor>>> {
    let Some(tls) = &listen.tls else { return Ok(None) };
    let files = |pair: &conf::Certificate| CertificateFiles {
        certificate: pair.cert.clone(),
        key: pair.key.clone(),
        ocsp: pair.ocsp.clone(),
    };
    let settings = TlsSettings {
        certificates: tls.certificates.iter().map(files).collect(),
        http2: tls.http2,
        client_auth: tls.client_auth.as_ref().map(client_auth).transpose()?,
        deadline: config.limits.header_timeout,
    };
    let acceptor =
        Acceptor::new(&settings, SystemTime::now()).with_context(|| format!("TLS on {}", listen.address))?;
    Ok(Some(Arc::new(acceptor)))
}

fn client_auth(auth: &conf::ClientAuth) -> anyhow::Result<ClientAuth> {
    let subject_header = auth.subject_header.as_ref().map(|name| name.as_str().parse()).transpose()?;
    Ok(ClientAuth { ca: auth.ca.clone(), required: auth.required, subject_header })
}

/// The headers by which nodes hear whose certificate was shown, of all listeners.
///
/// # Errors
///
/// None with names that were checked.
pub(super) fn identities(config: &conf::Config) -> anyhow::Result<Identities> {
    let mut headers: Vec<HeaderName> = Vec::new();
    for auth in config.listen.iter().filter_map(|listen| listen.tls.as_ref()?.client_auth.as_ref()) {
        headers.extend(client_auth(auth)?.subject_header);
    }
    Ok(Identities::new(headers))
}

/// How often the files of certificates are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Shows certificates that are written anew.
pub(super) struct Renewing {
    pub(super) current: Current,
    pub(super) counters: Arc<Counters>,
}

#[async_trait]
impl BackgroundService for Renewing {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = shutdown.changed() => return,
            }
            let generation = self.current.load_full();
            for acceptor in generation.speaking_tls() {
                match acceptor.renew(SystemTime::now()) {
                    None => {}
                    Some(Ok(())) => {
                        self.counters.renewal(Renewal::Shown);
                        for known in acceptor.certificates() {
                            info!(
                                file = %known.file.display(),
                                names = known.names.join(" "),
                                not_after = known.not_after,
                                "a certificate was read again"
                            );
                        }
                    }
                    Some(Err(error)) => {
                        self.counters.renewal(Renewal::Failed);
                        let reason = format!("{:#}", anyhow::Error::from(error));
                        warn!(
                            reason,
                            "certificates were changed and cannot be used: those of before are still shown"
                        );
                    }
                }
            }
        }
    }
}
