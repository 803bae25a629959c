//! Certificates and their keys: read, and checked so far that no handshake can find fault with them.
//!
//! Nothing here decides which certificate a visitor gets; that is [`super::names`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tracing::warn;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Where a certificate and its key are, both in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CertificateFiles {
    /// The certificate, then those that lead from it to one that visitors trust.
    pub(crate) certificate: PathBuf,
    /// The key in PKCS #8, PKCS #1 or SEC 1, not encrypted. May be the same file.
    pub(crate) key: PathBuf,
    /// What the authority last said of the certificate (OCSP, RFC 6960), in DER, to be shown with it (stapling, RFC 6066 section 8).
    pub(crate) ocsp: Option<PathBuf>,
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidCertificate {
    #[error("{} cannot be read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not PEM: {reason}", path.display())]
    NotPem { path: PathBuf, reason: String },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{}: certificate {number} is malformed: {reason}", path.display())]
    Malformed { path: PathBuf, number: usize, reason: String },
    #[error("{} holds no private key", path.display())]
    NoKey { path: PathBuf },
    #[error("{}: the key is encrypted; write it without a passphrase", path.display())]
    EncryptedKey { path: PathBuf },
    #[error("{}: the key cannot be used: {reason}", path.display())]
    UnusableKey { path: PathBuf, reason: String },
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    OtherKey { certificate: PathBuf, key: PathBuf },
    #[error("{} is no OCSP answer in DER", path.display())]
    NotOcsp { path: PathBuf },
}

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// The DNS names that it is for, in lower case; a wildcard is written `*.example.com`.
    pub(super) names: Vec<String>,
    /// In seconds since 1970.
    pub(super) not_after: i64,
}

impl Certificate {
    /// Reads a certificate with its key. One that is expired or not valid yet is served with a warning: what visitors make
    /// of it is between them and the operator, and the clock may be wrong.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is not what it should be, or the key is not the certificate's.
    pub(crate) fn load(
        files: &CertificateFiles,
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Result<Self, InvalidCertificate> {
        let path = &files.certificate;
        let text = read(path)?;
        let chain = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| not_pem(path, &error))?;
        if chain.is_empty() {
            return Err(InvalidCertificate::NoCertificate { path: path.clone() });
        }
        let (mut names, mut not_after) = (Vec::new(), 0);
        for (index, der) in chain.iter().enumerate() {
            let malformed = |reason: String| InvalidCertificate::Malformed {
                path: path.clone(),
                number: index + 1,
                reason,
            };
            let (rest, parsed) =
                X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
            if !rest.is_empty() {
                return Err(malformed("there are bytes behind it".to_owned()));
            }
            if index == 0 {
                names = names_of(&parsed);
                not_after = parsed.validity().not_after.timestamp();
            }
            warn_of_dates(path, index + 1, &parsed, now);
        }
        let key = load_key(&files.key)?;
        let key = provider.key_provider.load_private_key(key).map_err(|error| {
            InvalidCertificate::UnusableKey { path: files.key.clone(), reason: error.to_string() }
        })?;
        let mut key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            // A key that does not tell its public half cannot be compared; those of files do.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(InvalidCertificate::OtherKey {
                    certificate: path.clone(),
                    key: files.key.clone(),
                });
            }
            Err(error) => {
                return Err(InvalidCertificate::Malformed {
                    path: path.clone(),
                    number: 1,
                    reason: error.to_string(),
                });
            }
        }
        if names.is_empty() {
            warn!(file = %path.display(), "a certificate names no host: it is served to unknown names at most");
        }
        key.ocsp = files.ocsp.as_deref().map(load_ocsp).transpose()?;
        Ok(Self { key: Arc::new(key), names, not_after })
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, InvalidCertificate> {
    std::fs::read(path).map_err(|source| InvalidCertificate::Unreadable { path: path.to_owned(), source })
}

pub(super) fn not_pem(path: &Path, error: &pem::Error) -> InvalidCertificate {
    InvalidCertificate::NotPem { path: path.to_owned(), reason: error.to_string() }
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, InvalidCertificate> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let encrypted = memchr::memmem::find(&text, b"BEGIN ENCRYPTED PRIVATE KEY").is_some();
            let path = path.to_owned();
            Err(if encrypted {
                InvalidCertificate::EncryptedKey { path }
            } else {
                InvalidCertificate::NoKey { path }
            })
        }
        Err(error) => Err(not_pem(path, &error)),
    }
}

fn load_ocsp(path: &Path) -> Result<Vec<u8>, InvalidCertificate> {
    let answer = read(path)?;
    // A sequence that is just as long as the file; what it says is between the authority and the visitors.
    let whole = matches!(x509_parser::der_parser::parse_der(&answer), Ok((b"", value)) if value.tag() == Tag::Sequence);
    if whole { Ok(answer) } else { Err(InvalidCertificate::NotOcsp { path: path.to_owned() }) }
}

/// The DNS names of a certificate. The common name counts only where there is no other (RFC 6125 section 6.4.4).
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<String> = alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            // Nobody asks for anything else by SNI (RFC 6066 section 3).
            _ => None,
        })
        .collect();
    if alternatives.is_some() {
        return names;
    }
    let common = certificate.subject().iter_common_name();
    common.filter_map(|name| name.as_str().ok()).map(str::to_ascii_lowercase).collect()
}

