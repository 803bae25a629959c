//! What came of each test, and the score.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What a test asks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    /// Whether the cache does what RFC 9111 requires.
    Required,
    /// Whether it uses what it has stored where it may.
    Optimal,
    /// How it behaves, where both answers are right.
    Check,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Required, Self::Optimal, Self::Check];

    fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optimal => "optimal",
            Self::Check => "check",
        }
    }
}

/// One test that was run.
#[derive(Debug)]
struct Outcome {
    group: String,
    kind: Kind,
    depends_on: Vec<String>,
    passed: bool,
    reason: String,
}

/// Every test that was run, by its id.
#[derive(Debug)]
pub(crate) struct Outcomes(BTreeMap<String, Outcome>);

impl Outcomes {
    /// Reads the list that `client.mjs` writes.
    ///
    /// # Errors
    ///
    /// If the text is not such a list, or names a test twice.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let list: Vec<Value> = serde_json::from_str(text)?;
        let mut outcomes = BTreeMap::new();
        for value in &list {
            let (id, outcome) = read(value).with_context(|| format!("reading {value}"))?;
            if outcomes.insert(id.clone(), outcome).is_some() {
                bail!("{id} is there twice");
            }
        }
        Ok(Self(outcomes))
    }

    /// Whether a test and, as the suite counts, all tests that it depends on have passed. A test that was not run has not.
    pub(crate) fn passed(&self, id: &str) -> bool {
        self.passed_within(id, self.0.len())
    }

    /// `depth` bounds the way through the dependencies, should they ever form a ring.
    fn passed_within(&self, id: &str, depth: usize) -> bool {
        let Some(outcome) = self.0.get(id) else { return false };
        let rest = depth.checked_sub(1);
        let fits = |on: &String| rest.is_some_and(|rest| self.passed_within(on, rest));
        outcome.passed && outcome.depends_on.iter().all(fits)
    }

    /// Whether the test was run.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// The tests that were not passed and are no mere questions.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &str> {
        let failed = |(id, outcome): &(&String, &Outcome)| outcome.kind != Kind::Check && !self.passed(id);
        self.0.iter().filter(failed).map(|(id, _)| id.as_str())
    }

    /// Why a test was not passed, in a line with its kind and group.
    pub(crate) fn explain(&self, id: &str) -> String {
        let Some(outcome) = self.0.get(id) else { return format!("{id}: was not run") };
        let mut line = format!("{} {}/{id}: ", outcome.kind.name(), outcome.group);
        if outcome.passed {
            let on: Vec<&str> =
                outcome.depends_on.iter().map(String::as_str).filter(|on| !self.passed(on)).collect();
            let _ = write!(line, "depends on {}", on.join(", "));
        } else {
            line += &outcome.reason;
        }
        line
    }

    /// [`explain`](Self::explain) for all that failed, a line each.
    pub(crate) fn failures(&self) -> String {
        self.failed().map(|id| self.explain(id) + "\n").collect()
    }

    /// Passed tests of each kind.
    pub(crate) fn score(&self) -> String {
        let count = |kind| {
            let of_kind = || self.0.iter().filter(move |(_, outcome)| outcome.kind == kind);
            let passed = of_kind().filter(|(id, _)| self.passed(id)).count();
            format!("{} {passed} of {}", kind.name(), of_kind().count())
        };
        Kind::ALL.map(count).join(", ")
    }
}

fn read(value: &Value) -> Result<(String, Outcome)> {
    let text = |name: &str| value[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
    let kind = text("kind")?;
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).context("an unknown kind")?;
    let depends_on = value["depends_on"].as_array().context("no depends_on")?;
    let depends_on: Option<Vec<String>> =
        depends_on.iter().map(|on| on.as_str().map(str::to_owned)).collect();
    let outcome = Outcome {
        group: text("group")?,
        kind,
        depends_on: depends_on.context("a dependency that is no text")?,
        passed: value["passed"].as_bool().context("no passed")?,
        reason: text("reason")?,
    };
    Ok((text("id")?, outcome))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Tests written as `kind id passed? dependency`, one a line.
    pub(crate) fn outcomes(lines: &str) -> Outcomes {
        let list: Vec<Value> = lines
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                serde_json::json!({
                    "id": words[1], "group": "g", "kind": words[0], "depends_on": words[3..],
                    "passed": words[2] == "yes", "reason": "because",
                })
            })
            .collect();
        Outcomes::parse(&serde_json::to_string(&list).unwrap()).unwrap()
    }

    #[test]
    fn a_pass_needs_its_dependencies() {
        let all = outcomes(
            "required a yes\nrequired b no\noptimal c yes a\noptimal d yes b\ncheck e yes d\nrequired f yes gone\n\
             required g yes h\nrequired h yes g",
        );
        for (id, expected) in [
            ("a", true),
            ("b", false),
            ("c", true),
            ("d", false),
            ("e", false),
            ("f", false),
            ("g", false),
            ("nowhere", false),
        ] {
            assert_eq!(all.passed(id), expected, "{id}");
        }
        assert_eq!(all.score(), "required 1 of 5, optimal 1 of 2, check 0 of 1");
        assert_eq!(all.failed().collect::<Vec<_>>(), ["b", "d", "f", "g", "h"]);
        assert_eq!(all.explain("b"), "required g/b: because");
        assert_eq!(all.explain("d"), "optimal g/d: depends on b");
    }

    #[test]
    fn a_list_that_is_not_in_order_is_refused() {
        let good =
            r#"{"id": "a", "group": "g", "kind": "check", "depends_on": [], "passed": true, "reason": ""}"#;
        assert!(Outcomes::parse(&format!("[{good}]")).is_ok());
        assert!(Outcomes::parse(&format!("[{good}, {good}]")).is_err(), "twice");
        for (from, to) in [("check", "maybe"), ("true", "1"), ("[]", "[1]"), ("\"id\"", "\"ip\"")] {
            assert!(Outcomes::parse(&format!("[{}]", good.replace(from, to))).is_err(), "{from} as {to}");
        }
    }
}
