//! The few HTTP requests that commands send to a running edge: one per connection, blocking.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

/// Waits no longer than this for a connection, and for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer larger than this is not one of ours.
const MOST_BYTES: u64 = 64 << 20;

/// A head larger than this is not one of ours.
const MOST_HEAD_BYTES: u64 = 64 << 10;

/// A request without a body.
pub(super) struct Request<'a> {
    /// Where to connect: `HOST:PORT`, or `unix:/path`.
    pub(super) to: &'a str,
    /// Such as `GET`.
    pub(super) method: &'a str,
    /// The path with its query.
    pub(super) target: &'a str,
    /// What `Host` says.
    pub(super) host: &'a str,
    /// More fields.
    pub(super) fields: &'a [(&'a str, &'a str)],
}

/// An answer with its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) body: Vec<u8>,
}

/// Where to connect, from what was given on the command line: `HOST:PORT` and `unix:/path` as they are, and
/// `http://HOST:PORT`, as one copies it from elsewhere, without what is around.
///
/// # Errors
///
/// What to write instead, for TLS and for URLs with a path.
pub(super) fn address(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err("there is no TLS here; write HOST:PORT of a plain listener".to_owned());
    }
    let Some(rest) = text.strip_prefix("http://") else { return Ok(text.to_owned()) };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
        return Err("write HOST:PORT, without a path".to_owned());
    }
    // The port of http, unless another one is there; the colons inside brackets belong to an IPv6 address.
    let port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    Ok(if port { authority.to_owned() } else { format!("{authority}:80") })
}

/// What `Host` says where nobody says anything else.
pub(super) fn host_of(to: &str) -> &str {
    if to.starts_with("unix:") { "localhost" } else { to }
}

/// A connection of either kind.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Request<'_> {
    /// Sends the request and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// If a part of the request cannot stand on a line, nobody answers in time, or the answer is not HTTP/1.
    pub(super) fn send(&self) -> anyhow::Result<Answer> {
        let head = self.head("1.1")?;
        let mut stream = connect(self.to, PATIENCE).with_context(|| format!("connecting to {}", self.to))?;
        let exchange = || -> anyhow::Result<Answer> {
            stream.write_all(head.as_bytes())?;
            let mut bytes = Vec::new();
            stream.take(MOST_BYTES).read_to_end(&mut bytes)?;
            parse(&bytes)
        };
        exchange().with_context(|| format!("talking to {}", self.to))
    }

    /// Sends the request and gives what there is of the answer as soon as it begins: a body that may go on for ever, or,
    /// where the status is not 200, the whole answer. After `silence` without a byte reading fails.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub(super) fn listen(&self, silence: Duration) -> anyhow::Result<Result<impl BufRead + use<>, Answer>> {
        // In HTTP/1.0 the body is all that comes, without chunks.
        let head = self.head("1.0")?;
        let mut stream = connect(self.to, silence).with_context(|| format!("connecting to {}", self.to))?;
        let exchange = || -> anyhow::Result<_> {
            stream.write_all(head.as_bytes())?;
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                let taken = (&mut stream).take(MOST_HEAD_BYTES).read_until(b'\n', &mut bytes)?;
                if taken == 0 || bytes.len() as u64 > MOST_HEAD_BYTES {
                    bail!("the answer broke off in its head");
                }
            }
            if bytes.get(b"HTTP/1.1".len()..).is_some_and(|rest| rest.starts_with(b" 200")) {
                return Ok(Ok(stream));
            }
            stream.take(MOST_BYTES).read_to_end(&mut bytes)?;
            Ok(Err(parse(&bytes)?))
        };
        exchange().with_context(|| format!("talking to {}", self.to))
    }

    fn head(&self, version: &str) -> anyhow::Result<String> {
        let Self { to: _, method, target, host, fields } = self;
        if !target.starts_with('/') || target.bytes().any(|byte| !(b'!'..=b'~').contains(&byte)) {
            bail!("{target:?} is not a path; what is not ASCII must be percent-encoded");
        }
        let mut head = format!("{method} {target} HTTP/{version}\r\n");
        let own = [("Host", *host), ("User-Agent", "clearcoat"), ("Connection", "close")];
        for (name, value) in own.iter().chain(*fields) {
            if value.bytes().any(|byte| byte.is_ascii_control()) {
                bail!("{value:?} cannot be sent as {name}");
            }
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Ok(head)
    }
}

