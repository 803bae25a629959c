//! Asking the proxy what a request would meet, and holding the answer that then comes against it.

use serde_json::Value;

use crate::Proxy;
use crate::client::{self, Answer, Request};

impl Proxy {
    /// What the proxy says that this request would meet.
    ///
    /// # Panics
    ///
    /// If it does not say.
    pub async fn why(&self, request: &Request) -> Value {
        let head = String::from_utf8(request.head_bytes()).expect("a request of a test is text");
        let mut lines = head.lines().skip(1).filter(|line| !line.is_empty());
        let host = lines.next().and_then(|line| line.strip_prefix("Host: ")).expect("Host comes first");
        let mut target = format!(
            "/api/why?url={}&method={}&host={}",
            encoded(request.target()),
            encoded(request.method()),
            encoded(host)
        );
        for line in lines {
            target.push_str(&format!("&header={}", encoded(line)));
        }
        let answer = client::ask(self.admin_address(), &Request::get(&target)).await.expect_status(200);
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

/// Requires that what was foretold is what happened.
///
/// # Panics
///
/// If it is not.
pub fn assert_agree(why: &Value, answer: &Answer) {
    let said = why["next"]["cache_status"].as_str().expect("a Cache-Status");
    let told = said.strip_prefix("clearcoat; ").unwrap_or_else(|| panic!("not ours: {said}"));
    for parameter in told.split("; ") {
        let (name, expected) = parameter.split_once('=').unwrap_or((parameter, ""));
        let found = answer.cache_parameter(name);
        let found = found.unwrap_or_else(|| panic!("{parameter} was foretold, in {why:#}\nfor {answer}"));
        if name == "ttl" {
            // A second may have passed.
            let [said, found] = [expected, &found].map(|text| text.parse::<i64>().expect("a number"));
            assert!((said - 2..=said).contains(&found), "ttl {said} was foretold, in {why:#}\nfor {answer}");
        } else {
            assert_eq!(found, expected, "{name} was foretold otherwise, in {why:#}\nfor {answer}");
        }
    }
    let asks = |name: &str| told.split("; ").any(|parameter| parameter.split('=').next() == Some(name));
    for name in ["hit", "fwd"] {
        assert_eq!(asks(name), answer.cache_parameter(name).is_some(), "{name}: {why:#}\nfor {answer}");
    }
    assert_eq!(
        asks("collapsed"),
        answer.cache_parameter("collapsed").is_some_and(|value| value != "?0"),
        "{why:#}\nfor {answer}"
    );
    if let Some(status) = why["next"]["status"].as_u64() {
        assert_eq!(status, u64::from(answer.status), "{why:#}\nfor {answer}");
    }
}

/// Percent-encoding of all but the unreserved characters.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