fn warn_of_dates(path: &Path, number: usize, certificate: &X509Certificate<'_>, now: SystemTime) {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let validity = certificate.validity();
    let file = path.display();
    if validity.not_after.timestamp() < now {
        warn!(%file, number, not_after = %validity.not_after, "a certificate has expired");
    } else if validity.not_before.timestamp() > now {
        warn!(%file, number, not_before = %validity.not_before, "a certificate is not valid yet");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::test::{folder_with, made_for, provider};
    use super::*;

    fn load(certificate: &[u8], key: &[u8]) -> Result<Certificate, String> {
        let folder = folder_with(&[("cert.pem", certificate), ("key.pem", key)]);
        let files = CertificateFiles {
            certificate: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
            ocsp: None,
        };
        let folder = format!("{}/", folder.path().display());
        Certificate::load(&files, &provider(), SystemTime::now())
            .map_err(|error| format!("{error:#}").replace(&folder, ""))
    }

    #[test]
    fn sound_ones_are_read_with_their_names() {
        let (certificate, key) = made_for(&["Example.com", "*.example.com", "10.0.0.1"]);
        let loaded = load(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(loaded.names, ["example.com", "*.example.com"]);
        // One file may hold both, in any order, with words between.
        let both = format!("# ours\n{key}\nfrom here on the certificate\n{certificate}");
        assert_eq!(load(both.as_bytes(), both.as_bytes()).unwrap().names.len(), 2);
    }

    #[test]
    fn chains_are_kept_whole() {
        let (leaf, key) = made_for(&["a.test"]);
        let (other, _) = made_for(&["b.test"]);
        let loaded = load(format!("{leaf}{other}").as_bytes(), key.as_bytes()).unwrap();
        assert_eq!((loaded.key.cert.len(), loaded.names), (2, vec!["a.test".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_file() {
        let (certificate, key) = made_for(&["a.test"]);
        let (_, other) = made_for(&["a.test"]);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cut = &certificate[..certificate.len() / 2];
        for (certificate, key, expected) in [
            ("", &*key, "cert.pem holds no certificate"),
            ("words", &key, "cert.pem holds no certificate"),
            (&*key, &key, "cert.pem holds no certificate"),
            (cut, &key, "cert.pem is not PEM: "),
            (broken, &key, "cert.pem: certificate 1 is malformed: "),
            (&format!("{certificate}{broken}"), &key, "cert.pem: certificate 2 is malformed: "),
            (&certificate, "", "key.pem holds no private key"),
            (&certificate, &certificate, "key.pem holds no private key"),
            (&certificate, encrypted, "key.pem: the key is encrypted; write it without a passphrase"),
            (&certificate, broken_key, "key.pem: the key cannot be used: "),
            (&certificate, &other, "the key in key.pem is not that of the certificate in cert.pem"),
        ] {
            let error = load(certificate.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{expected}: {error}");
        }
        let (certificate, key) = ("/nowhere/a.pem".into(), "/nowhere/a.key".into());
        let nowhere = CertificateFiles { certificate, key, ocsp: None };
        let error = Certificate::load(&nowhere, &provider(), SystemTime::now()).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/a.pem cannot be read");
    }

    #[test]
    fn dates_do_not_keep_one_from_being_served() {
        let (certificate, key) = made_for(&["a.test"]);
        let folder = folder_with(&[("a", certificate.as_bytes()), ("b", key.as_bytes())]);
        let [certificate, key] = ["a", "b"].map(|name| folder.path().join(name));
        let files = CertificateFiles { certificate, key, ocsp: None };
        assert!(Certificate::load(&files, &provider(), UNIX_EPOCH).is_ok());
    }

    #[test]
    fn what_the_authority_said_is_shown_if_it_is_whole() {
        let (certificate, key) = made_for(&["a.test"]);
        for (answer, is_one) in [
            (&[0x30, 3, 0x0a, 1, 0][..], true),
            (&[0x30, 3, 0x0a, 1], false),
            (&[0x30, 3, 0x0a, 1, 0, 0], false),
            (&[0x04, 1, 0], false),
            (b"", false),
            (b"-----BEGIN OCSP RESPONSE-----", false),
        ] {
            let folder = folder_with(&[("a", certificate.as_bytes()), ("b", key.as_bytes()), ("c", answer)]);
            let [certificate, key, ocsp] = ["a", "b", "c"].map(|name| folder.path().join(name));
            let files = CertificateFiles { certificate, key, ocsp: Some(ocsp) };
            let loaded = Certificate::load(&files, &provider(), UNIX_EPOCH);
            assert_eq!(loaded.is_ok(), is_one, "{answer:?}");
            assert!(loaded.is_err() || loaded.unwrap().key.ocsp.as_deref() == Some(answer));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_in_a_file_is_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let (certificate, key) = made_for(&["a.test"]);
            let base = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let wrapped = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base(&bytes));
            let _ = load(&bytes, key.as_bytes());
            let _ = load(wrapped.as_bytes(), key.as_bytes());
            let _ = load(certificate.as_bytes(), &bytes);
        }
    }
}
