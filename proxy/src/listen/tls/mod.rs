//! TLS towards visitors, by rustls on the connections that pingora's listeners accept.
//!
//! Read [`Acceptor`] first: it is made once per listener from files that are checked then, and brings each connection
//! through its handshake, in the connection's own task and under a deadline. What comes of it is a pingora `Stream`. Which
//! certificate is shown is decided by [`names`], and how new ones take their place by [`shown`]; no client certificates are asked for. Nothing here knows HTTP but the two names
//! by which its versions are agreed on (ALPN).

mod certificate;
mod names;
mod shown;
mod stream;
#[cfg(test)]
mod test;

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pingora_core::protocols::Stream;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};
use tokio::time::timeout;

pub(crate) use certificate::{CertificateFiles, InvalidCertificate};

use shown::Shown;
use stream::TlsStream;

/// HTTP/2 in ALPN (RFC 9113 section 3.1).
const H2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN (RFC 7301 section 6).
const HTTP_11: &[u8] = b"http/1.1";

/// What a listener needs to speak TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsSettings {
    /// At least one. The first is for clients that ask for no name or for an unknown one.
    pub(crate) certificates: Vec<CertificateFiles>,
    /// Whether HTTP/2 is offered beside HTTP/1.1.
    pub(crate) http2: bool,
    /// How long a handshake may take in all.
    pub(crate) deadline: Duration,
}

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidTls {
    #[error("there is no certificate")]
    NoCertificate,
    #[error(transparent)]
    Certificate(#[from] InvalidCertificate),
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// A certificate that is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Known {
    /// Where it was read.
    pub(crate) file: PathBuf,
    /// For whom it is.
    pub(crate) names: Vec<String>,
    /// When it expires, in seconds since 1970.
    pub(crate) not_after: i64,
}

/// A connection that is through with its handshake.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    /// The client went on with an earlier session, which costs no signature.
    pub(crate) resumed: bool,
}

/// Why a connection did not come through its handshake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeFailed {
    /// The client speaks HTTP in the clear; here is its connection, of which some bytes are read.
    #[error("the client speaks HTTP without TLS")]
    Plain(Stream),
    /// The client left, perhaps without a word, as port scans and probes do.
    #[error("the client left")]
    Gone,
    /// The deadline passed.
    #[error("the handshake took too long")]
    Late,
    /// The client cannot be agreed with, or sent nonsense.
    #[error("the client cannot be agreed with: {0}")]
    Refused(io::Error),
}

/// Brings connections through their handshakes. One for each listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    deadline: Duration,
}

impl Acceptor {
    /// Reads and checks the certificates.
    ///
    /// Versions are 1.3 and 1.2, with forward secrecy and authenticated encryption alone; among the suites the client
    /// chooses, because it knows whether its processor does AES. Sessions are resumed by tickets that only we can read, under
    /// keys of this process that change every six hours; nothing is kept per session. There is no early data: it can be replayed.
    ///
    /// # Errors
    ///
    /// What is wrong with a certificate, with the file that it is in.
    pub(crate) fn new(settings: &TlsSettings, now: SystemTime) -> Result<Self, InvalidTls> {
        let provider = Arc::new(ring::default_provider());
        let shown = Arc::new(Shown::new(settings.certificates.clone(), provider.clone(), now)?);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.ticketer = ring::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = match settings.http2 {
            true => vec![H2.to_vec(), HTTP_11.to_vec()],
            false => vec![HTTP_11.to_vec()],
        };
        Ok(Self { config: Arc::new(config), shown, deadline: settings.deadline })
    }

    /// Shows the certificates that are in the files now, if these have changed; `None` if they have not.
    ///
    /// # Errors
    ///
    /// What is wrong with them; those that were shown so far still are.
    pub(crate) fn renew(&self, now: SystemTime) -> Option<Result<(), InvalidTls>> {
        self.shown.renew(now)
    }

    /// The certificates that are shown, in the order of the configuration.
    pub(crate) fn certificates(&self) -> Vec<Known> {
        self.shown.known()
    }

    /// Brings a connection through its handshake. Dropping the future drops the connection.
    ///
    /// # Errors
    ///
    /// Why that cannot be. The client has been told, where TLS has words for it.
    pub(crate) async fn accept(&self, stream: Stream) -> Result<Accepted, HandshakeFailed> {
        let session = ServerConnection::new(self.config.clone())
            .map_err(|error| HandshakeFailed::Refused(io::Error::other(error)))?;
        let mut stream = TlsStream::new(stream, session);
        match timeout(self.deadline, poll_fn(|context| stream.poll_handshake(context))).await {
            Ok(Ok(resumed)) => Ok(Accepted { stream: Box::new(stream), resumed }),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => match stream.into_plain() {
                Some(plain) => Err(HandshakeFailed::Plain(plain)),
                None => Err(HandshakeFailed::Refused(error)),
            },
            Ok(Err(_)) => Err(HandshakeFailed::Gone),
            Err(_) => Err(HandshakeFailed::Late),
        }
    }
}
