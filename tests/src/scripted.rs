//! A web node whose connections a test speaks on itself, byte by byte: for what streams, changes its protocol, or answers while it is
//! still being asked.
//!
//! It reads the head of a request and leaves all else to the test's script; the connection ends with that. Probes are answered well
//! without it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::Address;
use crate::node::HEALTH_PATH;
use crate::ports::Port;
use crate::wire::{self, Left, Reader, RequestHead};

/// The node. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Scripted {
    port: Port,
    talks: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    listening: AbortHandle,
}

/// One request, and the connection that it came by.
#[derive(Debug)]
pub struct Talk {
    /// Its head.
    pub head: RequestHead,
    reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    left: Left,
    _open: Open,
}

/// Counts a talk as long as it lasts, however it ends.
#[derive(Debug)]
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scripted {
    /// Starts a node that does this with each request; an error is the end of the connection, like anything else.
    ///
    /// # Panics
    ///
    /// If its port cannot be opened.
    pub async fn start<F, S>(script: S) -> Self
    where
        S: Fn(Talk) -> F + Send + Sync + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let port = Port::claim();
        let listener = TcpListener::bind(port.address()).await.expect("a claimed port");
        let (talks, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, opened, script) = (talks.clone(), open.clone(), Arc::new(script));
        let task = tokio::spawn(async move {
            // Dropped with this task, and ends all connections with it.
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (counted, opened, script) = (counted.clone(), opened.clone(), script.clone());
                connections.spawn(async move {
                    if let Some(talk) = begin(stream, &counted, opened).await {
                        let _ = script(talk).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, talks, open, listening: task.abort_handle() }
    }

    /// Requests so far, probes aside.
    pub fn requests(&self) -> usize {
        self.talks.load(Ordering::SeqCst)
    }

    /// Requests that are being spoken about.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Ends all connections and the port, as the death of a process does.
    pub fn die(&self) {
        self.listening.abort();
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Address for Scripted {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

async fn begin(stream: TcpStream, talks: &AtomicUsize, open: Arc<AtomicUsize>) -> Option<Talk> {
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    let head = reader.request_head().await.ok()??;
    if head.target == HEALTH_PATH {
        let alive = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = writer.write_all(alive).await;
        return None;
    }
    talks.fetch_add(1, Ordering::SeqCst);
    open.fetch_add(1, Ordering::SeqCst);
    let left = Left::new(wire::request_framing(&head).ok()?);
    Some(Talk { head, reader, writer, left, _open: Open(open) })
}

impl Talk {
    /// The first header line of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::first(&self.head.headers, name)
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.head.target.split('?').next().unwrap_or_default()
    }

    /// Sends bytes at once.
    ///
    /// # Errors
    ///
    /// If the peer has left.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(self.writer.write_all(bytes.as_ref()).await?)
    }

    /// Sends a chunk of a chunked body; an empty one ends it.
    ///
    /// # Errors
    ///
    /// If the peer has left.
    pub async fn say_chunk(&mut self, bytes: &[u8]) -> Result<()> {
        self.say(format!("{:x}\r\n", bytes.len())).await?;
        self.say(bytes).await?;
        self.say("\r\n").await
    }

    /// The next piece of the request's body, empty at its end.
    ///
    /// # Errors
    ///
    /// If it is cut short.
    pub async fn piece(&mut self) -> Result<Bytes> {
        self.reader.piece(&mut self.left).await
    }

    /// The next bytes behind the head, whatever they are; empty when the peer is through.
    ///
    /// # Errors
    ///
    /// If the connection breaks.
    pub async fn hear(&mut self) -> Result<Bytes> {
        self.reader.some().await
    }

    /// Exactly so many of them.
    ///
    /// # Errors
    ///
    /// If fewer come.
    pub async fn hear_exactly(&mut self, count: u64) -> Result<Bytes> {
        self.reader.body(wire::Framing::Length(count)).await
    }

    /// Says that nothing more will be said.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.writer.shutdown().await?)
    }
}
