//! One connection to a node that speaks HTTP/1: its stream, its read buffer and its deadline.
//!
//! Plain nodes are connected to without pingora, whose stream has buffers of 64 KiB and copies through them; TLS is
//! pingora's, with everything that a [`peer`](super::peer) says of it. What is sent over a link and when it may be kept is
//! its user's business.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::ErrorType;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::peer::{PeerError, Target};
use super::settings::PoolSettings;
use crate::listen::deadline::Deadline;

/// The buffer that a link keeps while it is idle, in bytes; a larger one is let go.
const KEEP_ROOM: usize = 16 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// It cannot even be tried.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The node refused, or TLS did not come about.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("the connection took too long")]
    TimedOut,
}

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// pingora's stream, which is TLS.
    Tls(Stream),
}

/// A connection to a node.
pub(crate) struct Link {
    wire: Wire,
    /// Received and not yet consumed.
    pub(crate) input: BytesMut,
    /// Carried a request before, so the node may have closed it without our knowing.
    pub(crate) is_reused: bool,
    deadline: Deadline,
    target: Target,
    /// By whose trust it was made.
    settings: Arc<PoolSettings>,
}

impl Link {
    /// Connects to `target` under the terms of `settings` and sends `header`, which may be empty, before all else; `peer` says the same
    /// for TLS.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; not a byte of a request has gone out.
    pub(super) async fn connect(
        target: &Target,
        settings: &Arc<PoolSettings>,
        header: &[u8],
        peer: impl FnOnce() -> Result<HttpPeer, PeerError>,
        connector: &TransportConnector,
    ) -> Result<Self, LinkError> {
        let wait = settings.timeouts.connect;
        let failed = |error: io::Error| LinkError::Failed(error.to_string());
        let wire = match (settings.tls.is_some(), target) {
            (false, Target::Tcp(address)) => {
                let connecting = async {
                    let mut stream = TcpStream::connect(address).await?;
                    // Requests go out in one write and are waited for.
                    stream.set_nodelay(true)?;
                    stream.write_all(header).await?;
                    Ok(stream)
                };
                let stream = timeout(wait, connecting).await;
                Wire::Tcp(stream.map_err(|_| LinkError::TimedOut)?.map_err(failed)?)
            }
            (false, Target::Unix(path)) => {
                let connecting = async {
                    let mut stream = UnixStream::connect(path).await?;
                    stream.write_all(header).await?;
                    Ok(stream)
                };
                let stream = timeout(wait, connecting).await;
                Wire::Unix(stream.map_err(|_| LinkError::TimedOut)?.map_err(failed)?)
            }
            (true, _) => {
                let peer = peer()?;
                // The peer carries the limit for the TCP connect; this one bounds TLS and all.
                match timeout(wait * 2, connector.new_stream(&peer)).await {
                    Ok(Ok(stream)) => Wire::Tls(stream),
                    Ok(Err(error)) => {
                        return Err(match error.etype() {
                            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                                LinkError::TimedOut
                            }
                            _ => LinkError::Failed(error.to_string()),
                        });
                    }
                    Err(_) => return Err(LinkError::TimedOut),
                }
            }
        };
        Ok(Self {
            wire,
            input: BytesMut::new(),
            is_reused: false,
            deadline: Deadline::after(settings.timeouts.first_byte),
            target: target.clone(),
            settings: Arc::clone(settings),
        })
    }

    /// Whether it leads where a new one under `settings` would lead, to somebody who is trusted by the same, and would have begun alike.
    pub(super) fn leads_to(&self, target: &Target, settings: &Arc<PoolSettings>) -> bool {
        let alike =
            |own: &PoolSettings| own.tls == settings.tls && own.proxy_protocol == settings.proxy_protocol;
        self.target == *target && (Arc::ptr_eq(&self.settings, settings) || alike(&self.settings))
    }

    /// Where it leads.
    #[cfg(test)]
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Makes it ready to lie idle.
    pub(super) fn rest(&mut self) {
        self.is_reused = true;
        if self.input.capacity() > KEEP_ROOM {
            self.input = BytesMut::new();
        }
    }

    /// Whether nothing is known that speaks against using it: the node has neither closed it nor said anything unasked.
    /// Costs no system call, so what came in this very moment may be missed.
    pub(super) fn looks_open(&mut self) -> bool {
        let mut byte = [0];
        let nothing_yet =
            |result: io::Result<usize>| result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        match &mut self.wire {
            Wire::Tcp(stream) => nothing_yet(stream.try_read(&mut byte)),
            Wire::Unix(stream) => nothing_yet(stream.try_read(&mut byte)),
            Wire::Tls(stream) => {
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }

    /// The same, asked of the system: what the node did is seen as soon as this machine has heard of it. `false` for TLS,
    /// where the socket alone does not tell.
    pub(super) fn is_open_for_certain(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match &self.wire {
            Wire::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Wire::Unix(stream) => SockRef::from(stream).peek(&mut byte),
            Wire::Tls(_) => return false,
        };
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Until when the coming reads and writes have to be through.
    pub(crate) fn set_deadline(&mut self, due: Instant) {
        self.deadline.set(due);
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    ///
    /// Those of the connection; [`io::ErrorKind::TimedOut`] at the deadline.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            let Self { wire, deadline, .. } = self;
            let count = poll_fn(|context| {
                let polled = match wire {
                    Wire::Tcp(stream) => Pin::new(stream).poll_write(context, &bytes[sent..]),
                    Wire::Unix(stream) => Pin::new(stream).poll_write(context, &bytes[sent..]),
                    Wire::Tls(stream) => Pin::new(stream).poll_write(context, &bytes[sent..]),
                };
                or_late(polled, deadline, context)
            })
            .await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            sent += count;
        }
        match &mut self.wire {
            // These have no buffer of their own.
            Wire::Tcp(_) | Wire::Unix(_) => Ok(()),
            Wire::Tls(stream) => stream.flush().await,
        }
    }

    /// Takes more bytes into `input`, for which there is room for at least `room`; zero: the node has ended the
    /// connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// Those of the connection; [`io::ErrorKind::TimedOut`] at the deadline.
    pub(crate) async fn receive(&mut self, room: usize) -> io::Result<usize> {
        let Self { wire, input, deadline, .. } = self;
        input.reserve(room);
        poll_fn(|context| {
            let polled = match wire {
                Wire::Tcp(stream) => poll_into(stream, input, context),
                Wire::Unix(stream) => poll_into(stream, input, context),
                Wire::Tls(stream) => poll_into(stream, input, context),
            };
            or_late(polled, deadline, context)
        })
        .await
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("target", &self.target).finish_non_exhaustive()
    }
}

/// What an upgrade made of it: bytes without any deadline of the link's own. What is in `input` has been read already.
impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(context, room),
            Wire::Unix(stream) => Pin::new(stream).poll_read(context, room),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, room),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Wire::Unix(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

fn poll_into<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    use std::future::Future;
    use tokio::io::AsyncReadExt;
    // The future holds nothing between polls, so making it anew each time loses nothing.
    std::pin::pin!(stream.read_buf(input)).poll(context)
}

