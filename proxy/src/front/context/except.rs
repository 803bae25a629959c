//! URLs that need no hash: assets, told by how they end.

/// Ends of URLs, their query included. Default: none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Except {
    suffixes: Box<[Box<[u8]>]>,
    /// A bit for each byte in which one of them ends. Most URLs end in none of these, so that a list of thirty costs them
    /// nothing.
    last: [u64; 4],
}

impl Except {
    pub(crate) fn new<'a>(suffixes: impl IntoIterator<Item = &'a str>) -> Self {
        let suffixes = suffixes.into_iter().filter(|text| !text.is_empty());
        let suffixes: Box<[Box<[u8]>]> = suffixes.map(|text| text.as_bytes().into()).collect();
        let mut last = [0; 4];
        for byte in suffixes.iter().filter_map(|text| text.last()) {
            last[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        Self { suffixes, last }
    }

    /// Whether this path with its query needs no hash.
    pub(crate) fn covers(&self, target: &[u8]) -> bool {
        let Some(&byte) = target.last() else { return false };
        self.last[usize::from(byte >> 6)] & 1 << (byte & 63) != 0
            && self.suffixes.iter().any(|text| target.ends_with(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_by_their_ends() {
        let assets = Except::new([".css", ".js", ".gif", ""]);
        for (except, target, expected) in [
            (&assets, "/a.css", true),
            (&assets, "/a.CSS", false),
            (&assets, "/a.css?1", false),
            (&assets, "/a?b.js", true),
            (&assets, "/", false),
            (&assets, "", false),
            (&assets, "/as", false),
            (&Except::default(), "/a.css", false),
        ] {
            assert_eq!(except.covers(target.as_bytes()), expected, "{target}");
        }
    }
}
