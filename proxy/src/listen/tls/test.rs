//! What the tests of this room share: certificates made on the spot.

#![allow(clippy::unwrap_used)]

use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::crypto::{CryptoProvider, ring};
use tempfile::TempDir;

use super::CertificateFiles;
use super::certificate::Certificate;

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
    let files = CertificateFiles { certificate: folder.path().join("cert"), key: folder.path().join("key") };
    Certificate::load(&files, &provider(), SystemTime::now()).unwrap()
}
