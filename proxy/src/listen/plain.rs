//! An accepted connection, as pingora's `IO`: the socket and nothing around it.
//!
//! pingora's own stream keeps buffers that the lane does not need, and looks at the clock at each end of each wait.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::layer::say_last_words;

/// A socket of either kind.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct PlainStream {
    socket: Socket,
    accepted: SystemTime,
    digest: Arc<SocketDigest>,
    proxy: Option<Arc<ProxyDigest>>,
    /// The client does not take what is written.
    blocked: bool,
}

impl PlainStream {
    /// A connection of `client`.
    pub(super) fn tcp(socket: TcpStream, client: std::net::SocketAddr) -> Self {
        // Answers go out whole, so there is nothing to gather; a failure only makes the last packet late.
        let _ = socket.set_nodelay(true);
        let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
        let _ = digest.peer_addr.set(Some(SocketAddr::Inet(client)));
        Self::new(Socket::Tcp(socket), digest)
    }

    /// A connection over a Unix socket.
    pub(super) fn unix(socket: UnixStream) -> Self {
        let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
        Self::new(Socket::Unix(socket), digest)
    }

    fn new(socket: Socket, digest: SocketDigest) -> Self {
        Self { socket, accepted: SystemTime::now(), digest: Arc::new(digest), proxy: None, blocked: false }
    }
}

impl Drop for PlainStream {
    fn drop(&mut self) {
        // Whoever took too little leaves megabytes in the kernel, which it would keep for as long as the client pleases; and
        // the answer is cut off either way.
        if let (true, Socket::Tcp(socket)) = (self.blocked, &self.socket) {
            let _ = socket.set_zero_linger();
        }
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Socket::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
        };
        self.blocked = written.is_pending();
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(context, parts),
        };
        self.blocked = written.is_pending();
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

#[async_trait]
impl Shutdown for PlainStream {
    async fn shutdown(&mut self) {
        say_last_words(self).await;
    }
}

impl UniqueID for PlainStream {
    fn id(&self) -> UniqueIDType {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
        }
    }
}

impl Ssl for PlainStream {}

impl GetTimingDigest for PlainStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.accepted, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for PlainStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.proxy.clone()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.proxy = Some(Arc::new(digest));
    }
}

impl GetSocketDigest for PlainStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.digest = Arc::new(digest);
    }
}

impl Peek for PlainStream {}
