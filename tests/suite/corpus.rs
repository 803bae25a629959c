//! Every malformed or ambiguous request of `tests/corpus/`, in every place of a connection: refused, or at the node
//! exactly as meant.

use std::collections::HashSet;

use clearcoat_tests::corpus::judge::{Place, judge};
use clearcoat_tests::corpus::{http1, http2, stage};
use clearcoat_tests::{Address, Node, Page, Request, Served};

/// All cases of HTTP/1 in one place; what is wrong is told of all of them at once.
async fn holds_at(place: Place) {
    let (node, proxy) = stage().await;
    let cases: Vec<_> =
        http1().into_iter().filter(|case| place == Place::First || !case.first_only).collect();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(why) = judge(case, place, proxy.address(), &node).await {
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // After all that it is in good health.
    assert_eq!(proxy.ask(&Request::get("/hit").host("a.test")).await.served(), Served::Hit);
}

#[tokio::test]
async fn malformed_requests_as_the_first_of_a_connection() {
    holds_at(Place::First).await;
}

#[tokio::test]
async fn malformed_requests_after_a_hit() {
    holds_at(Place::AfterHit).await;
}

#[tokio::test]
async fn malformed_requests_pipelined_behind_a_hit() {
    holds_at(Place::BehindHit).await;
}

#[tokio::test]
async fn malformed_requests_pipelined_behind_an_upload() {
    holds_at(Place::BehindUpload).await;
}

#[tokio::test]
async fn malformed_requests_in_http2() {
    let (node, proxy) = stage().await;
    let cases = http2();
    assert!(cases.len() >= 50, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        for first in [true, false] {
            let judged = clearcoat_tests::corpus::http2::judge(case, first, proxy.address(), &node).await;
            if let Err(why) = judged {
                wrong.push(format!("{}, first {first}: {why}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len() * 2, wrong.join("\n"));
    assert_eq!(proxy.ask(&Request::get("/hit").host("a.test")).await.served(), Served::Hit);
}

#[test]
fn each_case_has_a_name_of_its_own_and_one_outcome() {
    let names = http1().into_iter().map(|case| (case.name, case.outcome));
    let names = names.chain(http2().into_iter().map(|case| (format!("HTTP/2: {}", case.name), case.outcome)));
    let mut seen = HashSet::new();
    for (name, outcome) in names {
        assert!(
            outcome.refused.is_empty() != outcome.node.is_empty(),
            "{name} is refused or reaches the node"
        );
        assert!(seen.insert(name.clone()), "{name} twice");
    }
}

/// The judge has to find fault with a server that takes everything: here the node itself stands where the proxy should.
#[tokio::test]
async fn a_server_that_refuses_nothing_fails_the_corpus() {
    let node = Node::start().await;
    node.record_bytes();
    node.serve_everything(Page::text("served").no_store());
    let cases = http1();
    let mut passed = Vec::new();
    let mut missed = 0;
    for case in cases.iter().filter(|case| !case.outcome.refused.is_empty()) {
        missed += 1;
        if judge(case, Place::First, node.address(), &node).await.is_ok() {
            passed.push(case.name.as_str());
        }
    }
    // The node has no faith in sizes beyond 60 bits either, and hangs up.
    assert!(missed >= 100 && passed.len() <= 2, "of {missed}, passed for refused: {passed:?}");
}
