//! A connection to a memcached server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::wire::{Reply, read_reply};

/// Room for answers that a connection keeps between requests.
const KEEP_ROOM: usize = 16 * 1024;

/// Where a server listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Address {
    /// A name or an IP address, with a port.
    Tcp(String),
    Unix(std::path::PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Answers to what was asked at once.
pub(crate) type Replies = SmallVec<[Reply; 2]>;

#[derive(Debug)]
pub(crate) struct Link {
    socket: Socket,
    input: BytesMut,
}

impl Link {
    pub(crate) async fn open(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address) => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                // A server whose machine is gone says nothing; what waits longer than a deadline is told by that.
                let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
                let _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
                Socket::Tcp(socket)
            }
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
        };
        Ok(Self { socket, input: BytesMut::new() })
    }

    /// Whether nothing is known against a connection that has rested: the server has neither closed it nor said anything.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match &self.socket {
            Socket::Tcp(socket) => socket.try_read(&mut byte),
            Socket::Unix(socket) => socket.try_read(&mut byte),
        };
        self.input.is_empty() && read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends requests, and waits for their answers. Values have up to `most` bytes.
    ///
    /// Not to be used again after an error, nor if it was dropped before its end.
    pub(crate) async fn exchange(
        &mut self,
        requests: &[u8],
        count: usize,
        most: usize,
    ) -> io::Result<Replies> {
        self.write_all(requests).await?;
        let mut replies = Replies::new();
        while replies.len() < count {
            match read_reply(&mut self.input, most)? {
                Some(reply) => replies.push(reply),
                None => self.receive().await?,
            }
        }
        if self.input.capacity() > KEEP_ROOM && self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Ok(replies)
    }

    /// Sends a line and gives the lines of its answer, up to one that is `END` or an error.
    pub(crate) async fn lines(&mut self, request: &[u8], mut line: impl FnMut(&[u8])) -> io::Result<()> {
        self.write_all(request).await?;
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.input) else {
                if self.input.len() > KEEP_ROOM {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.receive().await?;
                continue;
            };
            let read = self.input.split_to(end + 1);
            match read.trim_ascii_end() {
                b"END" | b"OK" => return Ok(()),
                b"ERROR" => return Err(io::ErrorKind::Unsupported.into()),
                said if said.starts_with(b"VERSION ") => {
                    line(said);
                    return Ok(());
                }
                said if said.starts_with(b"BUSY")
                    || said.starts_with(b"SERVER_ERROR")
                    || said.starts_with(b"CLIENT_ERROR") =>
                {
                    return Err(io::Error::other(String::from_utf8_lossy(said).into_owned()));
                }
                said => line(said),
            }
        }
    }

    async fn receive(&mut self) -> io::Result<()> {
        self.input.reserve(4096);
        let Self { socket, input } = self;
        match Pin::new(socket).read_buf(input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Pin::new(&mut self.socket).write_all(bytes).await
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
