//! Which parts of an entry a client asks for (RFC 9110 section 14).
//!
//! Ranges are answered from whole entries, and from bodies on their way to become some ([`super::cold_range`]). What is not understood is ignored, as the RFC has it: the whole entry
//! is always a right answer. So is a request for more parts than anybody needs, which would make the answer larger
//! than the entry.

use std::ops::Range;
use std::time::SystemTime;

use clearcoat_cache::{Entry, SelectingHeaders};

use super::conditional::{date, line};
use crate::listen::head::{Head, Method};

/// Parts that one request may name; a request for more gets the whole.
const MAX_PARTS: usize = 16;

/// What to send of an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// All of it (200, or whatever its status is).
    Whole,
    /// This range (206).
    One(Range<usize>),
    /// These ranges, in the order in which they were asked for (206, multipart/byteranges).
    Several(Vec<Range<usize>>),
    /// Nothing of what was asked for is there (416).
    Unsatisfiable,
}

/// What a request asks of an entry.
pub(crate) fn part(entry: &Entry, head: &Head<'_, '_>) -> Part {
    if head.method != Method::Get {
        return Part::Whole;
    }
    part_of(entry.status(), entry.head(), entry.body().len(), head)
}

/// What a GET asks of an answer with this status, serialised head and length of body.
pub(crate) fn part_of(status: u16, own: &[u8], length: usize, request: &dyn SelectingHeaders) -> Part {
    let (mut lines, mut part) = (0, Part::Whole);
    request.visit("range", &mut |line| {
        lines += 1;
        if status == 200 {
            part = read(line, length);
        }
    });
    if lines == 1 && part != Part::Whole && is_current(own, request) { part } else { Part::Whole }
}

/// Whether If-Range, where it stands, names this very answer (section 13.1.5): by a strong entity tag, or by the date
/// it was last modified.
fn is_current(own: &[u8], request: &dyn SelectingHeaders) -> bool {
    let mut current = None;
    request.visit("if-range", &mut |condition| {
        let condition = condition.trim_ascii();
        current = current.or_else(|| {
            if condition.starts_with(b"\"") {
                return Some(line(own, b"etag") == Some(condition));
            }
            let modified: Option<SystemTime> = line(own, b"last-modified").and_then(date);
            Some(modified.is_some() && modified == date(condition))
        });
    });
    current.unwrap_or(true)
}

/// Reads a Range line for a body of `length` bytes.
fn read(line: &[u8], length: usize) -> Part {
    let text = line.trim_ascii();
    let Some((unit, set)) = text.split_at_checked(b"bytes=".len()) else { return Part::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Part::Whole;
    }
    let mut parts = Vec::new();
    for (index, spec) in set.split(|byte| *byte == b',').enumerate() {
        if index >= MAX_PARTS {
            return Part::Whole;
        }
        match read_one(spec.trim_ascii(), length) {
            Some(Some(range)) => parts.push(range),
            Some(None) => {}
            // One bad part makes the whole line invalid.
            None => return Part::Whole,
        }
    }
    let asked: usize = parts.iter().map(Range::len).sum();
    match parts.len() {
        0 => Part::Unsatisfiable,
        1 => Part::One(parts.swap_remove(0)),
        // Overlapping parts can ask for the same bytes many times over.
        _ if asked > length => Part::Whole,
        _ => Part::Several(parts),
    }
}

/// `None`: not a range; `Some(None)`: one that lies beyond the body.
fn read_one(spec: &[u8], length: usize) -> Option<Option<Range<usize>>> {
    let dash = memchr::memchr(b'-', spec)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => {
            let count = number(last)?.min(length);
            Some((count > 0).then(|| length - count..length))
        }
        (false, true) => {
            let first = number(first)?;
            Some((first < length).then_some(first..length))
        }
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            Some((first < length).then(|| first..last.saturating_add(1).min(length)))
        }
    }
}

/// Digits only; what does not fit stands for the largest number.
fn number(text: &[u8]) -> Option<usize> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok()?;
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Part) {
        assert_eq!(read(line.as_bytes(), 10), expected, "{line}");
    }

    #[test]
    fn ranges_are_read() {
        check("bytes=0-3", Part::One(0..4));
        check("Bytes=0-0", Part::One(0..1));
        check("bytes=5-", Part::One(5..10));
        check("bytes=-3", Part::One(7..10));
        check("bytes=-30", Part::One(0..10));
        check("bytes=8-100", Part::One(8..10));
        check("bytes=8-99999999999999999999999", Part::One(8..10));
        check("bytes=0-1, 4-5 ,-1", Part::Several(vec![0..2, 4..6, 9..10]));
        check("bytes=0-1,20-30", Part::One(0..2));
        check("bytes=10-", Part::Unsatisfiable);
        check("bytes=-0", Part::Unsatisfiable);
        check("bytes=20-30,40-", Part::Unsatisfiable);
    }

    #[test]
    fn what_is_no_range_is_ignored() {
        for line in [
            "bytes=",
            "bytes",
            "bytes=-",
            "bytes=3-1",
            "bytes=a-b",
            "bytes=1-2,x",
            "lines=1-2",
            "bytes=+1-2",
            "",
        ] {
            check(line, Part::Whole);
        }
        check("bytes=0-9,0-9", Part::Whole);
        let many: Vec<String> = (0..17).map(|_| "0-0".to_owned()).collect();
        check(&format!("bytes={}", many.join(",")), Part::Whole);
    }

    proptest! {
        #[test]
        fn ranges_lie_within_the_body(line in "bytes=[0-9,-]{0,30}", length in 0usize..50) {
            let parts = match read(line.as_bytes(), length) {
                Part::Whole | Part::Unsatisfiable => Vec::new(),
                Part::One(range) => vec![range],
                Part::Several(ranges) => ranges,
            };
            for range in &parts {
                prop_assert!(range.start < range.end && range.end <= length);
            }
            prop_assert!(parts.iter().map(Range::len).sum::<usize>() <= length);
        }
    }
}
