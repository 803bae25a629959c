//! Lists of HTTP status codes.

use std::fmt;

use super::default;
use crate::error::Invalid;

/// Status codes that count as good: ranges within 100 to 599, at least one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatusList(Vec<(u16, u16)>);

impl StatusList {
    /// A list from its parts: `200`, `200-299` or `2xx`.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if a part has another form, or if there is none.
    pub fn parse<'a>(parts: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let ranges: Vec<_> = parts.into_iter().map(parse_range).collect::<Result<_, _>>()?;
        if ranges.is_empty() {
            return Err(Invalid::new("no status is expected", "write for instance [\"200-399\"]"));
        }
        Ok(Self(ranges))
    }

    /// Whether `status` is in the list.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }

    /// The ranges, both ends included, in the order of the file.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }
}

impl Default for StatusList {
    fn default() -> Self {
        Self(default::HEALTH_EXPECT.to_vec())
    }
}

impl fmt::Display for StatusList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str(", ")?;
            }
            if first == last { write!(out, "{first}")? } else { write!(out, "{first}-{last}")? }
        }
        Ok(())
    }
}

/// Reads one part of a list.
pub(crate) fn parse_range(text: &str) -> Result<(u16, u16), Invalid> {
    let invalid = || {
        Invalid::new(
            format!("{text:?} is not a status code or a range of them"),
            "write a code from 100 to 599 or a range, such as 301 or \"200-299\"",
        )
    };
    let code = |part: &str| -> Result<u16, Invalid> {
        if part.len() != 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        part.parse().ok().filter(|code| (100..=599).contains(code)).ok_or_else(invalid)
    };
    if let Some(class) = text.strip_suffix("xx") {
        let first = code(&format!("{class}00"))?;
        return Ok((first, first + 99));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (code(first)?, code(last)?);
    if first > last {
        return Err(Invalid::new(format!("the range {text:?} is empty"), format!("write {last}-{first}")));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_are_read() {
        check(&["200"], Some("200"));
        check(&["200-299", "301"], Some("200-299, 301"));
        check(&["2xx"], Some("200-299"));
        check(&["100-599"], Some("100-599"));
        check(&[], None);
        check(&["200-"], None);
        check(&["99"], None);
        check(&["600"], None);
        check(&["299-200"], None);
        check(&["+20"], None);
        check(&["6xx"], None);
        check(&["200", "ok"], None);
    }

    #[track_caller]
    fn check(parts: &[&str], expected: Option<&str>) {
        let read = StatusList::parse(parts.iter().copied()).ok();
        assert_eq!(read.map(|list| list.to_string()).as_deref(), expected, "input: {parts:?}");
    }

    #[test]
    fn both_ends_of_a_range_count() {
        let list = StatusList::parse(["200-299", "301"]).unwrap();
        for (status, good) in
            [(199, false), (200, true), (299, true), (300, false), (301, true), (302, false)]
        {
            assert_eq!(list.contains(status), good, "status {status}");
        }
    }
}
