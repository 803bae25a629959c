//! Certificates of visitors: whom a listener believes that they are who they say.
//!
//! A certificate that is shown has to lead to one of the authorities in a file, and to be valid today; one that does not ends the
//! handshake, also where none would have been needed. Nothing is looked up: lists of revoked certificates are not read.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderName;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::InvalidTls;
use super::certificate::{InvalidCertificate, not_pem, read};
use super::shown::{Stamp, stamp};
use super::subject;
use crate::front::identity::Identity;

/// Bytes that a holder's name may have, as it is told to nodes. Whatever is longer does not fit beside other headers.
const LONGEST_SUBJECT: usize = 2048;

/// What a listener wants of its visitors.
#[derive(Clone, Debug)]
pub(crate) struct ClientAuth {
    /// A PEM file with the authorities that are believed; at least one.
    pub(crate) ca: PathBuf,
    /// Whether a visitor has to show a certificate.
    pub(crate) required: bool,
    /// The header that tells nodes whose it is.
    pub(crate) subject_header: Option<HeaderName>,
}

/// See the module's page.
pub(super) struct Clients {
    settings: ClientAuth,
    provider: Arc<CryptoProvider>,
    /// Of the file, as it was when it was last read.
    seen: Mutex<Stamp>,
}

impl Clients {
    pub(super) fn new(settings: ClientAuth, provider: Arc<CryptoProvider>) -> Self {
        // Taken before the file is read: what is written meanwhile is seen as a change.
        let seen = Mutex::new(stamp(&settings.ca));
        Self { settings, provider, seen }
    }

    /// Whether the file has changed since this was last asked.
    pub(super) fn have_changed(&self) -> bool {
        let stamp = stamp(&self.settings.ca);
        std::mem::replace(&mut *self.seen.lock(), stamp) != stamp
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, InvalidTls> {
        let path = &self.settings.ca;
        let text = read(path)?;
        let mut authorities = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(&text).enumerate() {
            let certificate = certificate.map_err(|error| not_pem(path, &error))?;
            authorities.add(certificate).map_err(|error| InvalidCertificate::Malformed {
                path: path.clone(),
                number: index + 1,
                reason: error.to_string(),
            })?;
        }
        if authorities.is_empty() {
            return Err(InvalidCertificate::NoCertificate { path: path.clone() }.into());
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities.into(), self.provider.clone());
        let verifier = if self.settings.required { verifier } else { verifier.allow_unauthenticated() };
        verifier.build().map_err(|error| InvalidTls::Setup(rustls::Error::General(error.to_string())))
    }

    /// What nodes are told of a visitor who has shown these certificates, their own first. `None` where nodes are told nothing.
    ///
    /// # Errors
    ///
    /// The name is none that could be told.
    pub(super) fn identity(
        &self,
        shown: Option<&[CertificateDer<'_>]>,
    ) -> Result<Option<Arc<Identity>>, &'static str> {
        let (Some(header), Some(own)) = (&self.settings.subject_header, shown.and_then(<[_]>::first)) else {
            return Ok(None);
        };
        let (_, certificate) =
            X509Certificate::from_der(own).map_err(|_| "the certificate cannot be read")?;
        let subject = subject::text(certificate.subject());
        if subject.len() > LONGEST_SUBJECT {
            return Err("the name in the certificate is too long");
        }
        // Without a name there is nothing to tell, and nothing by which an answer could differ.
        Ok((!subject.is_empty()).then(|| Arc::new(Identity::new(header.clone(), subject))))
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
