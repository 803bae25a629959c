//! A visitor: sends requests as they are written, however wrong, and reads answers strictly.
//!
//! A [`Connection`] is one TCP connection with everything a test may want to do to it. The short ways (`Proxy::get` and friends) open
//! one connection for one request. Nothing here follows redirects, keeps cookies or decodes a content coding.

mod answer;
mod request;

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use answer::{Answer, Head, Served};
pub use request::Request;
pub use request::USUAL_HOST;

use crate::wait::PATIENCE;
use crate::wire::{self, Framing, Left, Reader};

/// Where bytes come from.
pub trait Incoming: AsyncRead + Debug + Send + Unpin {}
impl<T: AsyncRead + Debug + Send + Unpin> Incoming for T {}

/// Where bytes go.
pub trait Outgoing: AsyncWrite + Debug + Send + Unpin {}
impl<T: AsyncWrite + Debug + Send + Unpin> Outgoing for T {}

/// One connection to a server.
#[derive(Debug)]
pub struct Connection {
    reader: Reader<Box<dyn Incoming>>,
    writer: Box<dyn Outgoing>,
    local: SocketAddr,
    patience: Duration,
}

impl Connection {
    /// Connects, or tells why not.
    ///
    /// # Errors
    ///
    /// If the connection is refused or not accepted in time.
    pub async fn try_open(address: SocketAddr) -> Result<Self> {
        Self::around(
            timeout(PATIENCE, TcpStream::connect(address)).await.context("connecting took too long")??,
        )
    }

