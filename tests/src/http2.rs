//! A visitor who speaks HTTP/2: without TLS by prior knowledge (RFC 9113 section 3.3), or on a connection under TLS.
//!
//! [`Session`] speaks it by the `h2` crate, with as many requests at a time as a test wants. What that crate would never
//! send goes out by [`Raw`], frame by frame.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::USUAL_HOST;
use crate::wait::PATIENCE;

/// One connection.
#[derive(Debug)]
pub struct Session {
    send: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

/// A request that is under way.
#[derive(Debug)]
pub struct Asked {
    /// The body, as far as it is not sent.
    pub body: SendStream<Bytes>,
    response: ResponseFuture,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Whole {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Whole {
    /// The one value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether it came from memory, as `Cache-Status` says.
    pub fn is_hit(&self) -> bool {
        self.field("cache-status").is_some_and(|status| status.contains("; hit"))
    }

    /// Whether it came by another's fetch, as `Cache-Status` says.
    pub fn is_collapsed(&self) -> bool {
        self.field("cache-status").is_some_and(|status| status.ends_with("; collapsed"))
    }
}

impl Session {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &client::Builder::new()).await
    }

    /// Connects, unless the server does not want it.
    ///
    /// # Errors
    ///
    /// If there is no connection, or HTTP/2 is not spoken on it.
    pub async fn try_open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (mut send, connection) = client::Builder::new().handshake(stream).await?;
        let ended = tokio::spawn(connection);
        // The handshake is over before the server has said a word.
        send = send.ready().await?;
        Ok(Self { send, ended })
    }

    /// Connects with a client of one's own settings.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn open_with(address: SocketAddr, builder: &client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a connected socket");
        Self::over(stream, builder).await
    }

    /// Speaks on a connection that is open already.
    ///
    /// # Panics
    ///
    /// If HTTP/2 is not spoken there.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: &client::Builder,
    ) -> Self {
        let (send, connection) = builder.handshake(stream).await.expect("HTTP/2 to be spoken");
        Self { send, ended: tokio::spawn(connection) }
    }

    /// A request of the usual host.
    pub fn request(&self, method: &str, target: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{USUAL_HOST}{target}"))
    }

    /// Sends the head of a request; `ends`: there is no body.
    ///
    /// # Errors
    ///
    /// If the connection takes no more requests.
    pub async fn try_send(&mut self, request: Request<()>, ends: bool) -> Result<Asked, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (response, body) = send.send_request(request, ends)?;
        Ok(Asked { body, response })
    }

    /// The same of a request without body that must go out.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn send(&mut self, request: http::request::Builder) -> Asked {
        self.try_send(request.body(()).expect("a request"), true).await.expect("the request to go out")
    }

    /// GETs something.
    pub async fn get(&mut self, target: &str) -> Whole {
        let request = self.request("GET", target);
        self.send(request).await.answer().await
    }

    /// Waits until the server has ended the connection: with an error, or in good order.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn ended(self) -> Result<(), h2::Error> {
        let Self { send, ended } = self;
        let ended = timeout(PATIENCE, ended).await.expect("the connection to be ended").expect("no panic");
        // Until here: without it the client would end the connection itself.
        drop(send);
        ended
    }
}

impl Asked {
    /// Waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// If the stream is reset or the connection ends instead.
    pub async fn try_head(self) -> Result<(http::response::Parts, RecvStream), h2::Error> {
        let response = timeout(PATIENCE, self.response).await.expect("an answer in time")?;
        Ok(response.into_parts())
    }

    /// Waits for the head of the answer, and keeps both ways open.
    ///
    /// # Errors
    ///
    /// If the stream is reset or the connection ends instead.
    pub async fn opened(self) -> Result<(http::response::Parts, SendStream<Bytes>, RecvStream), h2::Error> {
        let response = timeout(PATIENCE, self.response).await.expect("an answer in time")?;
        let (head, body) = response.into_parts();
        Ok((head, self.body, body))
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    ///
    /// If the stream is reset or the connection ends instead.
    pub async fn try_answer(self) -> Result<Whole, h2::Error> {
        let (head, body) = self.try_head().await?;
        let body = rest(body).await?;
        Ok(Whole { status: head.status, fields: head.headers, body })
    }

    /// Waits for the whole answer.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn answer(self) -> Whole {
        self.try_answer().await.expect("an answer")
    }

