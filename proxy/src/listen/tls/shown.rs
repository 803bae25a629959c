//! The certificates that are shown, and how new ones take their place while the server runs.
//!
//! Whoever renews certificates (certbot, a cluster's secrets) writes files; nobody has to tell us. The files are looked at now and
//! then, and if one has changed, all are read again as at the start. If anything is wrong with them, as between the writing of a
//! certificate and that of its key, those that are shown stay until the files change again. Connections and sessions live on.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{Certificate, CertificateFiles};
use super::names::Names;
use super::{InvalidTls, Known};

/// By what a changed file is known: when it changed, its length, and which file it is. `None`: there is none.
pub(super) type Stamp = Option<(i64, i64, u64, u64)>;

pub(super) fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ctime(), found.ctime_nsec(), found.len(), found.ino()))
}

/// What stands behind the names of a listener at one time.
#[derive(Debug)]
struct Loaded {
    names: Names,
    known: Vec<Known>,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Shown {
    files: Vec<CertificateFiles>,
    provider: Arc<CryptoProvider>,
    loaded: ArcSwap<Loaded>,
    /// Of all files, as they were when they were last read.
    seen: Mutex<Vec<Stamp>>,
}

impl Shown {
    pub(super) fn new(
        files: Vec<CertificateFiles>,
        provider: Arc<CryptoProvider>,
        now: SystemTime,
    ) -> Result<Self, InvalidTls> {
        // Taken before the files are read: what is written meanwhile is seen as a change.
        let seen = Mutex::new(stamps(&files));
        let loaded = ArcSwap::from_pointee(load(&files, &provider, now)?);
        Ok(Self { files, provider, loaded, seen })
    }

    /// Reads the files again if one has changed; `None` if none has.
    pub(super) fn renew(&self, now: SystemTime) -> Option<Result<(), InvalidTls>> {
        let stamps = stamps(&self.files);
        let mut seen = self.seen.lock();
        if *seen == stamps {
            return None;
        }
        *seen = stamps;
        drop(seen);
        let loaded = load(&self.files, &self.provider, now);
        Some(loaded.map(|loaded| self.loaded.store(Arc::new(loaded))))
    }

    pub(super) fn known(&self) -> Vec<Known> {
        self.loaded.load().known.clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.loaded.load().names.choose(hello.server_name(), hello.signature_schemes()))
    }
}

fn stamps(files: &[CertificateFiles]) -> Vec<Stamp> {
    files.iter().flat_map(CertificateFiles::paths).map(|path| stamp(path)).collect()
}

fn load(
    files: &[CertificateFiles],
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Loaded, InvalidTls> {
    let mut certificates = Vec::with_capacity(files.len());
    for files in files {
        certificates.push(Certificate::load(files, provider, now)?);
    }
    let known = files.iter().zip(&certificates).map(|(files, certificate)| Known {
        file: files.certificate.clone(),
        names: certificate.names.clone(),
        not_after: certificate.not_after,
    });
    let known = known.collect();
    let names = Names::new(certificates).ok_or(InvalidTls::NoCertificate)?;
    Ok(Loaded { names, known })
}

impl CertificateFiles {
    /// All of them.
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.ocsp)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::super::test::{folder_with, made_for, provider};
    use super::*;

    #[test]
    fn what_is_written_anew_is_shown_as_soon_as_it_is_whole() {
        let (certificate, key) = made_for(&["a.test"]);
        let folder = folder_with(&[("cert", certificate.as_bytes()), ("key", key.as_bytes())]);
        let [cert_file, key_file] = ["cert", "key"].map(|name| folder.path().join(name));
        let files = CertificateFiles { certificate: cert_file.clone(), key: key_file.clone(), ocsp: None };
        let now = SystemTime::now();
        let shown = Shown::new(vec![files], Arc::new(provider()), now).unwrap();
        let names = || shown.known()[0].names.clone();
        assert!(shown.renew(now).is_none());
        let (certificate, key) = made_for(&["b.test"]);
        fs::write(&cert_file, certificate).unwrap();
        // Its key is still the old one.
        let failed = shown.renew(now).unwrap().unwrap_err().to_string();
        assert!(failed.contains("is not that of the certificate"), "{failed}");
        assert_eq!(names(), ["a.test"]);
        assert!(shown.renew(now).is_none(), "nothing has changed since");
        fs::write(&key_file, key).unwrap();
        shown.renew(now).unwrap().unwrap();
        assert_eq!(names(), ["b.test"]);
        // Gone, and back under another inode, as when a link is set to another folder.
        fs::remove_file(&key_file).unwrap();
        assert!(shown.renew(now).unwrap().is_err());
        let (certificate, key) = made_for(&["c.test"]);
        let next = folder_with(&[("cert", certificate.as_bytes()), ("key", key.as_bytes())]);
        std::os::unix::fs::symlink(next.path().join("key"), &key_file).unwrap();
        fs::remove_file(&cert_file).unwrap();
        std::os::unix::fs::symlink(next.path().join("cert"), &cert_file).unwrap();
        shown.renew(now).unwrap().unwrap();
        assert_eq!(names(), ["c.test"]);
    }
}
