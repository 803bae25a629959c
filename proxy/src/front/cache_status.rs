//! Our member of `Cache-Status` (RFC 9211): what this cache did with a request, for every answer.
//!
//! An answer that comes from another cache behind us brings that one's member along, in its head or in what is stored of
//! it; ours goes on a line of its own behind all others and so is the last of the list (section 2).
//!
//! The RFC would rather see no member on answers that a cache makes up itself (refusals, errors, purges). They have one
//! here, with neither `hit` nor `fwd` where no node was asked: an operator who sees an error wants to know first of all
//! which of the machines in the row made it.
//!
//! Nothing is allocated on the way of a hit: the line is written into the connection's buffer.

use clearcoat_cache::{Entry, Moment};

use crate::admin::Forward;

/// The name by which we go, a token.
const NAME: &[u8] = b"clearcoat";

/// What our member says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CacheStatus {
    /// From memory; no node was asked for it (section 2.1). Serving stale counts too.
    Hit {
        /// Seconds of freshness left; negative when it is over (section 2.4).
        ttl: i64,
        /// More about it, in a word.
        detail: Option<&'static str>,
        /// What else is told.
        told: Told,
    },
    /// A node was asked.
    Forwarded(Forwarded),
    /// Made up here without asking anybody; what it is, in a word.
    Own(&'static str),
}

/// What an answer tells besides, in the words of the VCLs of FOSHttpCache and eZ Platform.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// `X-Cache`: whether it was a hit. Stale ones count.
    Hit,
    /// That, `X-Cache-TTL` in seconds, and the tags of what is stored.
    All,
}

/// What our member says when a node was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Forwarded {
    /// Why (section 2.2).
    pub(crate) forward: Forward,
    /// What the node said (section 2.3); `None`: the status of the answer.
    pub(crate) status: Option<u16>,
    /// Seconds of freshness left of what was stored or served.
    pub(crate) ttl: Option<i64>,
    /// It went into the cache (section 2.5).
    pub(crate) stored: bool,
    /// Whether the fetch of another request was waited for and gave the answer; `Some(false)`: it was not to be shared,
    /// and a fetch of its own had to follow (section 2.6).
    pub(crate) collapsed: Option<bool>,
    /// Why it was not stored, or what else there is to say, in a word (section 2.8).
    pub(crate) detail: Option<&'static str>,
    /// What else is told.
    pub(crate) told: Told,
}

impl Forwarded {
    /// A node was asked for this reason; nothing else is known yet.
    pub(crate) const fn new(forward: Forward) -> Self {
        Self {
            forward,
            status: None,
            ttl: None,
            stored: false,
            collapsed: None,
            detail: None,
            told: Told::Nothing,
        }
    }
}

impl CacheStatus {
    /// A hit of this entry.
    pub(crate) fn hit(entry: &Entry, now: Moment, detail: Option<&'static str>) -> Self {
        let told = if entry.tells() { Told::Hit } else { Told::Nothing };
        Self::Hit { ttl: entry.ttl_left(now), detail, told }
    }

    /// What is told besides.
    pub(crate) const fn told(&self) -> Told {
        match *self {
            Self::Hit { told, .. } | Self::Forwarded(Forwarded { told, .. }) => told,
            Self::Own(_) => Told::Nothing,
        }
    }

    /// The same, told to one who is told all.
    pub(crate) fn to_debugger(mut self) -> Self {
        match &mut self {
            Self::Hit { told, .. } | Self::Forwarded(Forwarded { told, .. }) => *told = Told::All,
            Self::Own(_) => {}
        }
        self
    }

    /// Appends the header line, with its end.
    pub(crate) fn write_line(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(b"Cache-Status: ");
        self.write(output);
        output.extend_from_slice(b"\r\n");
        if self.told() != Told::Nothing {
            self.write_told(output);
        }
    }

    #[cold]
    fn write_told(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(self.x_cache().as_bytes());
        let (Self::Hit { ttl, .. } | Self::Forwarded(Forwarded { ttl: Some(ttl), .. })) = *self else {
            return;
        };
        if self.told() == Told::All {
            output.extend_from_slice(b"X-Cache-TTL: ");
            push_number(output, ttl);
            output.extend_from_slice(b"\r\n");
        }
    }

    const fn x_cache(&self) -> &'static str {
        match self {
            Self::Hit { .. } => "X-Cache: HIT\r\n",
            Self::Forwarded(_) | Self::Own(_) => "X-Cache: MISS\r\n",
        }
    }

    /// The value of the header field.
    pub(crate) fn value(&self) -> String {
        let mut value = Vec::with_capacity(48);
        self.write(&mut value);
        // Everything that is written is ASCII.
        String::from_utf8(value).unwrap_or_default()
    }

    fn write(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(NAME);
        match *self {
            Self::Hit { ttl, detail, told: _ } => {
                output.extend_from_slice(b"; hit; ttl=");
                push_number(output, ttl);
                push_detail(output, detail);
            }
            Self::Forwarded(Forwarded { forward, status, ttl, stored, collapsed, detail, told: _ }) => {
                output.extend_from_slice(b"; fwd=");
                output.extend_from_slice(forward.label().as_bytes());
                if let Some(status) = status {
                    output.extend_from_slice(b"; fwd-status=");
                    push_number(output, i64::from(status));
                }
                if let Some(ttl) = ttl {
                    output.extend_from_slice(b"; ttl=");
                    push_number(output, ttl);
                }
                if stored {
                    output.extend_from_slice(b"; stored");
                }
                match collapsed {
                    Some(true) => output.extend_from_slice(b"; collapsed"),
                    Some(false) => output.extend_from_slice(b"; collapsed=?0"),
                    None => {}
                }
                push_detail(output, detail);
            }
            Self::Own(detail) => push_detail(output, Some(detail)),
        }
    }
}

