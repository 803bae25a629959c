//! What the tests of this room share: certificates made on the spot.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::certificate::Certificate;
use super::{Acceptor, CertificateFiles, TlsSettings};

pub(super) fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// A certificate signed by itself, and its key, in PEM.
pub(super) fn made_for(names: &[&str]) -> (String, String) {
    made_of_kind(names, &rcgen::PKCS_ECDSA_P256_SHA256)
}

fn made_of_kind(names: &[&str], kind: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(kind).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

pub(super) fn folder_with(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

pub(super) fn loaded(names: &[&str]) -> Certificate {
    loaded_of_kind(names, &rcgen::PKCS_ECDSA_P256_SHA256)
}

pub(super) fn loaded_of_kind(names: &[&str], kind: &'static SignatureAlgorithm) -> Certificate {
    let (certificate, key) = made_of_kind(names, kind);
    let folder = folder_with(&[("cert", certificate.as_bytes()), ("key", key.as_bytes())]);
    let [certificate_file, key_file] = ["cert", "key"].map(|name| folder.path().join(name));
    let files = CertificateFiles { certificate: certificate_file, key: key_file, ocsp: None };
    Certificate::load(&files, &provider(), SystemTime::now()).unwrap()
}

/// An acceptor with a certificate for these names, and that certificate in PEM.
pub(super) fn acceptor(names: &[&str]) -> (Acceptor, String) {
    let (certificate, key) = made_for(names);
    let folder = folder_with(&[("cert", certificate.as_bytes()), ("key", key.as_bytes())]);
    let [certificate_file, key_file] = ["cert", "key"].map(|name| folder.path().join(name));
    let files = CertificateFiles { certificate: certificate_file, key: key_file, ocsp: None };
    let settings = TlsSettings {
        certificates: vec![files],
        http2: true,
        client_auth: None,
        deadline: Duration::from_secs(10),
    };
    (Acceptor::new(&settings, SystemTime::now()).unwrap(), certificate)
}

/// A client that trusts this certificate.
pub(super) fn trusting(certificate: &str) -> ClientConfig {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth()
}
