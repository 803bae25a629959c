//! The tests that are known to fail, and how a run differs from that.
//!
//! A list is a JSON object: each key is a reason in words, each value the ids of the tests that fail for it. What is on no list has
//! to pass. Tests of the kind *check* are never on it.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};

use crate::outcome::Outcomes;

/// A list of tests that are known to fail: id → reason.
#[derive(Debug)]
pub(crate) struct Expected(BTreeMap<String, String>);

impl Expected {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// If the text is not such a list, or names a test twice.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let by_reason: BTreeMap<String, Vec<String>> =
            serde_json::from_str(text).context("reading the list")?;
        let mut reasons = BTreeMap::new();
        for (reason, ids) in by_reason {
            for id in ids {
                if let Some(other) = reasons.insert(id.clone(), reason.clone()) {
                    bail!("{id} is there twice: {other}; {reason}");
                }
            }
        }
        Ok(Self(reasons))
    }

    /// Holds a run against the list.
    pub(crate) fn compare(&self, outcomes: &Outcomes) -> Difference {
        let explain = |id: &str| outcomes.explain(id);
        let regressions = outcomes.failed().filter(|id| !self.0.contains_key(*id)).map(explain).collect();
        let listed = || self.0.iter();
        let unknown = listed().filter(|(id, _)| !outcomes.has(id)).map(|(id, _)| id.clone()).collect();
        let improvements = listed()
            .filter(|(id, _)| outcomes.passed(id))
            .map(|(id, reason)| format!("{id}: no longer: {reason}"))
            .collect();
        Difference { regressions, unknown, improvements }
    }
}

/// How a run differs from the list, as lines for a reader.
#[derive(Debug)]
pub(crate) struct Difference {
    regressions: Vec<String>,
    unknown: Vec<String>,
    improvements: Vec<String>,
}

impl Difference {
    /// Whether a test failed that had to pass, or the list names one that was not run: a slip of the pen would hide a regression.
    pub(crate) fn is_bad(&self) -> bool {
        !self.regressions.is_empty() || !self.unknown.is_empty()
    }

    /// The tests that are listed and passed: to be taken off the list.
    pub(crate) fn good_news(&self) -> String {
        titled("pass now, to be taken off the list", &self.improvements)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&titled("failed, but are not on the list", &self.regressions))?;
        f.write_str(&titled("on the list, but were not run", &self.unknown))
    }
}

/// The lines under a title, or nothing if there are none.
fn titled(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    format!("{title}:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::outcomes;

    #[test]
    fn a_run_is_held_against_the_list() {
        let run = outcomes("required a yes\noptimal b no\ncheck c no\nrequired d yes b");
        let list = |text: &str| Expected::parse(text).unwrap().compare(&run);
        for (text, bad, good) in [
            (r#"{"not yet": ["b", "d"]}"#, "", ""),
            (r#"{"not yet": ["b"]}"#, "failed, but are not on the list:\n  required g/d: depends on b\n", ""),
            (
                r#"{"not yet": ["b", "d"], "never": ["a"]}"#,
                "",
                "pass now, to be taken off the list:\n  a: no longer: never\n",
            ),
            (r#"{"not yet": ["b", "d", "e"]}"#, "on the list, but were not run:\n  e\n", ""),
        ] {
            let difference = list(text);
            assert_eq!(difference.to_string(), bad, "{text}");
            assert_eq!(difference.is_bad(), !bad.is_empty(), "{text}");
            assert_eq!(difference.good_news(), good, "{text}");
        }
    }

    #[test]
    fn a_test_fails_for_one_reason() {
        assert!(Expected::parse(r#"{"one": ["a"], "two": ["a"]}"#).is_err());
        assert!(Expected::parse(r#"["a"]"#).is_err());
    }
}