fn or_late<T>(
    polled: Poll<io::Result<T>>,
    deadline: &mut Deadline,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => deadline.poll_passed(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
    }
}

/// How long a node keeps an idle connection by its own word; `None`: it does not say.
pub(crate) fn promised(keep_alive: Option<&[u8]>) -> Option<Duration> {
    let text = std::str::from_utf8(keep_alive?).ok()?;
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

#[cfg(test)]
pub(crate) mod test {
    #![allow(clippy::unwrap_used)]

    use std::net::SocketAddr;
    use std::sync::LazyLock;

    use pingora_core::connectors::ConnectorOptions;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::peer::peer;
    use super::super::settings::{NodeAddress, NodeTls, TrustedCas};
    use super::super::test::{settings, tls_acceptor};
    use super::*;

    /// Connects to `address`, as to a node.
    async fn connect(address: SocketAddr, tls: Option<NodeTls>) -> Result<Link, LinkError> {
        // One for all: it reads the system's certificate authorities when it is made.
        static CONNECTOR: LazyLock<TransportConnector> =
            LazyLock::new(|| TransportConnector::new(Some(ConnectorOptions::new(1))));
        let settings = Arc::new(PoolSettings { tls, ..settings(&[1]) });
        let target = Target::Tcp(address);
        let peer = || peer(&target, &NodeAddress::Ip(address), settings.tls.as_ref(), &settings.timeouts);
        Link::connect(&target, &settings, &[], peer, &CONNECTOR).await
    }

    /// A connection to `address`, as to a plain node.
    pub(crate) async fn link_to(address: SocketAddr) -> Link {
        connect(address, None).await.unwrap()
    }

    /// A connection and the node's end of it.
    pub(crate) async fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = link_to(listener.local_addr().unwrap()).await;
        (link, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn what_the_node_did_is_seen() {
        let (mut link, node) = pair().await;
        assert!(link.looks_open() && link.is_open_for_certain());
        drop(node);
        // The end of a connection to oneself is there at once.
        assert!(!link.is_open_for_certain());
        while link.looks_open() {
            tokio::task::yield_now().await;
        }
        let (link, mut node) = pair().await;
        node.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        assert!(!link.is_open_for_certain(), "something was said unasked");
    }

    #[tokio::test]
    async fn tls_is_as_plain_to_who_trusts_the_node() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = tokio::spawn(async move {
            let acceptor = tls_acceptor();
            // The first is not trusted, and left before it has said anything.
            assert!(acceptor.accept(listener.accept().await.unwrap().0).await.is_err());
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            for _ in 0..2 {
                let mut asked = [0; 4];
                stream.read_exact(&mut asked).await.unwrap();
                stream.write_all(&asked).await.unwrap();
                stream.flush().await.unwrap();
            }
            stream.shutdown().await.unwrap();
        });
        let tls = |ca| Some(NodeTls { verify: true, sni: None, ca });
        assert!(matches!(connect(address, tls(None)).await, Err(LinkError::Failed(_))));
        let ca = TrustedCas::from_pem(include_bytes!("test/ca.pem")).unwrap();
        let mut link = connect(address, tls(Some(ca))).await.unwrap();
        for asked in [b"one.", b"two."] {
            assert!(link.looks_open(), "session tickets are none of the node's words");
            link.set_deadline(Instant::now() + Duration::from_secs(10));
            link.send(asked).await.unwrap();
            while link.input.len() < asked.len() {
                assert_ne!(link.receive(64).await.unwrap(), 0);
            }
            assert_eq!(link.input.split(), asked[..]);
        }
        assert!(!link.is_open_for_certain(), "that cannot be told of TLS");
        node.await.unwrap();
        while link.looks_open() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_an_error_and_not_a_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(connect(address, None).await, Err(LinkError::Failed(_))));
    }

    #[test]
    fn nodes_tell_how_long_they_keep_a_connection() {
        for (line, expected) in [
            (Some("timeout=5, max=100"), Some(5)),
            (Some("max=100, timeout=15"), Some(15)),
            (Some("timeout=0"), Some(0)),
            (Some("timeout=x"), None),
            (Some("max=1"), None),
            (None, None),
        ] {
            assert_eq!(promised(line.map(str::as_bytes)), expected.map(Duration::from_secs), "{line:?}");
        }
    }
}
