//! A client that is fed bytes and whose answers are kept, for those who hold the protocols against any bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Client, EndpointSettings};
use crate::session::replicas::{ReplicaSettings, Replicas};

/// Bytes that come in pieces, and what was answered.
struct Fed {
    left: Vec<u8>,
    piece: usize,
    answered: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Fed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.piece.min(buffer.remaining()).min(self.left.len());
        buffer.put_slice(&self.left[..count]);
        self.left.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Fed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered.lock().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What the endpoint answers to bytes that come in pieces of this size, where it has no server to ask.
pub(crate) async fn answers(bytes: &[u8], piece: usize) -> Vec<u8> {
    let settings = ReplicaSettings {
        replicas: 2,
        prefixes: Vec::new(),
        acknowledge: None,
        lock_wait: std::time::Duration::ZERO,
        doubt: std::time::Duration::ZERO,
    };
    let replicas = Arc::new(Replicas::new(Vec::new(), settings));
    let answered = Arc::<Mutex<Vec<u8>>>::default();
    let fed = Fed { left: bytes.to_vec(), piece: piece.max(1), answered: answered.clone() };
    let settings = EndpointSettings { item_bytes: 4096, connections: 1, allow: Vec::new() };
    // It ends with what it was fed.
    let _ = Client::new(Box::new(fed), replicas, settings).serve().await;
    std::mem::take(&mut answered.lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_make_no_difference() {
        let away = "SERVER_ERROR no memcached server is up\r\n";
        let bytes = b"get a\r\nset a 0 0 3\r\nabc\r\nset a 0 0 9999\r\nmn\r\nnonsense\r\n\r\nmg a v\r\nversion\r\nget b";
        let expected = format!("{away}{away}SERVER_ERROR object too large for cache\r\n");
        for piece in [1, 2, 5, 1000] {
            let answered = answers(bytes, piece).await;
            assert_eq!(String::from_utf8_lossy(&answered), expected, "in pieces of {piece}");
        }
    }
}
