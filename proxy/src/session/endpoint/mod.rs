//! Where web nodes find their memcached: a listener that speaks its three protocols, before [`Replicas`].
//!
//! The first byte of a connection says whether it speaks binary ([`binary`]) or text ([`text`], with [`meta`] commands in between).
//! Requests of a connection are done one after the other, reads that come together are looked up together, and answers that gather go out
//! in one write. What a client may make this process hold is bounded: a line, an item, and the values of a few keys.

mod binary;
pub(crate) mod fed;
mod meta;
mod number;
mod service;
mod store;
mod text;

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::key::Key;
use super::replicas::{Failure, Replicas, Write};
use super::value::{self, Version};

pub(crate) use service::{Connections, Door, SessionService};

/// What is configured of the listener.
#[derive(Clone, Debug)]
pub(crate) struct EndpointSettings {
    /// Bytes that an item may have, as memcached counts them: with its key and what it is kept with.
    pub(crate) item_bytes: usize,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Who may connect; those who come over a Unix socket may by its mode.
    pub(crate) allow: Vec<ipnet::IpNet>,
}

/// What memcached keeps beside key and value of an item: a header, a CAS, flags, and the end of its line.
const ITEM_OVERHEAD: usize = 48 + 8 + 4 + 1 + 2;

/// Output that has gathered is written at this size.
const OUTPUT_MARK: usize = 64 * 1024;

/// Locks of one connection that are remembered. PHP holds one at a time.
const MOST_HELD: usize = 64;

/// What is kept of buffers between requests.
const KEEP_ROOM: usize = 16 * 1024;

/// What came of looking at the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// The first request in it is not all there.
    More,
    /// One was answered, or needed no answer.
    Next,
    Close,
}

trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// A connection of a web node.
struct Client {
    stream: Box<dyn Wire>,
    input: BytesMut,
    output: Vec<u8>,
    /// Bytes still to come that belong to a request that was refused.
    skipping: usize,
    replicas: Arc<Replicas>,
    settings: EndpointSettings,
    /// Locks of sessions that were taken over this connection, and not given back.
    held: SmallVec<[(Key, Version); 1]>,
}

impl Client {
    fn new(stream: Box<dyn Wire>, replicas: Arc<Replicas>, settings: EndpointSettings) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: Vec::new(),
            skipping: 0,
            replicas,
            settings,
            held: SmallVec::new(),
        }
    }

    /// Serves the connection to its end.
    async fn serve(mut self) -> io::Result<()> {
        let served = self.serve_requests().await;
        self.give_back_locks().await;
        served
    }

    /// Takes the lock of a session, or adds whatever else it is.
    async fn add(&mut self, key: &Key, write: &Write) -> Result<Option<Version>, Failure> {
        let added = self.replicas.add_or_wait(key, write).await?;
        if let (Some(version), true) = (added, key.is_lock())
            && self.held.len() < MOST_HELD
        {
            self.held.push((key.clone(), version));
        }
        Ok(added)
    }

    async fn delete(&mut self, key: &Key) -> Result<bool, Failure> {
        self.held.retain(|(held, _)| held != key);
        self.replicas.delete(key).await
    }

    /// Frees what the other end holds no more: it is gone, and would have freed it if it had come to its end. PHP closes its
    /// connection behind the lock; a process that is killed leaves it locked, with memcached for as long as a request may take.
    async fn give_back_locks(&mut self) {
        for (key, version) in std::mem::take(&mut self.held) {
            self.replicas.give_back(&key, version).await;
        }
    }

    async fn serve_requests(&mut self) -> io::Result<()> {
        let mut is_binary = None;
        loop {
            self.skip_on();
            let step = if self.input.is_empty() || self.skipping > 0 {
                Step::More
            } else if *is_binary.get_or_insert(self.input[0] == binary::REQUEST) {
                self.binary().await
            } else {
                self.text().await
            };
            match step {
                Step::More => {
                    self.flush().await?;
                    self.input.reserve(4096);
                    if self.stream.read_buf(&mut self.input).await? == 0 {
                        return Ok(());
                    }
                }
                Step::Next => self.flush_if_full().await?,
                Step::Close => {
                    self.flush().await?;
                    return self.stream.shutdown().await;
                }
            }
        }
    }

    /// Bytes that a value may have under a key of so many.
    fn most_bytes(&self, key: usize) -> usize {
        self.settings.item_bytes.saturating_sub(key + ITEM_OVERHEAD + value::HEADER)
    }

    /// Passes over what is of no use.
    fn skip(&mut self, bytes: usize) -> Step {
        self.skipping += bytes;
        Step::Next
    }

    fn skip_on(&mut self) {
        let skipped = self.skipping.min(self.input.len());
        self.input.advance(skipped);
        self.skipping -= skipped;
    }

    async fn flush_if_full(&mut self) -> io::Result<()> {
        if self.output.len() >= OUTPUT_MARK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        self.output.shrink_to(KEEP_ROOM);
        if self.input.is_empty() && self.input.capacity() > KEEP_ROOM {
            self.input = BytesMut::new();
        }
        Ok(())
    }
}
