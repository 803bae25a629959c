//! What is read of those who stand in front of us, for whoever holds it against any bytes.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};

use clearcoat_cache::Scheme;
use clearcoat_conf::{ClientHeader, Peer};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, ReadBuf};

use super::LIMITS;
use crate::front::peers::Peers;
use crate::front::visitor::Visitor;
use crate::listen::chunks::ChunkScan;
use crate::listen::head::{self, Parsed};
use crate::listen::proxied;

/// Bytes that come in pieces.
struct Pieces<'b> {
    left: &'b [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.size.min(buffer.remaining()).min(self.left.len());
        let (now, later) = self.left.split_at(count);
        buffer.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

/// Reads a PROXY header from bytes that come in pieces of this size: what it says, if it is one, and how many bytes are left
/// behind it.
pub fn proxy_header(bytes: &[u8], piece: usize) -> (Option<String>, usize) {
    let mut pieces = Pieces { left: bytes, size: piece.max(1) };
    // It never waits.
    let read = proxied::read(&mut pieces).now_or_never().and_then(Result::ok);
    (read.map(|proxied| format!("{proxied:?}")), pieces.left.len())
}

/// Who asks over a connection of 10.0.0.1 with these header lines, where 10.0.0.0/8 is trusted, and through whom, the nearest
/// last; `None` if the lines are no head.
pub fn asker(lines: &[u8], forwarded: bool) -> Option<(IpAddr, Vec<IpAddr>)> {
    let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\n"].concat();
    let mut room = head::lines();
    let Parsed::Complete(head) = head::parse(&bytes, &mut room, &LIMITS) else { return None };
    let header = if forwarded { ClientHeader::Forwarded } else { ClientHeader::XForwardedFor };
    let trusted: Peer = "10.0.0.0/8".parse().ok()?;
    let peers = Peers { announced: Vec::new(), trusted: vec![trusted], header };
    let address = Some(IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)));
    let asker = peers.asker(Visitor { address, vouches: true, ..Visitor::unknown(Scheme::Http) }, &head);
    Some((asker.address?, asker.proxies().collect()))
}

/// What is read of a chunked body that comes in pieces of this size: where it ends, if it has, and its content; `None`
/// if it is malformed.
pub fn chunked_body(bytes: &[u8], piece: usize) -> Option<(Option<usize>, Vec<u8>)> {
    let (mut scan, mut at, mut content) = (ChunkScan::new(), 0, Vec::new());
    for part in bytes.chunks(piece.max(1)) {
        at += scan.decode(part, |bytes| content.extend_from_slice(bytes)).ok()?;
        if scan.is_done() {
            return Some((Some(at), content));
        }
    }
    Some((None, content))
}
