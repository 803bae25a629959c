//! Sends a case of HTTP/2 frame by frame and tells what is wrong with what became of it.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{Expected, Fill, Outcome, bytes, check_either, check_node, forget};
use crate::Node;
use crate::http2::{Raw, status};

/// `DATA`, RFC 9113 section 6.1.
const DATA: u8 = 0;
/// `HEADERS`, RFC 9113 section 6.2.
const HEADERS: u8 = 1;
/// `RST_STREAM`, RFC 9113 section 6.4.
const RESET: u8 = 3;
/// `GOAWAY`, RFC 9113 section 6.8.
const GOAWAY: u8 = 7;

/// A request of HTTP/2, or what somebody sends in its place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is wrong with it, in words.
    pub name: String,
    /// Names of attacks that did this, such as CVE numbers.
    #[serde(default)]
    pub known: Vec<String>,
    /// Names and values, pseudo-header fields too, in their order.
    fields: Vec<(String, String)>,
    #[serde(default)]
    fill: Option<Fill>,
    /// A `DATA` frame each. None: the request has no body.
    #[serde(default)]
    data: Vec<String>,
    /// Fields behind the body.
    #[serde(default)]
    trailers: Vec<(String, String)>,
    /// What must become of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

fn fields(texts: &[(String, String)], fill: Option<&Fill>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let filled = |text: &str| match fill {
        Some(fill) => bytes(&text.replace("{fill}", &fill.text.repeat(fill.count))),
        None => bytes(text),
    };
    texts.iter().map(|(name, value)| (filled(name), filled(value))).collect()
}

async fn send(raw: &mut Raw, stream: u32, fields: &[(Vec<u8>, Vec<u8>)], ends: bool) {
    let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    raw.fields(stream, &fields, ends).await;
}

async fn good(raw: &mut Raw, stream: u32, path: &str) -> Result<(), String> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a.test")];
    raw.head(stream, &fields).await;
    loop {
        match raw.next(&[HEADERS, RESET, GOAWAY]).await {
            Some((HEADERS, _, on, block)) if on == stream && status(&block) == Some(200) => return Ok(()),
            // What belongs to the stream before.
            Some((_, _, on, _)) if on != stream && on != 0 => {}
            other => return Err(format!("{path} behind it got {other:?}")),
        }
    }
}

/// Sends a case to the server at `address` that stands before `node`, as the first request of a connection or the
/// second, and asks for `/behind` on the next stream.
///
/// # Errors
///
/// What is not as it is to be, in words.
pub async fn judge(case: &Case, first: bool, address: SocketAddr, node: &Node) -> Result<(), String> {
    forget(node).await;
    let mut raw = Raw::open(address).await;
    let mut stream = 1;
    if !first {
        good(&mut raw, stream, "/hit").await?;
        stream += 2;
    }
    let bodiless = case.data.is_empty() && case.trailers.is_empty();
    send(&mut raw, stream, &fields(&case.fields, case.fill.as_ref()), bodiless).await;
    for (number, data) in case.data.iter().enumerate() {
        let last = number + 1 == case.data.len() && case.trailers.is_empty();
        raw.frame(DATA, u8::from(last), stream, &bytes(data)).await;
    }
    if !case.trailers.is_empty() {
        send(&mut raw, stream, &fields(&case.trailers, None), true).await;
    }
    let (refused, or_refused) = (&case.outcome.refused, &case.outcome.or_refused);
    let may_be_refused = !refused.is_empty() || !or_refused.is_empty();
    let (mut expected, mut was_refused) = (case.outcome.node.clone(), true);
    let on = loop {
        match raw.next(&[HEADERS, RESET, GOAWAY]).await {
            Some((HEADERS, _, on, block)) if on == stream => {
                let status = status(&block);
                if status == Some(100) {
                    continue;
                }
                was_refused = status != Some(200);
                let fits = if refused.is_empty() {
                    status.is_some_and(|status| status == 200 || or_refused.contains(&status))
                } else {
                    status.is_some_and(|status| refused.contains(&status))
                };
                if !fits {
                    return Err(format!("the answer is {status:?}: {block:x?}"));
                }
                break true;
            }
            Some((RESET, _, on, _)) if on == stream && may_be_refused => break true,
            // The end of the connection is a refusal, too.
            Some((GOAWAY, ..)) | None if may_be_refused => break false,
            Some((_, _, on, _)) if on != stream && on != 0 => {}
            other => return Err(format!("got {other:?}")),
        }
    };
    if on {
        good(&mut raw, stream + 2, "/behind").await?;
        expected.push(Expected {
            line: "GET /behind".into(),
            body: String::new(),
            has: vec![],
            lacks: vec![],
        });
    }
    if was_refused && !or_refused.is_empty() {
        return check_either(node, &expected, &case.outcome.node).await;
    }
    check_node(node, &expected)
}
