//! What is wrong with a configuration: one [`Mistake`] per wrong place, all of a file in [`Mistakes`].
//!
//! Nothing here decides what is a mistake; that is `check`'s work. The texts are made for a terminal: one line per
//! mistake, in the `file:line:column:` form that editors jump to.

use std::borrow::Cow;
use std::fmt;

/// A value that cannot be read, with what to write instead.
///
/// The parsers of single values ([`crate::units`], [`crate::ListenAddress`], …) return it; inside a file it becomes a
/// [`Mistake`] with a position.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{problem}; {hint}")]
pub struct Invalid {
    problem: Cow<'static, str>,
    hint: Cow<'static, str>,
}

impl Invalid {
    /// A problem ("`5` has no unit") and what to do about it ("write 5s").
    pub fn new(problem: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { problem: problem.into(), hint: hint.into() }
    }

    /// What is wrong, without the advice.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Where in the text a mistake stands.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters (not bytes), counted from 1.
    pub column: usize,
}

/// Where the lines of a text begin, so that a file with many mistakes is not counted through for each of them.
pub(crate) struct Lines<'a> {
    text: &'a str,
    /// Byte offsets, in order; the first is 0.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let after_newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// The place of a byte offset; one past the end means the end.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.starts.get(index)).copied().unwrap_or(0);
        // A byte order mark at the beginning is no character that an editor shows.
        let before = self.text.get(start..offset).unwrap_or("").trim_start_matches('\u{feff}');
        Place { line, column: before.chars().count() + 1 }
    }
}

/// One mistake of a configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// The file, as it was named by the caller.
    pub file: String,
    /// Where it stands; `None` if the file could not be read at all.
    pub place: Option<Place>,
    /// The key, such as `pools.web.nodes[1]` (lists count from 0); empty where no key is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(out, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(out, ": {}", self.key)?;
        }
        write!(out, ": {}", self.message)?;
        if !self.hint.is_empty() {
            write!(out, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// All mistakes of one file, in the order of their places. Never empty. Displayed one per line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Puts the mistakes in order; `None` if there are none.
    pub(crate) fn collect(mut mistakes: Vec<Mistake>) -> Option<Self> {
        mistakes.sort_by_key(|mistake| mistake.place);
        if mistakes.is_empty() { None } else { Some(Self(mistakes)) }
    }

    /// The mistakes in the order of their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }

    /// How many there are; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<Mistake> for Mistakes {
    fn from(only: Mistake) -> Self {
        Self(vec![only])
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        check("", 0, 1, 1);
        check("abc", 2, 1, 3);
        check("a\nbc", 3, 2, 2);
        check("a = \"ü\" # x", 9, 1, 9);
        check("a\r\nb", 3, 2, 1);
        check("ü", 1, 1, 1);
        check("ab", 99, 1, 3);
    }

    #[track_caller]
    fn check(text: &str, offset: usize, line: usize, column: usize) {
        assert_eq!(Lines::of(text).place(offset), Place { line, column }, "offset {offset} of {text:?}");
    }

    #[test]
    fn a_mistake_is_one_line_that_editors_understand() {
        let mistake = Mistake {
            file: "edge.toml".into(),
            place: Some(Place { line: 12, column: 5 }),
            key: "pools.web.nodes".into(),
            message: "a pool needs at least one node".into(),
            hint: "add nodes = [\"10.0.0.11:80\"]".into(),
        };
        assert_eq!(
            mistake.to_string(),
            "edge.toml:12:5: pools.web.nodes: a pool needs at least one node; add nodes = [\"10.0.0.11:80\"]"
        );
        let unreadable = Mistake { place: None, key: String::new(), hint: String::new(), ..mistake };
        assert_eq!(unreadable.to_string(), "edge.toml: a pool needs at least one node");
    }
}
