//! The server side of HTTP/1.1 for small services: a whole request in, a whole answer out.
//!
//! The admin listener and the demonstration's web nodes use it. It is not the road of clients: bodies are held in
//! memory, and there is no TLS and no upgrade. Where RFC 9112 leaves a choice it refuses: bare line feeds, two
//! `Content-Length`, both framings at once, a missing or second `Host`. Every wait has an end and every buffer a size,
//! see [`Limits`].
//!
//! Cancel safety: dropping [`serve`] drops the connection's state; the stream must then be closed.

mod live;
mod read;

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
pub(crate) use live::Live;
use read::{Missing, read_request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// How much a client may send and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Request line and header fields together, in bytes; also the trailer of a chunked body.
    pub(crate) head_bytes: usize,
    /// Number of header fields, at most [`MOST_FIELDS`].
    pub(crate) fields: usize,
    /// A request's body in bytes.
    pub(crate) body_bytes: usize,
    /// From the first byte of a request to the end of its head, however the bytes arrive.
    pub(crate) head_time: Duration,
    /// From the end of the head to the end of the body.
    pub(crate) body_time: Duration,
    /// Without a byte of the next request.
    pub(crate) idle_time: Duration,
    /// For the whole answer to be taken.
    pub(crate) write_time: Duration,
}

/// The most that [`Limits::fields`] may say.
pub(crate) const MOST_FIELDS: usize = 128;

impl Limits {
    /// What suits a service for people and scripts.
    pub(crate) const SMALL: Self = Self {
        head_bytes: 16 * 1024,
        fields: 64,
        body_bytes: 64 * 1024,
        head_time: Duration::from_secs(10),
        body_time: Duration::from_secs(10),
        idle_time: Duration::from_secs(30),
        write_time: Duration::from_secs(30),
    };
}

/// A request with its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// As sent; methods are case-sensitive.
    pub(crate) method: String,
    /// The path as sent, not decoded; begins with `/`, or is `*`.
    pub(crate) path: String,
    /// What follows the first `?`.
    pub(crate) query: Option<String>,
    /// The authority of an absolute target, else of `Host`; may be empty.
    pub(crate) host: String,
    /// Names in lower case, values with bytes beyond UTF-8 replaced.
    pub(crate) fields: Vec<(String, String)>,
    /// Empty if there is none.
    pub(crate) body: Bytes,
    /// Whether the client is ready to ask again on this connection.
    pub(crate) keep_alive: bool,
    /// Whether it came in HTTP/1.0, which knows no chunks.
    pub(crate) is_version_10: bool,
}

impl Request {
    /// The first field of this name, which is to be given in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether this parameter stands in the query, with or without a value.
    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        let query = self.query.as_deref().unwrap_or_default();
        query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }
}

/// An answer with its body. `Content-Length`, `Date` and `Connection` are added when it is written.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 200 to 599.
    pub(crate) status: u16,
    /// Names as written; a value with a control character is left out.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// Not sent in answer to HEAD.
    pub(crate) body: Bytes,
    /// What is sent in its place, if the body has no end.
    pub(crate) live: Option<Box<dyn Live>>,
}

impl Answer {
    /// An answer of this media type.
    pub(crate) fn new(status: u16, media_type: &str, body: impl Into<Bytes>) -> Self {
        let fields = vec![("Content-Type", media_type.into())];
        Self { status, fields, body: body.into(), live: None }
    }

    /// Plain text; a final line feed is added where it lacks one.
    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Self::new(status, "text/plain; charset=utf-8", text)
    }

    /// The answer with one more field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The answer with a body that is made while it is sent.
    pub(crate) fn live(self, live: impl Live + 'static) -> Self {
        Self { live: Some(Box::new(live)), ..self }
    }

    /// 405 that names what is allowed (RFC 9110 §15.5.6).
    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        Self::text(405, format!("only {allow} is possible here")).with("Allow", allow)
    }
}

/// What answers the requests of a connection, one after the other.
#[async_trait]
pub(crate) trait Handler: Send + Sync {
    /// The answer to `request`.
    async fn answer(&self, request: Request) -> Answer;

