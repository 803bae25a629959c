//! URLs that need no hash: assets, told by how they end.

use crate::front::route::PathRule;

/// Patterns for paths with their query.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Except {
    rules: Box<[PathRule]>,
    /// A bit for each byte in which a pattern ends. Most URLs end in none of them, so that a list of thirty extensions
    /// costs them nothing.
    ends: [u64; 4],
}

impl Except {
    pub(crate) fn new(rules: impl IntoIterator<Item = PathRule>) -> Self {
        let rules: Box<[PathRule]> = rules.into_iter().collect();
        let mut ends = [0; 4];
        for rule in &rules {
            match rule {
                PathRule::Exact(text) | PathRule::Suffix(text) if !text.is_empty() => {
                    let last = text.as_bytes()[text.len() - 1];
                    ends[usize::from(last >> 6)] |= 1 << (last & 63);
                }
                PathRule::Exact(_) | PathRule::Suffix(_) | PathRule::Prefix(_) => ends = [u64::MAX; 4],
            }
        }
        Self { rules, ends }
    }

    /// Whether this URL needs no hash.
    pub(crate) fn covers(&self, target: &[u8]) -> bool {
        let Some(&last) = target.last() else { return false };
        self.ends[usize::from(last >> 6)] & 1 << (last & 63) != 0
            && self.rules.iter().any(|rule| rule.matches(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_by_their_patterns() {
        let suffix = |text: &str| PathRule::Suffix(text.into());
        let assets = Except::new([".css", ".js", ".gif"].map(suffix));
        let all =
            Except::new([suffix(".css"), PathRule::Prefix("/open/".into()), PathRule::Exact("/a".into())]);
        for (except, target, expected) in [
            (&assets, "/a.css", true),
            (&assets, "/a.CSS", false),
            (&assets, "/a.css?1", false),
            (&assets, "/a?b.js", true),
            (&assets, "/", false),
            (&assets, "", false),
            (&assets, "/as", false),
            (&all, "/open/x?y", true),
            (&all, "/a", true),
            (&all, "/a/", false),
            (&Except::default(), "/a.css", false),
        ] {
            assert_eq!(except.covers(target.as_bytes()), expected, "{target}");
        }
    }
}
