//! Conformance: the public tests for HTTP caches (`http-cache-tests`, <https://cache-tests.fyi>) against the real binary.
//!
//! The suite brings a web server and a client of its own. Here the proxy is put between them with its default settings, and what
//! came of each test is compared with a list of those that are known to fail: a test that fails without being on the list is a
//! regression; one that passes although it is listed is told, so that the list can shrink.
//!
//! What it is not: a judgement. The suite asks three kinds of questions. *Required* tests follow from RFC 9111, *optimal* ones tell
//! whether a stored answer is used when it could be, *check* ones only ask how a cache behaves, so that their answers are counted
//! but not compared.
//!
//! Read on in [`suite`], where the suite comes from; [`run`], one run of it; [`outcome`], what came of the tests; [`expected`], the
//! comparison. `tests/conformance/run` runs this alone.

#![allow(clippy::unwrap_used)]

mod expected;
mod outcome;
mod run;
mod suite;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use expected::Expected;
use suite::Suite;

/// This folder.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

#[tokio::test]
async fn the_tests_for_http_caches_pass_as_expected() {
    let suite = Suite::find().await;
    let mut outcomes = run::run(&suite).await;
    tell(&format!("\n{}: {}\n", suite.name(), outcomes.score()));
    let list = folder().join(suite.list());
    if suite.is_ours() || list.exists() {
        let text = fs::read_to_string(&list).unwrap_or_else(|error| panic!("{}: {error}", list.display()));
        let expected = Expected::parse(&text).unwrap_or_else(|error| panic!("{}: {error:#}", list.display()));
        let mut difference = expected.compare(&outcomes);
        if difference.is_bad() {
            // The suite's tests go by seconds of the clock, which a busy machine stretches. What is broken fails twice.
            tell(&format!("once more, because of\n{difference}"));
            outcomes = run::run(&suite).await;
            difference = expected.compare(&outcomes);
        }
        tell(&difference.good_news());
        assert!(!difference.is_bad(), "against {}:\n{difference}", list.display());
    } else {
        tell(&outcomes.failures());
    }
}

/// Shows a text also when the test passes; what the print macros write would be kept from sight.
fn tell(text: &str) {
    // A closed stderr is no reason to fail.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