/// A number as a structured field has it: at most fifteen digits (RFC 9651 section 3.3.1).
fn push_number(output: &mut Vec<u8>, number: i64) {
    const MOST: i64 = 999_999_999_999_999;
    output.extend_from_slice(itoa::Buffer::new().format(number.clamp(-MOST, MOST)).as_bytes());
}

/// A token where the words are one, else a string (RFC 9651 sections 3.3.3 and 3.3.4).
fn push_detail(output: &mut Vec<u8>, detail: Option<&'static str>) {
    let Some(detail) = detail else { return };
    output.extend_from_slice(b"; detail=");
    if is_token(detail.as_bytes()) {
        return output.extend_from_slice(detail.as_bytes());
    }
    output.push(b'"');
    for &byte in detail.as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            output.push(b'\\');
        }
        output.push(if (0x20..0x7f).contains(&byte) { byte } else { b'?' });
    }
    output.push(b'"');
}

fn is_token(text: &[u8]) -> bool {
    let may_begin = |byte: u8| byte.is_ascii_alphabetic() || byte == b'*';
    let may_follow = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(byte);
    text.first().copied().is_some_and(may_begin) && text.iter().all(may_follow)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[track_caller]
    fn check(status: CacheStatus, expected: &str) {
        assert_eq!(status.value(), expected);
        let mut line = Vec::new();
        status.write_line(&mut line);
        assert_eq!(String::from_utf8_lossy(&line), format!("Cache-Status: {expected}\r\n"));
    }

    #[test]
    fn members_are_written() {
        let forwarded = |forward| Forwarded::new(forward);
        check(CacheStatus::Hit { ttl: 52, detail: None, told: Told::Nothing }, "clearcoat; hit; ttl=52");
        check(
            CacheStatus::Hit { ttl: -3, detail: Some("no-node"), told: Told::Nothing },
            "clearcoat; hit; ttl=-3; detail=no-node",
        );
        check(
            CacheStatus::Hit { ttl: i64::MAX, detail: None, told: Told::Nothing },
            "clearcoat; hit; ttl=999999999999999",
        );
        check(CacheStatus::Own("purge"), "clearcoat; detail=purge");
        for (member, expected) in [
            (forwarded(Forward::Bypass), "fwd=bypass"),
            (
                Forwarded { stored: true, ttl: Some(60), ..forwarded(Forward::UriMiss) },
                "fwd=uri-miss; ttl=60; stored",
            ),
            (Forwarded { collapsed: Some(true), ..forwarded(Forward::VaryMiss) }, "fwd=vary-miss; collapsed"),
            (
                Forwarded { collapsed: Some(false), detail: Some("private"), ..forwarded(Forward::UriMiss) },
                "fwd=uri-miss; collapsed=?0; detail=private",
            ),
            (
                Forwarded { status: Some(304), ttl: Some(9), stored: true, ..forwarded(Forward::Stale) },
                "fwd=stale; fwd-status=304; ttl=9; stored",
            ),
        ] {
            check(CacheStatus::Forwarded(member), &format!("clearcoat; {expected}"));
        }
    }

    #[test]
    fn some_are_told_more() {
        let hit = CacheStatus::Hit { ttl: 52, detail: None, told: Told::Hit };
        let miss = CacheStatus::Forwarded(Forwarded {
            told: Told::Hit,
            ttl: Some(9),
            ..Forwarded::new(Forward::Stale)
        });
        for (status, expected) in [
            (hit, "X-Cache: HIT\r\n"),
            (hit.to_debugger(), "X-Cache: HIT\r\nX-Cache-TTL: 52\r\n"),
            (miss, "X-Cache: MISS\r\n"),
            (miss.to_debugger(), "X-Cache: MISS\r\nX-Cache-TTL: 9\r\n"),
            (CacheStatus::Own("purge").to_debugger(), ""),
        ] {
            let mut lines = Vec::new();
            status.write_line(&mut lines);
            let lines = String::from_utf8(lines).unwrap();
            assert_eq!(lines.split_once("\r\n").unwrap().1, expected);
        }
    }

    #[test]
    fn a_detail_is_a_token_or_a_string() {
        for (detail, expected) in [
            ("no-store", "no-store"),
            ("too many tags", "\"too many tags\""),
            ("5xx", "\"5xx\""),
            ("", "\"\""),
            ("a \"b\\", "\"a \\\"b\\\\\""),
        ] {
            check(CacheStatus::Own(detail), &format!("clearcoat; detail={expected}"));
        }
    }
}