    /// Whether the connection should be closed after the answer that is about to go out.
    fn closing(&self) -> bool {
        false
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// One of the two sides said that it was the last request, or the client left between requests.
    Done,
    /// Nothing was asked for [`Limits::idle_time`].
    Idle,
    /// The request was refused with this status.
    Refused(u16),
    /// The connection broke, or the client did not take the answer in time.
    Broken,
}

/// Answers requests on `stream` until one side ends it.
pub(crate) async fn serve<S, H>(stream: &mut S, handler: &H, limits: &Limits) -> Ending
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler + ?Sized,
{
    let mut buffer = BytesMut::new();
    loop {
        let request = match read_request(stream, &mut buffer, limits).await {
            Ok(request) => request,
            Err(Missing::Gone) => return Ending::Done,
            Err(Missing::Idle) => return Ending::Idle,
            Err(Missing::Broken) => return Ending::Broken,
            Err(Missing::Refused(status, why)) => {
                refuse(stream, &Answer::text(status, why), limits).await;
                return Ending::Refused(status);
            }
        };
        let (keep_alive, head_only) = (request.keep_alive, request.method == "HEAD");
        let chunked = !request.is_version_10;
        let mut answer = handler.answer(request).await;
        if let Some(live) = answer.live.take() {
            return live::send(stream, &answer, live, chunked, limits).await;
        }
        let keep_alive = keep_alive && !handler.closing();
        match timeout(limits.write_time, write_answer(stream, &answer, keep_alive, head_only)).await {
            Ok(Ok(())) if keep_alive => {}
            Ok(Ok(())) => {
                // The client may already have gone, and everything it asked for was sent.
                let _ = stream.shutdown().await;
                return Ending::Done;
            }
            Ok(Err(_)) | Err(_) => return Ending::Broken,
        }
    }
}

/// Writes the answer to a request that was not read to its end. Closing at once would make the kernel reset the
/// connection, and the client might lose the answer (RFC 9112 §9.6); so what it still sends is taken for a moment.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, answer: &Answer, limits: &Limits) {
    const PATIENCE: Duration = Duration::from_secs(1);
    if let Ok(Ok(())) = timeout(limits.write_time, write_answer(stream, answer, false, false)).await {
        let _ = timeout(PATIENCE, async {
            let mut left = limits.body_bytes + limits.head_bytes;
            let mut scrap = [0; 4096];
            stream.shutdown().await?;
            while left > 0 {
                match stream.read(&mut scrap).await? {
                    0 => break,
                    taken => left = left.saturating_sub(taken),
                }
            }
            io::Result::Ok(())
        })
        .await;
    }
}

/// Status and fields of an answer, as they are written.
fn begun(answer: &Answer) -> String {
    let reason = http::StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason.unwrap_or("Unknown"));
    for (name, value) in &answer.fields {
        if !value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    head
}

