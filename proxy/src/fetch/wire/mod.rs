//! HTTP/1 as spoken to nodes: one request sent over a [`Link`], one answer read from it.
//!
//! The request comes as finished bytes, the answer's head and body are read in place and strictly. Not here: which node,
//! what may be repeated, what is done with an answer. Nothing is shared, so nothing is locked; every wait ends at the
//! deadline that was set last.

mod body;
mod head;

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::HeaderName;
use tokio::time::Instant;

pub(crate) use head::NodeHead;

use crate::pool::Link;
use crate::pool::link::promised;
use body::Body;
pub(super) use body::Taken;

/// What is asked of the buffer before a read: a head and a small page fit.
const READ_ROOM: usize = 4 * 1024;

/// The same in the middle of a large body.
const BODY_ROOM: usize = 64 * 1024;

/// Interim answers that one answer may have before it; nobody sends more than a few.
pub(crate) const MAX_INTERIM: usize = 32;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The node ended the connection before the answer was whole.
    #[error("the node ended the connection")]
    Ended,
    /// The answer cannot be read, or could be read in two ways.
    #[error("{0}")]
    Malformed(&'static str),
    #[error("nothing came in time")]
    TimedOut,
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::TimedOut } else { Self::Io(error) }
    }
}

/// One exchange over a link.
pub(super) struct Session {
    link: Link,
    body: Body,
    /// How long the link may be kept when the body has been read; `None`: not at all.
    keep: Option<Duration>,
    /// The node has sent at least one byte.
    heard: bool,
    /// The node may change the protocol: it was asked to.
    upgrades: bool,
    /// Lines behind the body, as far as it has been read.
    trailers: Vec<u8>,
}

impl Session {
    pub(super) fn new(link: Link) -> Self {
        Self { link, body: Body::Close, keep: None, heard: false, upgrades: false, trailers: Vec::new() }
    }

    /// The request asks for another protocol, so that the answer may be 101.
    pub(super) fn may_upgrade(&mut self) {
        self.upgrades = true;
    }

    /// Whether the link carried a request before and this one has had no byte in return: the node may have closed it
    /// before the request came there.
    pub(super) fn may_be_stale(&self) -> bool {
        self.link.is_reused && !self.heard
    }

    /// Until when all coming reads and writes have to be through.
    pub(super) fn set_deadline(&mut self, due: Instant) {
        self.link.set_deadline(due);
    }

    /// Sends the request.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<(), WireError> {
        Ok(self.link.send(request).await?)
    }

    /// Reads the head of the answer; interim ones before it are shown to `interim`. `to_head`: the request was HEAD.
    ///
    /// # Errors
    ///
    /// [`WireError`].
    pub(super) async fn head(
        &mut self,
        to_head: bool,
        mut interim: impl FnMut(&NodeHead),
    ) -> Result<NodeHead, WireError> {
        for _ in 0..=MAX_INTERIM {
            let head = self.one_head().await?;
            // 101 ends HTTP on this connection; where nobody asked for it, it is no answer either.
            if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
                interim(&head);
                continue;
            }
            if head.status.is_informational() && self.upgrades {
                return Ok(head);
            }
            if head.status.is_informational() {
                return Err(WireError::Malformed("the node changes the protocol unasked"));
            }
            let framing = head.framing(to_head)?;
            self.body = Body::new(framing);
            if head.keeps_alive() && framing != body::Framing::Close {
                let promised = promised(head.headers.get(&KEEP_ALIVE).map(http::HeaderValue::as_bytes));
                self.keep = Some(promised.unwrap_or(Duration::MAX));
            }
            return Ok(head);
        }
        Err(WireError::Malformed("interim answers without end"))
    }

    async fn one_head(&mut self) -> Result<NodeHead, WireError> {
        // How far the buffer has been searched for the empty line.
        let mut searched = 0;
        loop {
            let input = &self.link.input;
            if let Some(length) = end_of_head(input, &mut searched) {
                let head = NodeHead::parse(&input[..length])?;
                self.link.input.advance(length);
                return Ok(head);
            }
            if input.len() >= head::MAX_BYTES {
                return Err(WireError::Malformed("the head is too large"));
            }
            if self.link.receive(READ_ROOM).await? == 0 {
                return Err(WireError::Ended);
            }
            self.heard = true;
        }
    }

    /// What has come of the body already.
    ///
    /// # Errors
    ///
    /// The chunks are malformed.
    pub(super) fn buffered(&mut self) -> Result<Taken, WireError> {
        self.body.take(&mut self.link.input, &mut self.trailers)
    }

    /// The next piece of the body; `None` at its end. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`WireError`].
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            match self.buffered()? {
                Taken::Piece(piece) => return Ok(Some(piece)),
                Taken::End => return Ok(None),
                Taken::More => {}
            }
            let room = self.body.left().map_or(BODY_ROOM, |left| {
                usize::try_from(left).unwrap_or(BODY_ROOM).clamp(READ_ROOM, BODY_ROOM)
            });
            if self.link.receive(room).await? == 0 {
                return self.body.ended().map(|()| None);
            }
        }
    }

    /// Whether the body has been read to its end, as far as that can be told without reading on.
    pub(super) fn is_through(&self) -> bool {
        self.body.left() == Some(0)
    }

    /// The lines behind the body, once that has been read to its end; empty if there are none.
    pub(super) fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }

    /// The link behind a head that says 101, with what came behind it.
    pub(super) fn into_upgraded(self) -> Link {
        self.link
    }

    /// The link and how long it may be kept, once the body has been read to its end.
    pub(super) fn into_link(self) -> Option<(Link, Duration)> {
        self.keep.map(|keep| (self.link, keep))
    }
}

/// Where the empty line of a head ends; `searched` is how far an earlier search came.
fn end_of_head(input: &[u8], searched: &mut usize) -> Option<usize> {
    for at in memchr::memchr_iter(b'\n', &input[*searched..]) {
        let at = *searched + at;
        match &input[at + 1..] {
            [b'\n', ..] => return Some(at + 2),
            [b'\r', b'\n', ..] => return Some(at + 3),
            // What follows this line end has not come yet.
            [] | [b'\r'] => {
                *searched = at;
                return None;
            }
            [_, ..] => {}
        }
    }
    *searched = input.len();
    None
}

#[cfg(test)]
mod tests;
