//! The head of a node's answer, read strictly: what two readers could frame differently is refused.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::WireError;
use super::body::Framing;

/// Bytes of a head; long lists of tags fit.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// Header lines of a head.
const MAX_LINES: usize = 256;

/// The head of an answer as the node sent it.
#[derive(Debug)]
pub(crate) struct NodeHead {
    pub(crate) status: StatusCode,
    /// What the node calls the status, if that is not its usual name.
    reason: Option<Box<str>>,
    pub(crate) headers: HeaderMap,
    version_11: bool,
}

/// What a `Transfer-Encoding` line says of the body.
enum Transfer {
    Chunked,
    /// Nothing that frames it or has to be undone: it goes to the end of the connection (RFC 9112 section 6.3, point 4).
    Unframed,
    /// It has to be undone, and we asked for no such coding.
    Unreadable,
}

fn transfer(line: &HeaderValue) -> Transfer {
    const TO_UNDO: [&[u8]; 6] = [b"chunked", b"compress", b"deflate", b"gzip", b"x-compress", b"x-gzip"];
    let coding = line.as_bytes().trim_ascii();
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Transfer::Chunked;
    }
    let mut listed = coding.split(|byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii);
    if listed.any(|coding| TO_UNDO.iter().any(|known| coding.eq_ignore_ascii_case(known))) {
        Transfer::Unreadable
    } else {
        Transfer::Unframed
    }
}

impl NodeHead {
    /// A head that no node sent.
    pub(crate) fn new(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, reason: None, headers, version_11: true }
    }

    /// What the node calls the status, if that is not its usual name.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Reads a head, whole and with its empty line.
    ///
    /// # Errors
    ///
    /// It is not HTTP/1, or has a name or value that cannot be one; folded lines are not read (RFC 9112 section 5.2).
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        // One copy: the values below are views of it, and it goes when the last of them does.
        let bytes = Bytes::copy_from_slice(bytes);
        let mut lines = [const { std::mem::MaybeUninit::uninit() }; MAX_LINES];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, &bytes, &mut lines)
            .map_err(|_| WireError::Malformed("the head is malformed"))?;
        if parsed.is_partial() {
            return Err(WireError::Malformed("the head is malformed"));
        }
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(WireError::Malformed("the status is none"))?;
        let reason = response.reason.filter(|reason| Some(*reason) != status.canonical_reason());
        let mut headers = HeaderMap::with_capacity(response.headers.len());
        for line in response.headers.iter() {
            let name = HeaderName::from_bytes(line.name.as_bytes())
                .map_err(|_| WireError::Malformed("a header name is none"))?;
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
                .map_err(|_| WireError::Malformed("a header value is none"))?;
            headers
                .try_append(name, value)
                .map_err(|_| WireError::Malformed("there are too many header lines"))?;
        }
        Ok(Self { status, reason: reason.map(Box::from), headers, version_11: response.version == Some(1) })
    }

    /// How the body is told from what follows (RFC 9112 section 6.3); `to_head`: the request was HEAD.
    ///
    /// # Errors
    ///
    /// The lines leave a doubt: a length beside chunks, more than one length, a coding that has to be undone and is not
    /// chunked.
    pub(super) fn framing(&self, to_head: bool) -> Result<Framing, WireError> {
        let codings = &mut self.headers.get_all(header::TRANSFER_ENCODING).iter();
        let lengths = &mut self.headers.get_all(header::CONTENT_LENGTH).iter();
        if to_head
            || self.status.is_informational()
            || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            return Ok(Framing::Empty);
        }
        match (codings.next(), lengths.next()) {
            (Some(_), Some(_)) => Err(WireError::Malformed("a length stands beside chunks")),
            (Some(coding), None) if codings.next().is_none() && self.version_11 => match transfer(coding) {
                Transfer::Chunked => Ok(Framing::Chunked),
                Transfer::Unframed => Ok(Framing::Close),
                Transfer::Unreadable => Err(WireError::Malformed("the transfer coding is unknown")),
            },
            (Some(_), None) => Err(WireError::Malformed("the transfer coding is unknown")),
            (None, Some(_)) if lengths.next().is_some() => {
                Err(WireError::Malformed("there is more than one length"))
            }
            (None, Some(length)) => {
                let text = length.as_bytes();
                let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
                let length = std::str::from_utf8(text).ok().filter(|_| digits);
                let length = length.and_then(|text| text.parse().ok());
                length.map(Framing::Length).ok_or(WireError::Malformed("the length is no number"))
            }
            (None, None) => Ok(Framing::Close),
        }
    }

    /// Whether the connection may be used again after this answer, as far as the head tells (RFC 9112 section 9.3).
    pub(super) fn keeps_alive(&self) -> bool {
        let mut options = self
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii);
        let mut says = |option: &[u8]| options.any(|said| said.eq_ignore_ascii_case(option));
        if self.version_11 { !says(b"close") } else { says(b"keep-alive") }
    }
}
