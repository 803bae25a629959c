//! What came back, and what its `Cache-Status` says about where it came from.

use std::fmt;

use bytes::Bytes;

use crate::wire::{self, AnswerHead, Framing, Left};

/// The head of an answer whose body is still to be read.
#[derive(Clone, Debug)]
pub struct Head {
    pub(super) head: AnswerHead,
    pub(super) framing: Framing,
    pub(super) interim: Vec<u16>,
    pub(super) left: Left,
}

impl Head {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header line of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::first(&self.head.headers, name)
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// The body, without its framing.
    pub body: Bytes,
    /// How the body's end was told.
    pub framing: Framing,
    /// Interim answers (1xx) that came before.
    pub interim: Vec<u16>,
    minor: u8,
    headers: wire::Headers,
}

/// Where an answer came from, by its `Cache-Status` (RFC 9211).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Served {
    /// From memory, fresh (`hit`).
    Hit,
    /// From memory, past its time (`ttl=-N`), whether or not a node was asked first.
    Grace,
    /// From a node, by a fetch this request started (`fwd=miss` and its kin).
    Miss,
    /// From a node, by a fetch that another request had started (`collapsed`).
    Collapsed,
    /// From a node, the cache not asked (`fwd=bypass`, `fwd=method`, `fwd=request`).
    Bypass,
    /// By the proxy itself: neither `hit` nor `fwd`.
    Own,
}

impl Answer {
    pub(super) fn new(head: Head, body: Bytes) -> Self {
        let Head { head, framing, interim, left: _ } = head;
        let AnswerHead { minor, status, reason, headers } = head;
        Self { status, reason, body, framing, interim, minor, headers }
    }

    /// The first header line of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::first(&self.headers, name)
    }

    /// All header lines of that name.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        wire::all(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `Age` in seconds.
    ///
    /// # Panics
    ///
    /// If there is one and it is no number.
    pub fn age(&self) -> Option<u64> {
        self.header("age").map(|age| age.parse().unwrap_or_else(|_| panic!("Age: {age:?}")))
    }

    /// Whether the server said that it closes the connection behind this answer.
    pub fn closes(&self) -> bool {
        wire::closes(self.minor, &self.headers) || self.framing == Framing::Close
    }

    /// The proxy's own member of `Cache-Status`, without its name: `hit; ttl=9`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn cache_status(&self) -> String {
        let lines = self.headers("cache-status");
        let members = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
        let mut ours = members.filter_map(|member| {
            let rest = member.strip_prefix("clearcoat")?;
            Some(rest.trim_start_matches(';').trim())
        });
        // Each cache appends itself, so the nearest one is the last.
        ours.next_back().unwrap_or_else(|| panic!("no Cache-Status of clearcoat in {self}")).to_owned()
    }

    /// The value of a parameter of [`Answer::cache_status`]; empty for a bare one.
    pub fn cache_parameter(&self, name: &str) -> Option<String> {
        self.cache_status().split(';').find_map(|parameter| {
            let (key, value) = parameter.trim().split_once('=').unwrap_or((parameter.trim(), ""));
            (key == name).then(|| value.to_owned())
        })
    }

    /// Where it came from.
    ///
    /// # Panics
    ///
    /// If there is no `Cache-Status`, or it names something RFC 9211 does not.
    pub fn served(&self) -> Served {
        if self.cache_parameter("ttl").is_some_and(|ttl| ttl.starts_with('-')) {
            return Served::Grace;
        }
        if self.cache_parameter("hit").is_some() {
            return Served::Hit;
        }
        if self.cache_parameter("collapsed").is_some_and(|value| value != "?0") {
            return Served::Collapsed;
        }
        match self.cache_parameter("fwd").as_deref() {
            Some("miss" | "uri-miss" | "vary-miss" | "stale" | "partial") => Served::Miss,
            Some("bypass" | "method" | "request") => Served::Bypass,
            Some(other) => panic!("fwd={other} in {self}"),
            None => Served::Own,
        }
    }

    /// Whether it went into the cache on its way.
    pub fn was_stored(&self) -> bool {
        self.cache_parameter("stored").is_some()
    }

    /// The same answer, after requiring its status.
    ///
    /// # Panics
    ///
    /// If the status is another.
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "HTTP/1.{} {} {}", self.minor, self.status, self.reason)?;
        for (name, value) in &self.headers {
            writeln!(out, "{name}: {value}")?;
        }
        let start = &self.body[..self.body.len().min(200)];
        write!(out, "({} bytes) {}", self.body.len(), String::from_utf8_lossy(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_is_understood() {
        check("clearcoat; hit; ttl=9", Served::Hit, false);
        check("clearcoat;hit", Served::Hit, false);
        check("clearcoat; hit; ttl=-3", Served::Grace, false);
        check("clearcoat; fwd=miss; stored", Served::Miss, true);
        check("clearcoat; fwd=stale; stored", Served::Miss, true);
        check("clearcoat; fwd=miss; collapsed", Served::Collapsed, false);
        check("clearcoat; fwd=miss; detail=SET-COOKIE", Served::Miss, false);
        check("clearcoat; fwd=bypass", Served::Bypass, false);
        check("origin; hit, clearcoat; fwd=miss", Served::Miss, false);
        check("clearcoat; detail=no-node", Served::Own, false);
    }

    #[track_caller]
    fn check(line: &str, served: Served, stored: bool) {
        let headers = vec![("Cache-Status".to_owned(), line.to_owned())];
        let head = AnswerHead { minor: 1, status: 200, reason: String::new(), headers };
        let head = Head { head, framing: Framing::Empty, interim: Vec::new(), left: Left::Nothing };
        let answer = Answer::new(head, Bytes::new());
        assert_eq!((answer.served(), answer.was_stored()), (served, stored), "Cache-Status: {line}");
    }
}
