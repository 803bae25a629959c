//! Malformed and ambiguous requests, kept as data in `tests/corpus/`, and what must become of each.
//!
//! A case is either *refused*, and then no node hears of it, or served, and then the node gets exactly what is written
//! there and nothing else. [`judge`] sends it in HTTP/1 and [`mod@http2`] by frames; both hold what the node got, byte by
//! byte, against [`sound`], which reads requests by rules of its own. The same files drive `tests/corpus/compare`,
//! which asks other servers.
//!
//! Text in these files stands for bytes: a character is the byte of its number, and none is above U+00FF.

pub mod http2;
pub mod judge;
pub mod sound;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::node::{Node, Page};
use crate::{Proxy, Setup, wait};

/// What follows each case: seen at the node if the connection goes on, and never otherwise.
pub const BEHIND: &str = "GET /behind HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A piece of text that is too long to be written out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fill {
    text: String,
    count: usize,
}

/// A request as the node is to get it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Method and target.
    pub line: String,
    #[serde(default)]
    body: String,
    /// Lines that it has, as `name: value`.
    #[serde(default)]
    pub has: Vec<String>,
    /// Names that it does not have.
    #[serde(default)]
    pub lacks: Vec<String>,
}

impl Expected {
    /// The body, without its framing.
    pub fn body(&self) -> Vec<u8> {
        bytes(&self.body)
    }
}

/// What must become of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// It is refused with one of these, and the connection ends. Empty: it is served.
    #[serde(default)]
    pub refused: Vec<u16>,
    /// What the node gets of it.
    #[serde(default)]
    pub node: Vec<Expected>,
    /// It is refused in the middle, where the connection may end before the answer is read.
    #[serde(default)]
    pub silent: bool,
    /// It is served, or refused with one of these all the same, if what is wrong is seen in time.
    #[serde(default)]
    pub or_refused: Vec<u16>,
    /// It is served, and the connection ends all the same.
    #[serde(default)]
    pub closes: bool,
}

/// A request of HTTP/1, or what somebody sends in its place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is wrong with it, in words.
    pub name: String,
    /// Names of attacks that did this, such as CVE numbers.
    #[serde(default)]
    pub known: Vec<String>,
    send: String,
    #[serde(default)]
    fill: Option<Fill>,
    /// Only as the first request of a connection it is what it is.
    #[serde(default)]
    pub first_only: bool,
    /// What must become of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A file of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<C> {
    #[serde(rename = "family")]
    _family: String,
    case: Vec<C>,
}

impl Case {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.fill {
            Some(fill) => bytes(&self.send.replace("{fill}", &fill.text.repeat(fill.count))),
            None => bytes(&self.send),
        }
    }

    /// The method of its answer, which has no body if it is HEAD.
    pub fn method(&self) -> &str {
        self.send.split(' ').next().unwrap_or_default()
    }
}

/// The bytes that a text stands for.
///
/// # Panics
///
/// If a character is no byte.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(character).expect("a character below U+0100")).collect()
}

/// All cases of HTTP/1.
pub fn http1() -> Vec<Case> {
    load("http1")
}

/// All cases of HTTP/2.
pub fn http2() -> Vec<http2::Case> {
    load("http2")
}

fn load<C: for<'d> Deserialize<'d>>(folder: &str) -> Vec<C> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let files = std::fs::read_dir(&folder).expect("the corpus");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("a readable file");
        let file: File<C> =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.case
    };
    paths.iter().flat_map(|path| read(path)).collect()
}

/// As [`check_node`] where the visitor's own requests may or may not have come so far when they were refused.
async fn check_either(node: &Node, expected: &[Expected], own: &[Expected]) -> Result<(), String> {
    let without: Vec<_> =
        expected.iter().filter(|one| own.iter().all(|own| own.line != one.line)).cloned().collect();
    // What is on its way is given the time to come, so that it is not taken for the next one's.
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match check_node(node, expected) {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(10)).await,
            Err(why) => return check_node(node, &without).map_err(|_| why),
            Ok(()) => return Ok(()),
        }
    }
}

/// A node that is careless about everything but its framing, and whose every byte is kept; and the proxy before it,
/// with `/hit` stored.
pub async fn stage() -> (Node, Proxy) {
    let node = Node::start().await;
    node.record_bytes();
    node.serve("/hit", Page::text("hit").fresh_for(600));
    node.serve("/behind", Page::text("behind").no_store());
    node.serve_everything(Page::text("served").no_store());
    let proxy = Setup::before(&node).listen("http2 = true").start().await;
    proxy.ask(&crate::Request::get("/hit").host("a.test")).await.expect_status(200);
    (node, proxy)
}

/// Forgets what came for the case before, once nothing of it is on its way any more.
async fn forget(node: &Node) {
    let whole = |bytes: &[u8]| sound::requests(bytes).is_ok_and(|(_, rest)| rest.is_empty());
    wait::until_true("all that was begun to end", || {
        node.bytes().iter().all(|(bytes, open)| !open || whole(bytes))
    })
    .await;
    node.forget();
}

/// Whether the node got what was to come since all was forgotten, probes aside. A case that was refused in its body may
/// have begun.
///
/// # Errors
///
/// What is wrong, in words.
fn check_node(node: &Node, expected: &[Expected]) -> Result<(), String> {
    let mut got = Vec::new();
    for (bytes, _) in node.bytes() {
        let (requests, rest) = sound::requests(&bytes)?;
        let begun = rest.starts_with(b"GET /x ") || rest.starts_with(b"POST /x ");
        if !rest.is_empty() && !begun {
            return Err(format!("the node got half a request: {}", bytes.escape_ascii()));
        }
        got.extend(requests.into_iter().filter(|request| !request.line.ends_with(crate::node::HEALTH_PATH)));
    }
    let lines = |of: &mut dyn Iterator<Item = &str>| of.collect::<Vec<_>>().join(", ");
    let (seen, wanted) = (
        lines(&mut got.iter().map(|request| request.line.as_str())),
        lines(&mut expected.iter().map(|request| request.line.as_str())),
    );
    // Each goes on a connection of its own perhaps, so their order is not seen.
    for expected in expected {
        let Some(at) = got.iter().position(|request| request.line == expected.line) else {
            return Err(format!("the node got [{seen}] instead of [{wanted}]"));
        };
        let request = got.swap_remove(at);
        if request.body != expected.body() {
            return Err(format!("the node got the body {} of {}", request.body.escape_ascii(), request.line));
        }
        for line in &expected.has {
            if !request.lines.contains(&bytes(line)) {
                return Err(format!("the node did not get the line {line:?}, but {}", request.shown()));
            }
        }
        for name in &expected.lacks {
            if request.has(name) {
                return Err(format!("the node got a line {name:?}: {}", request.shown()));
            }
        }
    }
    if got.is_empty() { Ok(()) } else { Err(format!("the node got [{seen}] instead of [{wanted}]")) }
}
