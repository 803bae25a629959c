//! Tags: the names by which a web application purges what it cached (`xkey: l42 c57`), and how they are read from
//! header lines. Which entries carry a tag is kept in `tag/index`.

mod index;
mod list;

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

pub(crate) use index::{NOWHERE, TagIndex};
pub use list::TagList;

/// A tag: 1 to 4096 bytes without comma, space or tab. Compared byte by byte, so case matters. Cheap to clone.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag(Arc<[u8]>);

/// The text is no tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidTag {
    /// There are no bytes.
    #[error("a tag cannot be empty")]
    Empty,
    /// There are more than [`Tag::MAX_BYTES`].
    #[error("a tag has {0} bytes, more than {max}", max = Tag::MAX_BYTES)]
    TooLong(usize),
    /// It holds a comma, a space or a tab.
    #[error("a tag cannot hold a comma, a space or a tab")]
    Separator,
}

impl Tag {
    /// Longer tags are refused.
    pub const MAX_BYTES: usize = 4096;

    /// Checks and copies `bytes`.
    ///
    /// # Errors
    ///
    /// [`InvalidTag`] says what is wrong.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidTag> {
        check(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        show(&self.0, f)
    }
}

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tag({self})")
    }
}

impl AsRef<[u8]> for Tag {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn check(bytes: &[u8]) -> Result<(), InvalidTag> {
    if bytes.is_empty() {
        return Err(InvalidTag::Empty);
    }
    if bytes.len() > Tag::MAX_BYTES {
        return Err(InvalidTag::TooLong(bytes.len()));
    }
    if bytes.iter().any(|&byte| is_separator(byte)) {
        return Err(InvalidTag::Separator);
    }
    Ok(())
}

/// Writes a tag with what is not ASCII, and what would be unclear in a log, escaped.
fn show(tag: &[u8], f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    // Nearly all are plain, and one write is much faster than one for each byte.
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'\'' | b'"');
    match std::str::from_utf8(tag) {
        Ok(text) if tag.iter().all(plain) => f.write_str(text),
        Ok(_) | Err(_) => write!(f, "{}", tag.escape_ascii()),
    }
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\t')
}

/// The tags in one header line: split at commas, spaces and tabs, as xkey does. Empty ones vanish, repeated ones
/// come repeatedly.
pub fn split_tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| is_separator(byte)).filter(|tag| !tag.is_empty())
}

/// A response has more in its tag headers than is taken. Tags are never cut: a page that lost one would never be
/// purged by it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TagsTooLong {
    /// The lines have more bytes together than allowed.
    #[error("the tag headers have {bytes} bytes, more than {max_bytes}")]
    All {
        /// The lines' bytes, up to and with the one that was too much.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// One tag is too long.
    #[error("the tag headers cannot be used")]
    One(#[from] InvalidTag),
}

/// The tags in every line of every header of `names`, each once, in the order they came.
///
/// `max_bytes` limits the lines' values together.
///
/// # Errors
///
/// [`TagsTooLong`] if a limit is passed; then none of the tags may be used, and the response must not be stored.
pub fn collect_tags(
    headers: &HeaderMap,
    names: &[HeaderName],
    max_bytes: usize,
) -> Result<Box<[Tag]>, TagsTooLong> {
    let lines = || names.iter().flat_map(|name| headers.get_all(name)).map(|line| line.as_bytes());
    let mut bytes = 0;
    for line in lines() {
        bytes += line.len();
        if bytes > max_bytes {
            return Err(TagsTooLong::All { bytes, max_bytes });
        }
    }
    if bytes == 0 {
        return Ok(Box::default());
    }
    let mut seen = HashSet::new();
    let mut tags = Vec::new();
    for tag in lines().flat_map(split_tags).filter(|tag| seen.insert(*tag)) {
        tags.push(Tag::new(tag)?);
    }
    Ok(tags.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const XKEY: HeaderName = HeaderName::from_static("xkey");
    const CACHE_TAGS: HeaderName = HeaderName::from_static("x-cache-tags");

    #[test]
    fn lines_are_split_at_every_separator() {
        let line = b" l42,c57\tct1, ,  p1";
        let tags: Vec<_> = split_tags(line).collect();
        assert_eq!(tags, [&b"l42"[..], b"c57", b"ct1", b"p1"]);
        assert_eq!(split_tags(b" ,\t, ").count(), 0);
    }

    #[test]
    fn every_line_of_every_header_counts_once() {
        let mut headers = HeaderMap::new();
        headers.append(XKEY, "l42 c57".parse().unwrap());
        headers.append(XKEY, "c57 C57".parse().unwrap());
        headers.append(CACHE_TAGS, "l42,p1".parse().unwrap());
        let tags = collect_tags(&headers, &[XKEY, CACHE_TAGS], 100).unwrap();
        let tags: Vec<_> = tags.iter().map(Tag::as_bytes).collect();
        assert_eq!(tags, [&b"l42"[..], b"c57", b"C57", b"p1"]);
        assert!(collect_tags(&HeaderMap::new(), &[XKEY], 0).unwrap().is_empty());
    }

    #[test]
    fn too_much_is_refused_as_a_whole() {
        let mut headers = HeaderMap::new();
        headers.append(XKEY, "abc".parse().unwrap());
        headers.append(XKEY, "de".parse().unwrap());
        assert_eq!(collect_tags(&headers, &[XKEY], 5).unwrap().len(), 2);
        let refused = collect_tags(&headers, &[XKEY], 4);
        assert_eq!(refused, Err(TagsTooLong::All { bytes: 5, max_bytes: 4 }));
        headers.append(XKEY, "x".repeat(4097).parse().unwrap());
        assert_eq!(collect_tags(&headers, &[XKEY], 9999), Err(TagsTooLong::One(InvalidTag::TooLong(4097))));
    }

    #[test]
    fn what_is_a_tag() {
        assert_eq!(Tag::new(b""), Err(InvalidTag::Empty));
        assert_eq!(Tag::new(b"a,b"), Err(InvalidTag::Separator));
        assert_eq!(Tag::new(&[b'x'; 4096]).map(|tag| tag.as_bytes().len()), Ok(4096));
        assert_eq!(Tag::new("é".as_bytes()).unwrap().to_string(), "\\xc3\\xa9");
    }
}
