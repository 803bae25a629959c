//! A connection under TLS, as pingora's `IO`, so that the lane, the pass road and whatever else runs on a connection need
//! not know.
//!
//! What a caller hands over in one write goes into as few records as it fits, and these into one write to the socket. What
//! the socket does not take at once is kept, 64 KiB of it at most, and goes out before anything else: at the next write or
//! flush, and while somebody waits for what the client sends. The first of these also carries what a handshake leaves to be
//! sent, so that session tickets travel with the first answer.

use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{ALPN, Shutdown, Ssl, Stream};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::layer::{say_last_words, tell_of_below};

#[derive(Debug)]
pub(super) struct TlsStream {
    inner: Stream,
    session: ServerConnection,
    /// The first byte that the client sent.
    first: Option<u8>,
    /// Known once the handshake is done.
    digest: Option<Arc<SslDigest>>,
    /// What is still to be sent is the end of the handshake, which is short: it need not be gone before the first write.
    left_by_handshake: bool,
    closing: bool,
}

impl TlsStream {
    pub(super) fn new(inner: Stream, session: ServerConnection) -> Self {
        Self { inner, session, first: None, digest: None, left_by_handshake: false, closing: false }
    }

    /// Goes on with the handshake until it is done, and tells whether it was an old session's.
    ///
    /// # Errors
    ///
    /// The connection broke (`UnexpectedEof` if it just ended), or the client cannot be agreed with (`InvalidData`, with a
    /// [`rustls::Error`]). It has been told so then.
    pub(super) fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.session.is_handshaking() {
            // What the socket does not take goes on with the next poll, beside the wait for the client.
            let _ = self.poll_send(context)?;
            if ready!(self.poll_receive(context)?) == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.left_by_handshake = true;
        let cipher = self.session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let version = self.session.protocol_version().and_then(|version| version.as_str());
        let digest =
            SslDigest::new(cipher.unwrap_or_default(), version.unwrap_or_default(), None, None, Vec::new());
        self.digest = Some(Arc::new(digest));
        Poll::Ready(Ok(self.session.handshake_kind() == Some(HandshakeKind::Resumed)))
    }

    /// The certificates that the visitor has shown, their own first; also in the session that this one goes on with.
    pub(super) fn shown_by_visitor(&self) -> Option<&[CertificateDer<'static>]> {
        self.session.peer_certificates()
    }

    /// The connection below, if what came over it so far is an HTTP request in the clear.
    pub(super) fn into_plain(self) -> Option<Stream> {
        // Records of a handshake begin with 22; methods are written in capitals.
        self.first.is_some_and(|first| first.is_ascii_uppercase()).then_some(self.inner)
    }

    /// Reads from the socket once. Gives the number of bytes, zero at the end.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut reader = Blocking { stream: &mut self.inner, context, first: &mut self.first };
        let count = ready!(pending_if_blocked(self.session.read_tls(&mut reader)))?;
        if let Err(error) = self.session.process_new_packets() {
            let is_plain = self.first.is_some_and(|first| first.is_ascii_uppercase());
            if !(self.session.is_handshaking() && is_plain) {
                // Best effort: the alert says why, and the connection ends anyway.
                let _ = self.poll_send(context);
            }
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(count))
    }

    /// Sends all that is encrypted.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut writer = Blocking { stream: &mut self.inner, context, first: &mut self.first };
            if ready!(pending_if_blocked(self.session.write_tls(&mut writer)))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Copies out what is decrypted. Gives the number of bytes; `None` if nothing is there yet.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<Option<usize>> {
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok([]) => return Ok(Some(buffer.filled().len() - before)),
                Ok(bytes) => {
                    let count = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes[..count]);
                    reader.consume(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if buffer.filled().len() == before => return Err(error),
                Err(_) => break,
            }
        }
        let count = buffer.filled().len() - before;
        Ok((count > 0 || buffer.remaining() == 0).then_some(count))
    }

    /// Takes what `write` hands to the session, once what was taken before is sent, and sends it as far as it goes.
    fn poll_take_in(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(&mut ServerConnection) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        // The end of the handshake may be gone already, sent while the first request was waited for; so this is the first
        // write's to know, whatever is still to be sent: a later one may find no room behind what was kept.
        let left_by_handshake = std::mem::take(&mut self.left_by_handshake);
        if self.session.wants_write() && !left_by_handshake {
            ready!(self.poll_send(context))?;
        }
        let taken = write(&mut self.session)?;
        match self.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }
}

/// What had to be waited for, as rustls says it.
fn blocked_if_pending<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The same the other way round.
fn pending_if_blocked<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// The connection below, as rustls wants it: what would have to be waited for is `WouldBlock`.
struct Blocking<'s, 'c, 'w> {
    stream: &'s mut Stream,
    context: &'c mut Context<'w>,
    first: &'s mut Option<u8>,
}

impl io::Read for Blocking<'_, '_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(room);
        blocked_if_pending(Pin::new(&mut *self.stream).poll_read(self.context, &mut buffer))?;
        if self.first.is_none() {
            *self.first = buffer.filled().first().copied();
        }
        Ok(buffer.filled().len())
    }
}

