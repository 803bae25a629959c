//! TLS of the listeners: their certificates, read and checked before anything starts.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use clearcoat_conf as conf;

use crate::listen::tls::{Acceptor, CertificateFiles, TlsSettings};

/// What each listener speaks TLS with; `None` where it is plain. In the order of the configuration.
///
/// # Errors
///
/// What is wrong with a certificate, with the listener and the file.
pub(crate) fn acceptors(config: &conf::Config) -> anyhow::Result<Vec<Option<Arc<Acceptor>>>> {
    let acceptor = |listen: &conf::Listen| {
        let Some(tls) = &listen.tls else { return Ok(None) };
        let files = |pair: &conf::Certificate| CertificateFiles {
            certificate: pair.cert.clone(),
            key: pair.key.clone(),
        };
        let settings = TlsSettings {
            certificates: tls.certificates.iter().map(files).collect(),
            http2: tls.http2,
            deadline: config.limits.header_timeout,
        };
        let acceptor = Acceptor::new(&settings, SystemTime::now())
            .with_context(|| format!("TLS on {}", listen.address))?;
        Ok(Some(Arc::new(acceptor)))
    };
    config.listen.iter().map(acceptor).collect()
}
