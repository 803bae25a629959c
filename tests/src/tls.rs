//! Certificates made on the spot, and visitors who speak TLS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::Connection;
use crate::http2::Session;
use crate::wait::PATIENCE;

/// A certificate signed by itself, and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    name: String,
    /// In PEM.
    pub certificate: String,
    /// In PEM.
    pub key: String,
}

impl Certificate {
    /// One for these names; `*.a.test` is a wildcard.
    ///
    /// # Panics
    ///
    /// If a name cannot stand in a certificate.
    pub fn of(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(all).expect("names for a certificate");
        let certificate = params.self_signed(&key).expect("a certificate");
        let name = names.first().copied().unwrap_or("none").replace('*', "star");
        Self { name, certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes both into a folder and tells where: the certificate, the key.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) =
            (folder.join(format!("{}.pem", self.name)), folder.join(format!("{}.key", self.name)));
        fs::write(&certificate, &self.certificate).expect("writing a certificate");
        fs::write(&key, &self.key).expect("writing a key");
        (certificate, key)
    }

    /// The hash of its public key (SHA-256 of the SubjectPublicKeyInfo, in Base64), by which a browser can be told to trust it.
    ///
    /// # Panics
    ///
    /// If the key is none.
    pub fn fingerprint(&self) -> String {
        let key = KeyPair::from_pem(&self.key).expect("a key of our own");
        STANDARD.encode(::ring::digest::digest(&::ring::digest::SHA256, &key.subject_public_key_info()))
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate of our own")
    }
}

/// Who signs certificates of others.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own, in PEM.
    pub certificate: String,
}

impl Authority {
    /// One of this name.
    ///
    /// # Panics
    ///
    /// If the name cannot stand in a certificate.
    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for a holder of these attributes, in the order in which they stand there; `expired` has had its day.
    ///
    /// # Panics
    ///
    /// If they cannot stand in a certificate.
    pub fn signs(&self, holder: &[(DnType, &str)], expired: bool) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in holder {
            params.distinguished_name.push(kind.clone(), *value);
        }
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate { name: "holder".to_owned(), certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// What a handshake came to.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// The protocol chosen by ALPN.
    pub protocol: Option<String>,
    /// 1.3, not 1.2.
    pub version_13: bool,
    /// An earlier session was gone on with.
    pub resumed: bool,
    shown: Option<CertificateDer<'static>>,
}

impl Agreed {
    /// Whether the server showed this certificate. After a resumption it is the one shown at first.
    pub fn was_shown(&self, certificate: &Certificate) -> bool {
        self.shown.as_ref() == Some(&certificate.der())
    }
}

/// A visitor who speaks TLS, and remembers sessions from one connection to the next.
#[derive(Clone, Debug)]
pub struct TlsVisitor {
    config: Arc<ClientConfig>,
}

impl TlsVisitor {
    /// One who trusts these certificates, speaks TLS 1.3 and 1.2 and asks for no protocol.
    pub fn trusting(certificates: &[&Certificate]) -> Self {
        Self::with(certificates, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    /// The same, without a session to go on with.
    #[must_use]
    pub fn forgetful(&self) -> Self {
        let mut config = (*self.config).clone();
        config.resumption = Resumption::in_memory_sessions(16);
        Self { config: Arc::new(config) }
    }

    /// One who speaks TLS 1.2 at most.
    pub fn old(certificates: &[&Certificate]) -> Self {
        Self::with(certificates, &[&rustls::version::TLS12])
    }

    fn with(certificates: &[&Certificate], versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let mut trusted = RootCertStore::empty();
        for certificate in certificates {
            trusted.add(certificate.der()).expect("a certificate to trust");
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that the provider knows")
            .with_root_certificates(trusted)
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(16);
        Self { config: Arc::new(config) }
    }

    /// Who offers these protocols by ALPN.
    #[must_use]
    pub fn offering(self, protocols: &[&str]) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config) }
    }

    /// Who shows this certificate where one is asked for.
    ///
    /// # Panics
    ///
    /// If its key is none.
    #[must_use]
    pub fn showing(self, own: &Certificate) -> Self {
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key of our own");
        let key = ring::sign::any_supported_type(&key).expect("a key that can sign");
        let mut config = (*self.config).clone();
        let shown = SingleCertAndKey::from(CertifiedKey::new(vec![own.der()], key));
        config.client_auth_cert_resolver = Arc::new(shown);
        // What was agreed on before was agreed on with somebody else.
        config.resumption = Resumption::in_memory_sessions(16);
        Self { config: Arc::new(config) }
    }

    /// Connects and asks for `name`; an IP address is a name that is not told to the server.
    ///
    /// # Errors
    ///
    /// If the handshake fails or takes too long.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> Result<(Connection, Agreed)> {
        let (stream, agreed) = self.shake_hands(address, name).await?;
        let local = stream.get_ref().0.local_addr()?;
        let (reader, writer) = tokio::io::split(stream);
        Ok((Connection::over(reader, writer, local), agreed))
    }

    /// The same for who speaks HTTP/2.
    ///
    /// # Errors
    ///
    /// If the handshake fails or takes too long.
    pub async fn connect_http2(&self, address: SocketAddr, name: &str) -> Result<(Session, Agreed)> {
        let (stream, agreed) = self.shake_hands(address, name).await?;
        Ok((Session::over(stream, &h2::client::Builder::new()).await, agreed))
    }

    async fn shake_hands(&self, address: SocketAddr, name: &str) -> Result<(TlsStream<TcpStream>, Agreed)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned())?;
        let connecting = TlsConnector::from(self.config.clone()).connect(name, stream);
        let stream = timeout(PATIENCE, connecting).await.context("the handshake took too long")??;
        let session = stream.get_ref().1;
        let agreed = Agreed {
            protocol: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            version_13: session.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            shown: session.peer_certificates().and_then(|chain| chain.first()).cloned(),
        };
        Ok((stream, agreed))
    }
}