async fn write_answer<S>(stream: &mut S, answer: &Answer, keep_alive: bool, head_only: bool) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut head = begun(answer);
    // These two have neither a body nor a length (RFC 9110 §8.6).
    let bodiless = matches!(answer.status, 204 | 304);
    if !bodiless {
        let _ = write!(head, "Content-Length: {}\r\n", answer.body.len());
    }
    let connection = if keep_alive { "" } else { "Connection: close\r\n" };
    let _ = write!(head, "Date: {}\r\n{connection}\r\n", httpdate::fmt_http_date(SystemTime::now()));
    let body: &[u8] = if head_only || bodiless { &[] } else { &answer.body };
    // One write for both, so that a small answer is one packet.
    let mut all = Vec::with_capacity(head.len() + body.len());
    all.extend_from_slice(head.as_bytes());
    all.extend_from_slice(body);
    stream.write_all(&all).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Says what it was asked.
    struct Echo;

    #[async_trait]
    impl Handler for Echo {
        async fn answer(&self, request: Request) -> Answer {
            let Request { method, path, query, host, body, .. } = request;
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            Answer::text(200, format!("{method} {host} {path}{query} [{body}]"))
        }
    }

    /// Sends `input`, closes the sending side, and gives back all that came and why it ended.
    async fn exchange(input: &[u8]) -> (String, Ending) {
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        client.write_all(input).await.unwrap();
        client.shutdown().await.unwrap();
        let ending = serve(&mut server, &Echo, &Limits { body_bytes: 20, ..Limits::SMALL }).await;
        drop(server);
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        (output, ending)
    }

    #[tokio::test]
    async fn requests_are_read() {
        for (input, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a / []"),
            ("\r\n\r\nGET /b?c=d?e HTTP/1.1\r\nHost: a:80\r\n\r\n", "GET a:80 /b?c=d?e []"),
            ("GET http://x/y HTTP/1.1\r\nHost: a\r\n\r\n", "GET x /y []"),
            ("GET http://x HTTP/1.1\r\nHost: a\r\n\r\n", "GET x / []"),
            ("GET / HTTP/1.0\r\n\r\n", "GET  / []"),
            ("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "POST a /p [hello]"),
            (
                "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: v\r\n\r\n",
                "POST a /p [hello]",
            ),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS a * []"),
        ] {
            let (output, ending) = exchange(input.as_bytes()).await;
            assert!(output.starts_with("HTTP/1.1 200 OK\r\n"), "{input:?} was answered by {output:?}");
            assert!(
                output.ends_with(&format!("\r\n\r\n{expected}\n")),
                "{input:?} was answered by {output:?}"
            );
            assert_eq!(ending, Ending::Done, "{input:?}");
        }
    }

    #[tokio::test]
    async fn bad_requests_are_refused_and_end_the_connection() {
        let many = "A: b\r\n".repeat(MOST_FIELDS);
        let long = "x".repeat(20_000);
        for (input, status) in [
            ("GET /\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                400,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 21\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhe\r\n0\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: cake\r\nContent-Length: 1\r\n\r\n", 417),
            (&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
            (&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 431),
            (&format!("GET / HTTP/1.1\r\nHost: a\r\nB: {long}"), 431),
        ] {
            let (output, ending) = exchange(input.as_bytes()).await;
            assert!(
                output.starts_with(&format!("HTTP/1.1 {status} ")),
                "{input:?} was answered by {output:?}"
            );
            assert!(output.contains("\r\nConnection: close\r\n"), "{input:?}");
            assert_eq!(ending, Ending::Refused(status), "{input:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_serves_requests_one_after_the_other() {
        let (output, ending) = exchange(
            b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
        assert_eq!(output.matches("HTTP/1.1 200 OK").count(), 3, "{output}");
        assert_eq!(output.matches("Content-Length: 12\r\n").count(), 2, "{output}");
        assert!(output.contains("Content-Length: 13\r\n"), "HEAD tells the length of its body: {output}");
        assert!(output.contains("GET a /1 []") && output.contains("GET a /3 []"), "{output}");
        assert!(!output.contains("HEAD a"), "HEAD has no body: {output}");
        assert_eq!(ending, Ending::Done);
    }

    #[tokio::test]
    async fn a_client_is_told_to_go_on_unless_its_body_is_too_large() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ";
        let (output, _) = exchange(format!("{head}2\r\n\r\nhi").as_bytes()).await;
        assert!(output.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{output}");
        let (output, _) = exchange(format!("{head}99\r\n\r\n").as_bytes()).await;
        assert!(output.starts_with("HTTP/1.1 413 "), "{output}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_may_dawdle() {
        for (input, expected) in [
            ("", Ending::Idle),
            ("GET / HT", Ending::Refused(408)),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx", Ending::Refused(408)),
        ] {
            let (mut client, mut server) = tokio::io::duplex(1 << 10);
            client.write_all(input.as_bytes()).await.unwrap();
            assert_eq!(serve(&mut server, &Echo, &Limits::SMALL).await, expected, "{input:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_in_has_no_longer_than_one_that_stops() {
        let (mut client, mut server) = tokio::io::duplex(1 << 10);
        let drip = async {
            loop {
                if client.write_all(b"x").await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let ending = tokio::select! {
            ending = serve(&mut server, &Echo, &Limits::SMALL) => ending,
            () = drip => Ending::Broken,
        };
        assert_eq!(ending, Ending::Refused(408));
    }

    #[test]
    fn parameters_are_found() {
        let request = Request { query: Some("a=1&plain&b".into()), ..Request::default() };
        assert!(request.has_parameter("plain") && request.has_parameter("a"));
        assert!(!request.has_parameter("1") && !Request::default().has_parameter("a"));
    }

    #[tokio::test]
    async fn a_field_cannot_smuggle_a_line() {
        let mut output = Vec::new();
        let answer = Answer::text(200, "x").with("X-A", "b\r\nSet-Cookie: c").with("X-B", "fine");
        write_answer(&mut output, &answer, true, false).await.unwrap();
        let output = String::from_utf8(output).unwrap();
        assert!(!output.contains("Set-Cookie") && output.contains("X-B: fine\r\n"), "{output}");
    }
}
