//! The body of a node's answer, taken out of its framing (RFC 9112 section 6). Trailers are kept apart.

use bytes::{Buf, Bytes, BytesMut};

use super::WireError;
use crate::listen::chunks::ChunkScan;

/// How a body is told from what follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// All that comes until the node ends the connection.
    Close,
}

/// How far a body has been read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    Length(u64),
    Chunked(ChunkScan),
    Close,
}

/// What the bytes so far hold.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::fetch) enum Taken {
    Piece(Bytes),
    /// Nothing; read more.
    More,
    /// The body has been taken to its end.
    End,
}

impl Body {
    pub(super) const fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(ChunkScan::new()),
            Framing::Close => Self::Close,
        }
    }

    /// Bytes that are still to come, as far as that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes what `input` holds of the body; what follows the body stays there. Lines behind a chunked body go to `trailers`.
    ///
    /// # Errors
    ///
    /// The chunks are malformed.
    pub(super) fn take(&mut self, input: &mut BytesMut, trailers: &mut Vec<u8>) -> Result<Taken, WireError> {
        match self {
            Self::Length(0) => Ok(Taken::End),
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                Ok(if count == 0 { Taken::More } else { Taken::Piece(piece(input, count)) })
            }
            Self::Close if input.is_empty() => Ok(Taken::More),
            Self::Close => Ok(Taken::Piece(piece(input, input.len()))),
            Self::Chunked(scan) => {
                let mut content = Vec::with_capacity(input.len());
                let read = scan
                    .decode_all(input, |bytes| content.extend_from_slice(bytes), |byte| trailers.push(byte))
                    .map_err(|_| WireError::Malformed("the chunks are malformed"))?;
                input.advance(read);
                Ok(match (content.is_empty(), scan.is_done()) {
                    (false, _) => {
                        // It may be stored as it is, and is not to weigh more than it is long.
                        content.shrink_to_fit();
                        Taken::Piece(content.into())
                    }
                    (true, true) => Taken::End,
                    (true, false) => Taken::More,
                })
            }
        }
    }

    /// The node has ended the connection.
    ///
    /// # Errors
    ///
    /// That is not how this body ends.
    pub(super) const fn ended(&self) -> Result<(), WireError> {
        match self {
            Self::Close | Self::Length(0) => Ok(()),
            Self::Length(_) | Self::Chunked(_) => Err(WireError::Ended),
        }
    }
}

/// The first `count` bytes of `input`. Copied, unless they fill the buffer: a piece may be stored as it is, and is not to
/// keep more memory than it has bytes.
fn piece(input: &mut BytesMut, count: usize) -> Bytes {
    if count == input.len() && input.len() == input.capacity() {
        return input.split().freeze();
    }
    let piece = Bytes::copy_from_slice(&input[..count]);
    input.advance(count);
    if input.is_empty() {
        // Gives the room at the front back.
        input.clear();
    }
    piece
}