    /// Connects.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.unwrap_or_else(|error| panic!("connecting to {address}: {error:#}"))
    }

    /// Connects from another loopback address (127.0.0.0/8), so that the server sees a stranger.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn open_from(from: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from, 0)).expect("a loopback address to start from");
        let stream =
            socket.connect(address).await.unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        Self::around(stream).expect("a connected socket")
    }

    /// Connects with a receive buffer as small as the kernel allows, so that a reader that pauses is felt by the server soon.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn open_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(1024).expect("a small buffer");
        let stream =
            socket.connect(address).await.unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        Self::around(stream).expect("a connected socket")
    }

    fn around(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let (reader, writer) = stream.into_split();
        Ok(Self::over(reader, writer, local))
    }

    /// A connection whose bytes travel under something else, such as TLS; `local` is our side's address.
    pub fn over(reader: impl Incoming + 'static, writer: impl Outgoing + 'static, local: SocketAddr) -> Self {
        let reader: Box<dyn Incoming> = Box::new(reader);
        Self { reader: Reader::new(reader), writer: Box::new(writer), local, patience: PATIENCE }
    }

    /// How long any one answer may take from now on; [`PATIENCE`] at first.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Our side's address, as the server sees it.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// If the server has closed, or does not read in time.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        // Flushed, because a layer like TLS may keep what the socket did not take at once, and nobody else would ask for it.
        let sending = async {
            self.writer.write_all(bytes.as_ref()).await?;
            self.writer.flush().await
        };
        Ok(timeout(self.patience, sending).await.context("sending took too long")??)
    }

    /// Sends bytes in pieces of `size` with a pause behind each. A server that closes meanwhile ends it without an error: that is what
    /// slow senders wait for.
    pub async fn send_slowly(&mut self, bytes: &[u8], size: usize, pause: Duration) {
        for piece in bytes.chunks(size) {
            if self.writer.write_all(piece).await.is_err() || self.writer.flush().await.is_err() {
                return;
            }
            sleep(pause).await;
        }
    }

    /// Sends a byte now and then until the server answers or closes.
    ///
    /// # Errors
    ///
    /// If it does neither in time.
    pub async fn drip(&mut self, pause: Duration) -> Result<()> {
        let dripping = async {
            loop {
                // What closed already may have answered before.
                let _ = self.writer.write_all(b"x").await;
                let _ = self.writer.flush().await;
                if timeout(pause, self.reader.begun()).await.is_ok() {
                    return;
                }
            }
        };
        timeout(self.patience, dripping).await.context("the server takes it, however slow")
    }

    /// Says that nothing more will be sent (half-close).
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub async fn finish_sending(&mut self) -> Result<()> {
        Ok(self.writer.shutdown().await?)
    }

    /// Reads the head of the next answer, interim answers (1xx) put aside; [`Connection::piece`] and [`Connection::rest`] read on.
    ///
    /// # Errors
    ///
    /// If the connection ends or breaks, the head is malformed, its framing doubtful, or it does not come in time.
    pub async fn head(&mut self, method: &str) -> Result<Head> {
        let reading = async {
            let mut interim = Vec::new();
            loop {
                let Some(head) = self.reader.answer_head().await? else { bail!("closed before an answer") };
                let framing = wire::answer_framing(method, &head)?;
                if (100..200).contains(&head.status) && head.status != 101 {
                    interim.push(head.status);
                    continue;
                }
                return Ok(Head { head, framing, interim, left: Left::new(framing) });
            }
        };
        timeout(self.patience, reading).await.context("no answer in time")?
    }

    /// The next bytes of the body behind `head`, empty at its end.
    ///
    /// # Errors
    ///
    /// If the body is cut short or malformed, or nothing comes in time.
    pub async fn piece(&mut self, head: &mut Head) -> Result<Bytes> {
        timeout(self.patience, self.reader.piece(&mut head.left))
            .await
            .context("no more of the body in time")?
    }

    /// What of the body behind `head` was not read yet, with the head: the whole answer if [`Connection::piece`] was not called.
    ///
    /// # Errors
    ///
    /// As [`Connection::piece`].
    pub async fn rest(&mut self, mut head: Head) -> Result<Answer> {
        let mut body = BytesMut::new();
        loop {
            let piece = self.piece(&mut head).await?;
            if piece.is_empty() {
                return Ok(Answer::new(head, body.freeze()));
            }
            body.extend_from_slice(&piece);
        }
    }

    /// Reads the next answer whole; `method` is that of its request, since the answer to a HEAD has no body.
    ///
    /// # Errors
    ///
    /// As [`Connection::head`] and [`Connection::piece`].
    pub async fn answer(&mut self, method: &str) -> Result<Answer> {
        let head = self.head(method).await?;
        self.rest(head).await
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`] and [`Connection::answer`].
    pub async fn try_ask(&mut self, request: &Request) -> Result<Answer> {
        self.send(request.to_bytes()).await?;
        self.answer(request.method()).await
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn ask(&mut self, request: &Request) -> Answer {
        self.try_ask(request)
            .await
            .unwrap_or_else(|error| panic!("{} {}: {error:#}", request.method(), request.target()))
    }

    /// GETs a page on this connection.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn get(&mut self, target: &str) -> Answer {
        self.ask(&Request::get(target)).await
    }

    /// Reads one interim answer (1xx) and gives its status.
    ///
    /// # Errors
    ///
    /// If something else comes, or nothing in time.
    pub async fn interim(&mut self) -> Result<u16> {
        let head = timeout(self.patience, self.reader.answer_head()).await.context("no answer in time")??;
        let status = head.context("closed before an answer")?.status;
        ensure!((100..200).contains(&status), "status {status} instead of an interim answer");
        Ok(status)
    }

    /// Reads so many bytes as they come, framed by nothing: what follows an upgrade.
    ///
    /// # Errors
    ///
    /// If fewer come before the end of the stream or in time.
    pub async fn bytes(&mut self, count: u64) -> Result<Bytes> {
        timeout(self.patience, self.reader.body(Framing::Length(count))).await.context("no bytes in time")?
    }

    /// Waits until the server closes, with or without a reset, and requires that it sends nothing more before.
    ///
    /// # Errors
    ///
    /// If bytes come, or the connection is still open when `limit` has passed.
    pub async fn closed_within(&mut self, limit: Duration) -> Result<()> {
        match timeout(limit, self.reader.some()).await {
            Err(_) => bail!("still open after {limit:?}"),
            // A reset is a close too: unread bytes of ours make the kernel send one.
            Ok(Err(_)) => Ok(()),
            Ok(Ok(bytes)) => {
                ensure!(
                    bytes.is_empty(),
                    "bytes came instead of a close: {:?}",
                    String::from_utf8_lossy(&bytes)
                );
                Ok(())
            }
        }
    }

    /// As [`Connection::closed_within`] with the usual patience.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn closed(&mut self) -> Result<()> {
        self.closed_within(self.patience).await
    }
}

/// One request on a connection of its own.
///
/// # Errors
///
/// If any step fails.
pub async fn try_ask(address: SocketAddr, request: &Request) -> Result<Answer> {
    Connection::try_open(address).await?.try_ask(request).await
}

/// One request on a connection of its own.
///
/// # Panics
///
/// If any step fails.
pub async fn ask(address: SocketAddr, request: &Request) -> Answer {
    Connection::open(address).await.ask(request).await
}

/// Visitors that ask the same at the same time, each on a connection of its own; see [`crowd`].
#[derive(Debug)]
pub struct Crowd(JoinSet<Result<Answer>>);

/// Sends a request from `count` visitors at once.
pub fn crowd(address: SocketAddr, count: usize, request: &Request) -> Crowd {
    let mut visitors = JoinSet::new();
    for _ in 0..count {
        let request = request.clone();
        visitors.spawn(async move { try_ask(address, &request).await });
    }
    Crowd(visitors)
}

impl Crowd {
    /// All answers, in the order in which they came.
    ///
    /// # Panics
    ///
    /// If any visitor got none.
    pub async fn answers(mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(visitor) = self.0.join_next().await {
            let answer = visitor.expect("a visitor does not panic");
            answers.push(answer.unwrap_or_else(|error| panic!("one of the crowd: {error:#}")));
        }
        answers
    }

    /// The next answer that comes; nothing when all have come.
    ///
    /// # Panics
    ///
    /// If this visitor got none.
    pub async fn next(&mut self) -> Option<Answer> {
        let answer = self.0.join_next().await?.expect("a visitor does not panic");
        Some(answer.unwrap_or_else(|error| panic!("one of the crowd: {error:#}")))
    }
}