impl io::Write for Blocking<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        blocked_if_pending(Pin::new(&mut *self.stream).poll_write(self.context, bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        // A plain write costs the kernel less than one of a list of one.
        if let [part] = parts {
            return self.write(part);
        }
        blocked_if_pending(Pin::new(&mut *self.stream).poll_write_vectored(self.context, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.take(buffer)?.is_some() {
                return Poll::Ready(Ok(()));
            }
            // Only one who waits sends: a request that is here already gets its answer in the same write.
            if this.poll_receive(context)?.is_pending() {
                if let Poll::Ready(Err(error)) = this.poll_send(context) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_take_in(context, |session| session.writer().write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.poll_take_in(context, |session| session.writer().write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            // So that the client can tell the end from a cut (RFC 8446 section 6.1).
            self.closing = true;
            self.session.send_close_notify();
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for TlsStream {
    async fn shutdown(&mut self) {
        say_last_words(self).await;
    }
}

impl Ssl for TlsStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.digest.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.session.alpn_protocol()? {
            super::H2 => Some(ALPN::H2),
            super::HTTP_11 => Some(ALPN::H1),
            _ => None,
        }
    }
}

tell_of_below!(TlsStream, inner);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::timeout;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream as Client;

    use super::super::test::{acceptor, trusting};
    use super::*;

    /// Both ends of a connection that holds so many bytes each way, the handshake done.
    async fn connected(room: usize) -> (Stream, Client<DuplexStream>) {
        let (acceptor, certificate) = acceptor(&["a.test"]);
        let (ours, theirs) = tokio::io::duplex(room);
        let accepting = tokio::spawn(async move { acceptor.accept(Box::new(ours)).await });
        let config: ClientConfig = trusting(&certificate);
        let connecting = TlsConnector::from(Arc::new(config));
        let client = connecting.connect(ServerName::try_from("a.test").unwrap(), theirs).await.unwrap();
        (accepting.await.unwrap().unwrap().stream, client)
    }

    #[tokio::test]
    async fn an_answer_is_one_record_and_brings_the_tickets_along() {
        let (mut ours, client) = connected(1 << 20).await;
        let parts = [IoSlice::new(&[1; 300]), IoSlice::new(&[2; 4000])];
        assert_eq!(ours.write_vectored(&parts).await.unwrap(), 4300);
        let (mut raw, _) = client.into_inner();
        let mut bytes = vec![0; 1 << 16];
        let count = raw.read(&mut bytes).await.unwrap();
        let mut records = Vec::new();
        let mut rest = &bytes[..count];
        while let [kind, _, _, high, low, behind @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            records.push((*kind, length));
            rest = &behind[length..];
        }
        // The tickets, then 4300 bytes with the record's inner type and tag (RFC 8446 section 5.2).
        assert_eq!((records.len(), records.last()), (2, Some(&(23, 4300 + 1 + 16))), "{records:?}");
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_goes_out_while_something_is_waited_for() {
        let (mut ours, mut client) = connected(700).await;
        let serving = tokio::spawn(async move {
            // Taken in whole although the socket has no room, and not flushed.
            let taken = ours.write(&[7; 50_000]).await.unwrap();
            let mut question = [0; 5];
            ours.read_exact(&mut question).await.unwrap();
            ours.write_all(&question).await.unwrap();
            ours.shutdown().await.unwrap();
            taken
        });
        let mut body = vec![0; 50_000];
        client.read_exact(&mut body).await.unwrap();
        assert!(body.iter().all(|byte| *byte == 7));
        client.write_all(b"again").await.unwrap();
        let mut rest = Vec::new();
        // To the end, which is an error unless it was announced.
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!((rest.as_slice(), serving.await.unwrap()), (&b"again"[..], 50_000));
    }

    #[tokio::test]
    async fn much_is_written_and_read_through_little_room() {
        let (mut ours, mut client) = connected(3000).await;
        let serving = tokio::spawn(async move {
            let mut all = Vec::new();
            ours.read_to_end(&mut all).await.unwrap();
            for piece in all.chunks(100_000) {
                ours.write_all(piece).await.unwrap();
            }
            ours.shutdown().await.unwrap();
        });
        let sent: Vec<u8> = (0..300_000u32).map(|number| (number % 253) as u8).collect();
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert!(back == sent, "{} bytes", back.len());
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn tickets_that_are_gone_before_the_answer_leave_no_room_behind() {
        // So little that what a write leaves behind is more than may be kept.
        let (mut ours, mut client) = connected(64).await;
        let serving = tokio::spawn(async move {
            // The tickets go out while this waits.
            let mut question = [0; 5];
            ours.read_exact(&mut question).await.unwrap();
            ours.write_all(&[7; 200_000]).await.unwrap();
            ours.shutdown().await.unwrap();
        });
        // The tickets are read while this waits.
        let early = timeout(Duration::from_millis(50), client.read_u8()).await;
        assert!(early.is_err(), "{early:?}");
        client.write_all(b"again").await.unwrap();
        let mut body = Vec::new();
        client.read_to_end(&mut body).await.unwrap();
        serving.await.unwrap();
        assert_eq!(body.len(), 200_000);
    }

    #[tokio::test]
    async fn an_end_without_a_word_is_an_error() {
        let (mut ours, client) = connected(1 << 16).await;
        drop(client.into_inner());
        let error = ours.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_was_agreed_on_is_known() {
        let (ours, _client) = connected(1 << 16).await;
        assert_eq!(ours.get_ssl_digest().unwrap().version, "TLSv1_3");
        assert!(ours.selected_alpn_proto().is_none());
    }
}