/// Connects; `silence` is how long each read may wait.
fn connect(to: &str, silence: Duration) -> anyhow::Result<Box<dyn Stream>> {
    if let Some(path) = to.strip_prefix("unix:") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(silence))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        return Ok(Box::new(stream));
    }
    let mut last = anyhow!("the name has no address");
    for address in to.to_socket_addrs().context("HOST:PORT is needed")? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(silence))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(Box::new(stream));
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(bytes).context("the answer is not HTTP")? else {
        bail!("the answer broke off in its head");
    };
    let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let body = match field("content-length") {
        Some(field) => {
            let expected = std::str::from_utf8(field.value).ok().and_then(|text| text.parse::<usize>().ok());
            let expected = expected.context("the Content-Length is not a number")?;
            bytes[length..].get(..expected).context("the answer broke off in its body")?
        }
        None if field("transfer-encoding").is_some() => bail!("the answer is chunked, which ours never are"),
        None => &bytes[length..],
    };
    Ok(Answer {
        status: head.code.unwrap_or_default(),
        reason: head.reason.unwrap_or_default().to_owned(),
        body: body.to_vec(),
    })
}

/// Percent-encoding of all but the unreserved characters (RFC 3986 section 2.3).
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::test::answering;
    use super::*;

    fn request<'a>(to: &'a str, target: &'a str, fields: &'a [(&'a str, &'a str)]) -> Request<'a> {
        Request { to, method: "GET", target, host: "h", fields }
    }

    #[test]
    fn an_exchange() {
        let (address, serving) =
            answering("HTTP/1.1 200 Purged 2 objects\r\nContent-Length: 2\r\n\r\nhi, and more");
        let to = address.to_string();
        let answer = request(&to, "/x?y", &[("A", "b")]).send().unwrap();
        assert_eq!(
            (answer.status, answer.reason.as_str(), answer.body),
            (200, "Purged 2 objects", b"hi".to_vec())
        );
        let head = serving.join().unwrap();
        assert!(
            head.starts_with("GET /x?y HTTP/1.1\r\nHost: h\r\n") && head.contains("\r\nA: b\r\n"),
            "{head}"
        );
    }

    #[test]
    fn a_body_is_read_while_it_comes() {
        let silence = Duration::from_secs(5);
        let (address, serving) = answering("HTTP/1.1 200 OK\r\nA: b\r\n\r\none\ntwo\n");
        let Ok(body) = request(&address.to_string(), "/x", &[]).listen(silence).unwrap() else { panic!() };
        assert_eq!(body.lines().map(Result::unwrap).collect::<Vec<_>>(), ["one", "two"]);
        assert!(serving.join().unwrap().starts_with("GET /x HTTP/1.0\r\n"));
        let (address, _serving) = answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno!");
        let Err(answer) = request(&address.to_string(), "/x", &[]).listen(silence).unwrap() else { panic!() };
        assert_eq!((answer.status, answer.body), (400, b"no!".to_vec()));
        let (address, _serving) = answering("HTTP/1.1 200 OK\r\nA: b");
        assert!(request(&address.to_string(), "/x", &[]).listen(silence).is_err());
    }

    #[test]
    fn addresses_are_read_from_urls_too() {
        for (text, expected) in [
            ("127.0.0.1:6082", Some("127.0.0.1:6082")),
            ("http://127.0.0.1:6082", Some("127.0.0.1:6082")),
            ("http://edge:6082/", Some("edge:6082")),
            ("http://edge", Some("edge:80")),
            ("http://[::1]", Some("[::1]:80")),
            ("http://[::1]:6082/", Some("[::1]:6082")),
            ("unix:/run/admin.sock", Some("unix:/run/admin.sock")),
            ("https://edge:6082", None),
            ("http://edge:6082/api/status", None),
            ("http://", None),
            ("http://user@edge", None),
        ] {
            assert_eq!(address(text).ok().as_deref(), expected, "{text}");
        }
        assert_eq!((host_of("unix:/a"), host_of("edge:80")), ("localhost", "edge:80"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (target, value) in
            [("x", "b"), ("/a b", "b"), ("/\u{e4}", "b"), ("/", "b\r\nEvil: c"), ("/", "b\0")]
        {
            request("127.0.0.1:1", target, &[("A", value)]).head("1.1").unwrap_err();
        }
    }

    #[test]
    fn broken_answers_are_told() {
        for bytes in [
            "",
            "garbage\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            assert!(parse(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert_eq!(parse(b"HTTP/1.0 204 No Content\r\n\r\n").unwrap().status, 204);
    }
}
