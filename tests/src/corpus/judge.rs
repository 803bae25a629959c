//! Sends a case of HTTP/1 and tells what is wrong with what became of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::{BEHIND, Case, Expected, check_either, check_node, forget};
use crate::{Connection, Node};

/// Where on its connection a case is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// It is the first request.
    First,
    /// It comes when a page was served from memory.
    AfterHit,
    /// It comes in one piece with a request for such a page, and stands behind it.
    BehindHit,
    /// The same behind a request with a chunked body, which goes to the node.
    BehindUpload,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::First, Self::AfterHit, Self::BehindHit, Self::BehindUpload];
}

const HIT: &str = "GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\n";
const UPLOAD: &str =
    "POST /upload HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nup\r\n0\r\n\r\n";

/// How long any one thing may take. What is slower hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends a case to the server at `address` that stands before `node`, with [`BEHIND`] behind it.
///
/// # Errors
///
/// What is not as it is to be, in words.
pub async fn judge(case: &Case, place: Place, address: SocketAddr, node: &Node) -> Result<(), String> {
    forget(node).await;
    let mut visitor = Connection::try_open(address).await.map_err(|error| format!("{error:#}"))?;
    visitor.set_patience(PATIENCE);
    let tail = [&case.bytes()[..], BEHIND.as_bytes()].concat();
    match place {
        Place::First => drop(visitor.send(&tail).await),
        Place::AfterHit => {
            visitor.send(HIT).await.map_err(|error| format!("{error:#}"))?;
            good(&mut visitor, "GET", "hit").await?;
            // Apart, so that a body and what stands behind it do not come together. The server may have closed by then.
            let _ = visitor.send(&case.bytes()).await;
            let _ = visitor.send(BEHIND).await;
        }
        Place::BehindHit => {
            let _ = visitor.send([HIT.as_bytes(), &tail].concat()).await;
            good(&mut visitor, "GET", "hit").await?;
        }
        Place::BehindUpload => {
            let _ = visitor.send([UPLOAD.as_bytes(), &tail].concat()).await;
            good(&mut visitor, "POST", "served").await?;
        }
    }
    let mut expected = case.outcome.node.clone();
    if place == Place::BehindUpload {
        expected.push(seen("POST /upload", "up"));
    }
    let (refused, or_refused) = (&case.outcome.refused, &case.outcome.or_refused);
    let answer = match visitor.answer(case.method()).await {
        Ok(answer) => answer,
        Err(_) if case.outcome.silent && visitor.closed_within(PATIENCE).await.is_ok() => {
            return check_node(node, &expected);
        }
        Err(error) => return Err(format!("no answer: {error:#}")),
    };
    if or_refused.contains(&answer.status) {
        visitor.closed_within(PATIENCE).await.map_err(|error| format!("{error:#}"))?;
        return check_either(node, &expected, &case.outcome.node).await;
    }
    if refused.is_empty() && answer.status != 200 || !refused.is_empty() && !refused.contains(&answer.status)
    {
        return Err(format!("the answer is {answer}"));
    }
    let ends = case.outcome.closes || !refused.is_empty();
    if ends {
        if !answer.closes() {
            return Err(format!("the end of the connection is not told: {answer}"));
        }
        visitor.closed_within(PATIENCE).await.map_err(|error| format!("{error:#}"))?;
    } else {
        good(&mut visitor, "GET", "behind").await?;
        expected.push(seen("GET /behind", ""));
    }
    check_node(node, &expected)
}

fn seen(line: &str, body: &str) -> Expected {
    Expected { line: line.to_owned(), body: body.to_owned(), has: Vec::new(), lacks: Vec::new() }
}

async fn good(visitor: &mut Connection, method: &str, text: &str) -> Result<(), String> {
    let answer =
        visitor.answer(method).await.map_err(|error| format!("no answer with {text:?}: {error:#}"))?;
    if answer.status == 200 && answer.text() == text {
        Ok(())
    } else {
        Err(format!("the answer is not {text:?}, but {answer}"))
    }
}
