//! Tags as a purge names them.

use super::{InvalidTag, check, show};

/// Tags in one piece of memory, however many: a purge may name thousands, and looks each up once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TagList {
    text: Vec<u8>,
    /// Where each tag ends; the next one begins there.
    ends: Vec<usize>,
}

impl TagList {
    /// All of these.
    ///
    /// # Errors
    ///
    /// [`InvalidTag`] says what is wrong with the first that is none.
    pub fn read(tags: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Self, InvalidTag> {
        let mut list = Self::default();
        for tag in tags {
            list.push(tag.as_ref())?;
        }
        Ok(list)
    }

    /// Adds a tag, also one that is there already.
    ///
    /// # Errors
    ///
    /// [`InvalidTag`] says what is wrong with it.
    pub fn push(&mut self, tag: &[u8]) -> Result<(), InvalidTag> {
        check(tag)?;
        self.text.extend_from_slice(tag);
        self.ends.push(self.text.len());
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The tags, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// The tags with spaces between them.
impl std::fmt::Display for TagList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, tag) in self.iter().enumerate() {
            f.write_str(if place > 0 { " " } else { "" })?;
            show(tag, f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tags_keep_their_order_and_their_ends() {
        let mut list = TagList::default();
        assert!(list.is_empty() && list.iter().next().is_none());
        for tag in [&b"l42"[..], b"c", b"l42", "é\"".as_bytes()] {
            list.push(tag).unwrap();
        }
        assert_eq!(list.iter().collect::<Vec<_>>(), [&b"l42"[..], b"c", b"l42", "é\"".as_bytes()]);
        assert_eq!(list.to_string(), r#"l42 c l42 \xc3\xa9\""#);
        assert_eq!(list.push(b""), Err(InvalidTag::Empty));
        assert_eq!(list.push(b"a b"), Err(InvalidTag::Separator));
        assert_eq!(list.iter().count(), 4);
    }
}
