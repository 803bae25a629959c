//! TLS towards visitors, by rustls on the connections that pingora's listeners accept.
//!
//! Read [`Acceptor`] first: it is made once per listener from files that are checked then, and brings each connection
//! through its handshake, in the connection's own task and under a deadline. What comes of it is a pingora `Stream`. Which
//! certificate is shown is decided by [`names`], and how new ones take their place by [`shown`]; which certificates of visitors are
//! believed, where they are asked for, by [`clients`]. Nothing here knows HTTP but the two names by which its versions are agreed
//! on (ALPN).

mod certificate;
mod clients;
mod names;
mod shown;
mod stream;
mod subject;
#[cfg(test)]
mod test;

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use pingora_core::protocols::Stream;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};
use tokio::time::timeout;

pub(crate) use certificate::{CertificateFiles, InvalidCertificate};
pub(crate) use clients::ClientAuth;

use clients::Clients;
use shown::Shown;
use stream::TlsStream;

use crate::front::identity::Identity;

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
    /// Asks visitors for certificates. `None`: they are not asked.
    pub(crate) client_auth: Option<ClientAuth>,
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
    /// Whose certificate was shown, in this session or the earlier one, where nodes are told of it.
    pub(crate) identity: Option<Arc<Identity>>,
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
    /// Made anew when other authorities are to be believed; connections keep the one that they began with.
    config: ArcSwap<ServerConfig>,
    provider: Arc<CryptoProvider>,
    shown: Arc<Shown>,
    clients: Option<Clients>,
    http2: bool,
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
        let clients = settings.client_auth.clone().map(|auth| Clients::new(auth, provider.clone()));
        let http2 = settings.http2;
        let config = ArcSwap::new(config(&provider, &shown, clients.as_ref(), http2)?);
        Ok(Self { config, provider, shown, clients, http2, deadline: settings.deadline })
    }

    /// Shows the certificates that are in the files now, if these have changed, and believes the authorities that are there now;
    /// `None` if all is as before.
    ///
    /// # Errors
    ///
    /// What is wrong with them; what held so far still does.
    pub(crate) fn renew(&self, now: SystemTime) -> Option<Result<(), InvalidTls>> {
        let shown = self.shown.renew(now);
        let Some(clients) = self.clients.as_ref().filter(|clients| clients.have_changed()) else {
            return shown;
        };
        // Its keys for tickets are new as well: who was believed on the word of an authority that is gone has to begin again.
        let renewed = config(&self.provider, &self.shown, Some(clients), self.http2);
        let renewed = renewed.map(|config| self.config.store(config));
        Some(shown.unwrap_or(Ok(())).and(renewed))
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
        let session = ServerConnection::new(self.config.load_full())
            .map_err(|error| HandshakeFailed::Refused(io::Error::other(error)))?;
        let mut stream = TlsStream::new(stream, session);
        match timeout(self.deadline, poll_fn(|context| stream.poll_handshake(context))).await {
            Ok(Ok(resumed)) => {
                let identity =
                    self.clients.as_ref().map(|clients| clients.identity(stream.shown_by_visitor()));
                let identity = identity.transpose().map_err(|reason| {
                    HandshakeFailed::Refused(io::Error::new(io::ErrorKind::InvalidData, reason))
                })?;
                Ok(Accepted { stream: Box::new(stream), resumed, identity: identity.flatten() })
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => match stream.into_plain() {
                Some(plain) => Err(HandshakeFailed::Plain(plain)),
                None => Err(HandshakeFailed::Refused(error)),
            },
            Ok(Err(_)) => Err(HandshakeFailed::Gone),
            Err(_) => Err(HandshakeFailed::Late),
        }
    }
}

/// How a listener speaks from now on.
///
/// # Errors
///
/// What is wrong with the authorities.
fn config(
    provider: &Arc<CryptoProvider>,
    shown: &Arc<Shown>,
    clients: Option<&Clients>,
    http2: bool,
) -> Result<Arc<ServerConfig>, InvalidTls> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()?),
    };
    let mut config = builder.with_cert_resolver(shown.clone());
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = match http2 {
        true => vec![H2.to_vec(), HTTP_11.to_vec()],
        false => vec![HTTP_11.to_vec()],
    };
    Ok(Arc::new(config))
}
