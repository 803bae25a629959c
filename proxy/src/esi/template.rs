//! What a page with ESI tags is made of: ranges of its text, and what stands between them.
//!
//! Read once, when the page is stored ([`parse`](super::parse)), and a part of its entry from then on. Nothing of the text is
//! copied; a template and its body belong together and go together.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::expression::{Test, Variable};

/// What an allocation costs beside its bytes, about: counters and rounding.
const ALLOCATION_BYTES: usize = 32;

/// A page as it was read.
#[derive(Debug, Default)]
pub(crate) struct Template {
    /// The lines that clients get of the page's head, each with its line end, without `Content-Length`.
    pub(crate) head: Bytes,
    pub(crate) parts: Box<[Part]>,
    /// Tags that were left out because nobody knows them, or they stand where they mean nothing.
    pub(crate) strays: u32,
    /// Something in it depends on who asks.
    pub(crate) is_personal: bool,
}

/// A part of a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Bytes of the body, as they are.
    Text(Span),
    Include(Arc<Include>),
    Variable(Arc<Variable>),
    Try(Arc<Try>),
    Choose(Arc<Choose>),
}

/// A range of the body. Four bytes a side: larger bodies are not read for tags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// As a range of positions.
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// `<esi:include>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Include {
    pub(crate) src: Source,
    /// What is asked for when `src` fails.
    pub(crate) alt: Option<Source>,
    /// `onerror="continue"`: when both fail there is nothing in its place.
    pub(crate) or_nothing: bool,
}

/// Where a fragment is to be had, as its tag says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// Path and query, on the page's own host.
    Path(Box<[u8]>),
    /// Another host (maybe with a port), and path and query there.
    Host(Box<[u8]>, Box<[u8]>),
    /// To be put behind the last slash of the page's own path.
    Relative(Box<[u8]>),
    /// Another scheme, or nothing that could be asked for.
    Unusable,
}

/// `<esi:try>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Try {
    pub(crate) attempt: Box<[Part]>,
    pub(crate) except: Box<[Part]>,
}

/// `<esi:choose>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Choose {
    /// The first that holds is taken.
    pub(crate) whens: Box<[(Test, Box<[Part]>)]>,
    pub(crate) otherwise: Box<[Part]>,
}

impl Template {
    /// Whether there is anything to be done with a body of so many bytes at all.
    pub(crate) fn has_work(&self, body_bytes: usize) -> bool {
        match &*self.parts {
            [] => body_bytes > 0,
            [Part::Text(span)] => span.range() != (0..body_bytes),
            [..] => true,
        }
    }

    /// The memory it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + ALLOCATION_BYTES + self.head.len() + weight(&self.parts)
    }
}

fn weight(parts: &[Part]) -> usize {
    let own = |part: &Part| match part {
        Part::Text(_) => 0,
        Part::Include(include) => {
            size_of::<Include>()
                + ALLOCATION_BYTES
                + include.src.weight()
                + include.alt.as_ref().map_or(0, Source::weight)
        }
        Part::Variable(variable) => ALLOCATION_BYTES + variable.weight(),
        Part::Try(block) => {
            size_of::<Try>() + ALLOCATION_BYTES + weight(&block.attempt) + weight(&block.except)
        }
        Part::Choose(block) => {
            let when = |(test, parts): &(Test, Box<[Part]>)| test.weight() + weight(parts);
            size_of::<Choose>()
                + ALLOCATION_BYTES
                + block.whens.iter().map(when).sum::<usize>()
                + weight(&block.otherwise)
        }
    };
    ALLOCATION_BYTES + size_of_val(parts) + parts.iter().map(own).sum::<usize>()
}

impl Source {
    fn weight(&self) -> usize {
        match self {
            Self::Path(path) | Self::Relative(path) => path.len() + ALLOCATION_BYTES,
            Self::Host(host, path) => host.len() + path.len() + 2 * ALLOCATION_BYTES,
            Self::Unusable => 0,
        }
    }

    /// Reads the value of an attribute, its character references decoded already.
    pub(crate) fn read(value: &[u8]) -> Self {
        let value = value.trim_ascii();
        // What follows a number sign is for browsers (RFC 3986 section 3.5).
        let value = &value[..memchr::memchr(b'#', value).unwrap_or(value.len())];
        let scheme = [&b"http://"[..], b"https://", b"//"]
            .into_iter()
            .find(|scheme| value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        if let Some(scheme) = scheme {
            let rest = &value[scheme.len()..];
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            let (host, path) = rest.split_at(end);
            let known = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
            if host.is_empty() || !host.iter().all(known) {
                return Self::Unusable;
            }
            let mut target = Vec::with_capacity(path.len() + 1);
            if !path.starts_with(b"/") {
                target.push(b'/');
            }
            target.extend_from_slice(path);
            return Self::Host(host.into(), fit_for_a_request_line(&target));
        }
        if value.is_empty() {
            return Self::Unusable;
        }
        if value.starts_with(b"/") {
            return Self::Path(fit_for_a_request_line(value));
        }
        // `name:` in front of the first slash is a scheme (RFC 3986 section 4.2).
        let segment = &value[..value.iter().position(|byte| b"/?".contains(byte)).unwrap_or(value.len())];
        if segment.contains(&b':') {
            return Self::Unusable;
        }
        Self::Relative(fit_for_a_request_line(value))
    }
}

/// A target without bytes that a request line cannot have: they are written in percent.
fn fit_for_a_request_line(target: &[u8]) -> Box<[u8]> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut fit = Vec::with_capacity(target.len());
    for byte in target {
        match byte {
            0..=0x20 | 0x7f.. | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                fit.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => fit.push(*byte),
        }
    }
    fit.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &Source) {
        assert_eq!(Source::read(value.as_bytes()), *expected, "value: {value:?}");
    }

    #[test]
    fn sources_are_read() {
        let path = |path: &str| Source::Path(path.as_bytes().into());
        let host = |host: &str, path: &str| Source::Host(host.as_bytes().into(), path.as_bytes().into());
        check("/a?b=c&d", &path("/a?b=c&d"));
        check("  /a#top ", &path("/a"));
        check("/a b\u{e9}\n", &path("/a%20b%C3%A9"));
        check("/a\r\nX: y", &path("/a%0D%0AX:%20y"));
        check("http://a.test/b?c", &host("a.test", "/b?c"));
        check("HTTPS://A.test:8080", &host("A.test:8080", "/"));
        check("//a.test?x", &host("a.test", "/?x"));
        check("b/c", &Source::Relative(b"b/c".as_slice().into()));
        check("?x=1:2", &Source::Relative(b"?x=1:2".as_slice().into()));
        for unusable in
            ["", "#a", "http://", "http:///a", "http://u@a/b", "file:///etc/passwd", "javascript:x"]
        {
            check(unusable, &Source::Unusable);
        }
    }
}
