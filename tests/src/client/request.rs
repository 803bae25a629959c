//! A request as a test writes it.

use bytes::Bytes;

/// Host sent when a test does not care.
pub const USUAL_HOST: &str = "www.example.com";

/// An HTTP/1.1 request. Header lines are sent as given, in the order given, behind `Host`.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    host: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Bytes,
    chunked: bool,
}

impl Request {
    /// A request with any method.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: USUAL_HOST.to_owned(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: Bytes::new(),
            chunked: false,
        }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A HEAD.
    pub fn head(target: &str) -> Self {
        Self::new("HEAD", target)
    }

    /// A POST with a body.
    pub fn post(target: &str, body: impl Into<Bytes>) -> Self {
        Self::new("POST", target).body(body)
    }

    /// Another `Host`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// One more header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with its `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The body goes out in two chunks instead of with a `Content-Length`.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// HTTP/1.0.
    #[must_use]
    pub fn version_1_0(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The request target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Head without body, as sent.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\nHost: {}\r\n", self.method, self.target, self.version, self.host);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.body.is_empty() || self.method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// The whole request, as sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_bytes();
        if self.chunked {
            let (one, two) = self.body.split_at(self.body.len() / 2);
            for chunk in [one, two].into_iter().filter(|chunk| !chunk.is_empty()) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_framed() {
        check(Request::get("/a").host("h").header("X", "y"), "GET /a HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n");
        check(Request::head("/").host("h").version_1_0(), "HEAD / HTTP/1.0\r\nHost: h\r\n\r\n");
        check(
            Request::post("/", "abc").host("h"),
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        );
        check(Request::post("/", "").host("h"), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        check(
            Request::post("/", "abc").host("h").chunked(),
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        );
    }

    #[track_caller]
    fn check(request: Request, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&request.to_bytes()), expected);
    }
}
