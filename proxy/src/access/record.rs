//! What is recorded of a request, and what of its head is kept until it is over.

use std::net::IpAddr;
use std::time::Duration;

use crate::admin::RequestResult;
use crate::front::request_id::{RequestId, RequestNumber};

/// Bytes of a target that are written; a URL may be longer.
pub(super) const MAX_TARGET: usize = 4096;
/// Bytes of a Referer that are written.
pub(super) const MAX_REFERER: usize = 2048;
/// Bytes of a User-Agent that are written.
pub(super) const MAX_USER_AGENT: usize = 1024;
/// Bytes of a host that are written: no name in the DNS is longer (RFC 1035 section 2.3.4).
pub(super) const MAX_HOST: usize = 255;
/// Bytes of a method that are written.
pub(super) const MAX_METHOD: usize = 32;
/// Bytes of a request id that are written.
pub(super) const MAX_REQUEST_ID: usize = 128;

/// Bytes that a [`Kept`] holds on to between requests; those of a usual browser fit.
const KEEP_ROOM: usize = 1024;

/// The version of HTTP that a request came in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As it stands in a log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// What a request asked, as far as it is recorded. What is not there is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    /// Who asked; `None` behind a Unix socket.
    pub(crate) client: Option<IpAddr>,
    /// Empty when the head could not be read; `target` is its first line then, as it came.
    pub(crate) method: &'a [u8],
    /// Path and query.
    pub(crate) target: &'a [u8],
    pub(crate) version: Version,
    pub(crate) host: &'a [u8],
    pub(crate) referer: &'a [u8],
    pub(crate) user_agent: &'a [u8],
    pub(crate) request_id: RequestId<'a>,
    /// Nothing was kept of it, because nobody wanted it when it came.
    pub(crate) is_forgotten: bool,
}

impl<'a> Asked<'a> {
    /// Takes from a header line what is recorded of it.
    pub(crate) fn header(&mut self, name: &str, value: &'a [u8]) {
        // The lengths sort out nearly every line before a name is compared.
        let place = match name.len() {
            7 if name.eq_ignore_ascii_case("referer") => &mut self.referer,
            10 if name.eq_ignore_ascii_case("user-agent") => &mut self.user_agent,
            _ => return,
        };
        if place.is_empty() {
            *place = value;
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) result: RequestResult,
    /// Zero when no answer was begun.
    pub(crate) status: u16,
    /// What went out of the answer's body.
    pub(crate) sent_bytes: u64,
    /// From the end of the head to the last byte of the answer.
    pub(crate) took: Duration,
    /// The node that answered, where one was asked for this request and is known.
    pub(crate) node: Option<&'a str>,
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) asked: Asked<'a>,
    pub(crate) ended: Ended<'a>,
}

/// The recorded parts of a head, kept when its bytes are gone from their buffer.
///
/// A connection has one and uses it again for each request, so that keeping costs a copy of some hundred bytes and no
/// allocation. Each part is kept up to one byte more than is written of it, which tells that it was cut.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    /// Where each part ends in `bytes`, in the order of [`Kept::asked`].
    ends: [u32; 6],
    /// Where the request's id is its own.
    own_id: Option<RequestNumber>,
    client: Option<IpAddr>,
    version: Version,
    /// Whether this is of the request that is asked about.
    is_there: bool,
}

impl Kept {
    /// Keeps what there is of `asked`, in place of what was kept before.
    pub(crate) fn keep(&mut self, asked: &Asked<'_>) {
        self.bytes.clear();
        self.is_there = true;
        self.client = asked.client;
        self.version = asked.version;
        let said = match asked.request_id {
            RequestId::Said(said) => said,
            RequestId::None | RequestId::Own(_) => b"",
        };
        self.own_id = match asked.request_id {
            RequestId::Own(number) => Some(number),
            RequestId::None | RequestId::Said(_) => None,
        };
        let parts = [
            (asked.method, MAX_METHOD),
            (asked.target, MAX_TARGET),
            (asked.host, MAX_HOST),
            (asked.referer, MAX_REFERER),
            (asked.user_agent, MAX_USER_AGENT),
            (said, MAX_REQUEST_ID),
        ];
        for ((part, most), end) in parts.into_iter().zip(&mut self.ends) {
            self.bytes.extend_from_slice(part.get(..=most).unwrap_or(part));
            // The bounds together are far below 4 GiB.
            *end = self.bytes.len() as u32;
        }
    }

    /// Nothing is kept of the request that comes now.
    pub(crate) fn forget(&mut self) {
        self.is_there = false;
    }

    /// What was kept.
    pub(crate) fn asked(&self) -> Asked<'_> {
        if !self.is_there {
            return Asked { is_forgotten: true, ..Asked::default() };
        }
        let mut begin = 0;
        let [method, target, host, referer, user_agent, said] = self.ends.map(|end| {
            let part = self.bytes.get(begin..end as usize).unwrap_or_default();
            begin = end as usize;
            part
        });
        let (client, version) = (self.client, self.version);
        let request_id = match self.own_id {
            Some(number) => RequestId::Own(number),
            None if said.is_empty() => RequestId::None,
            None => RequestId::Said(said),
        };
        let is_forgotten = false;
        Asked { client, method, target, version, host, referer, user_agent, request_id, is_forgotten }
    }

    /// Gives back what a large head took.
    pub(crate) fn rest(&mut self) {
        if self.bytes.capacity() > KEEP_ROOM {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_asked() {
        let long = vec![b'x'; MAX_TARGET * 2];
        let mut kept = Kept::default();
        for (target, user_agent) in [(&b"/a?b"[..], &b"curl"[..]), (&long, b""), (b"/", b"y")] {
            let client = Some(IpAddr::from([10, 0, 0, 1]));
            let mut asked = Asked { client, method: b"GET", target, ..Asked::default() };
            asked.header("User-Agent", user_agent);
            if !user_agent.is_empty() {
                asked.header("User-Agent", b"the first counts");
            }
            asked.request_id = RequestId::Said(b"7");
            asked.header("accept", b"*/*");
            kept.keep(&asked);
            let again = kept.asked();
            assert_eq!((again.method, again.client), (&b"GET"[..], client));
            assert_eq!(again.target.len(), target.len().min(MAX_TARGET + 1));
            assert_eq!((again.user_agent, again.referer, again.host), (user_agent, &b""[..], &b""[..]));
            assert_eq!(again.request_id.with(<[u8]>::to_vec), b"7");
            let number = RequestNumber::of_connection();
            kept.keep(&Asked { request_id: RequestId::Own(number), ..asked });
            assert_eq!(kept.asked().request_id.with(<[u8]>::to_vec), number.text());
        }
        kept.forget();
        assert!(kept.asked().is_forgotten && kept.asked().target.is_empty(), "not that of another request");
        kept.keep(&Asked { target: &long, ..Asked::default() });
        kept.rest();
        assert!(kept.bytes.capacity() <= KEEP_ROOM);
        assert!(kept.asked().target.is_empty());
    }
}