    /// Takes the request back.
    pub fn take_back(mut self) {
        self.body.send_reset(Reason::CANCEL);
    }
}

/// Reads what is left of a body.
///
/// # Errors
///
/// If the stream is reset or the connection ends before.
pub async fn rest(mut body: RecvStream) -> Result<Bytes, h2::Error> {
    let mut whole = BytesMut::new();
    while let Some(piece) = timeout(PATIENCE, body.data()).await.expect("the body in time") {
        let piece = piece?;
        whole.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(whole.freeze())
}

/// A connection on which frames are sent as they are written.
#[derive(Debug)]
pub struct Raw(TcpStream);

impl Raw {
    /// Connects, and says the preface with empty settings.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a connected socket");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("a server that listens");
        let mut raw = Self(stream);
        raw.frame(4, 0, 0, &[]).await;
        raw
    }

    /// Sends a frame; what the server has closed takes none and that is no error.
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(9 + payload.len());
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        let _ = self.0.write_all(&bytes).await;
    }

    /// Sends the head of a request without body, its fields without compression.
    pub async fn head(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.fields(stream, &fields, true).await;
    }

    /// Sends fields as they are, whatever they hold, in one frame that ends them and perhaps the stream.
    pub async fn fields(&mut self, stream: u32, fields: &[(&[u8], &[u8])], ends: bool) {
        self.frame(1, if ends { 0x5 } else { 0x4 }, stream, &block(fields)).await;
    }

    /// The next frame of one of these kinds: kind, flags, stream, payload. `None` at the end of the connection.
    ///
    /// # Panics
    ///
    /// If none comes in time.
    pub async fn next(&mut self, kinds: &[u8]) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            let (mut head, wait) = ([0; 9], Duration::from_secs(20));
            timeout(wait, self.0.read_exact(&mut head)).await.expect("a frame in time").ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if kinds.contains(&head[3]) {
                return Some((head[3], head[4], stream, payload));
            }
        }
    }
}

/// Fields as literals without indexing (RFC 7541 section 6.2.2), not compressed.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// The length of a text: an integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(length as u8) };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The status that a block of fields begins with, where the server's encoder is at its beginning: by the static table,
/// or as a literal with that table's name (RFC 7541 section 6, appendices A and B).
pub fn status(block: &[u8]) -> Option<u16> {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // The size of the table may be told first.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    match block.get(start..)? {
        [index @ 0x88..=0x8e, ..] => STATIC.get(usize::from(index - 0x88)).copied(),
        [0x48 | 0x08, length, text @ ..] => {
            let text = text.get(..usize::from(length & 0x7f))?;
            if length & 0x80 == 0 {
                return std::str::from_utf8(text).ok()?.parse().ok();
            }
            // Digits have codes of five bits up to 2, and of six above.
            let bits = text.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
            let (mut left, mut status) = (text.len() as u32 * 8, 0);
            for _ in 0..3 {
                let five = bits >> left.checked_sub(5)? & 0x1f;
                let digit = if five <= 2 {
                    left -= 5;
                    five
                } else {
                    left = left.checked_sub(6)?;
                    (bits >> left & 0x3f).checked_sub(0x16)?
                };
                status = status * 10 + digit;
            }
            u16::try_from(status).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_each_form() {
        for (block, expected) in [
            (&[0x88][..], Some(200)),
            (&[0x3f, 0xe1, 0x1f, 0x8d], None),
            (&[0x20, 0x8c], Some(400)),
            (&[0x48, 3, b'4', b'3', b'1'], Some(431)),
            // From RFC 7541 appendices C.6.1 and C.6.2.
            (&[0x48, 0x82, 0x64, 0x02], Some(302)),
            (&[0x48, 0x83, 0x64, 0x0e, 0xff], Some(307)),
            (&[], None),
        ] {
            assert_eq!(status(block), expected, "{block:x?}");
        }
    }

    #[test]
    fn lengths_of_any_size_are_written() {
        for (count, expected) in [(0, &[0][..]), (126, &[126]), (127, &[127, 0]), (1337, &[127, 186, 9])] {
            let mut block = Vec::new();
            length(&mut block, count);
            assert_eq!(block, expected, "{count}");
        }
    }
}
