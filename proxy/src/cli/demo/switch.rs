//! Killing and starting the demonstration's nodes by URLs on the admin listener.

use std::sync::Arc;

use async_trait::async_trait;

use super::nodes::Nodes;
use crate::admin::Extra;
use crate::admin::http1::{Answer, Request};

/// The routes below `/demo/nodes`.
pub(super) struct Switch {
    nodes: Arc<Nodes>,
}

impl Switch {
    /// Routes to these nodes.
    pub(super) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }

    async fn list(&self) -> Answer {
        let mut text = String::new();
        for look in self.nodes.look().await {
            let state = if look.running { "running" } else { "killed" };
            text.push_str(&format!(
                "node {}  {:<21}  {state:<7}  {} requests\n",
                look.number,
                look.address.to_string(),
                look.served
            ));
        }
        Answer::text(200, text)
    }

    async fn kill(&self, number: usize) -> Answer {
        match self.nodes.kill(number).await {
            Some(true) => Answer::text(
                200,
                format!("node {number} is killed: its port is closed, its connections are reset"),
            ),
            Some(false) => Answer::text(200, format!("node {number} was killed before")),
            None => no_such_node(),
        }
    }

    async fn start(&self, number: usize) -> Answer {
        match self.nodes.revive(number).await {
            Some(Ok(true)) => Answer::text(200, format!("node {number} listens again")),
            Some(Ok(false)) => Answer::text(200, format!("node {number} is running already")),
            Some(Err(error)) => Answer::text(503, format!("node {number} could not be started: {error}")),
            None => no_such_node(),
        }
    }
}

fn no_such_node() -> Answer {
    Answer::text(404, "there is no such node; /demo/nodes lists them")
}

#[async_trait]
impl Extra for Switch {
    fn index(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("GET /demo/nodes", "the web nodes of the demonstration"),
            ("POST /demo/nodes/N/kill", "kills one, as kill -9 does"),
            ("POST /demo/nodes/N/start", "starts it again on the same port"),
        ]
    }

    async fn answer(&self, request: &Request) -> Option<Answer> {
        let rest = request.path.strip_prefix("/demo/nodes")?;
        if rest.is_empty() {
            return Some(match request.method.as_str() {
                "GET" | "HEAD" => self.list().await,
                _ => Answer::method_not_allowed("GET, HEAD"),
            });
        }
        let (number, order) = rest.strip_prefix('/')?.split_once('/')?;
        let number = number.parse().unwrap_or(0);
        match (order, request.method.as_str()) {
            ("kill", "POST") => Some(self.kill(number).await),
            ("start", "POST") => Some(self.start(number).await),
            ("kill" | "start", _) => Some(Answer::method_not_allowed("POST")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn orders_are_carried_out() {
        let switch = Switch::new(Arc::new(Nodes::start(3).unwrap()));
        for (method, path, expected) in [
            ("GET", "/demo/nodes", Some((200, "node 2 "))),
            ("POST", "/demo/nodes", Some((405, ""))),
            ("POST", "/demo/nodes/2/kill", Some((200, "node 2 is killed"))),
            ("POST", "/demo/nodes/2/kill", Some((200, "was killed before"))),
            ("GET", "/demo/nodes", Some((200, "killed   0 requests"))),
            ("GET", "/demo/nodes/2/start", Some((405, "POST"))),
            ("POST", "/demo/nodes/2/start", Some((200, "listens again"))),
            ("POST", "/demo/nodes/2/start", Some((200, "running already"))),
            ("POST", "/demo/nodes/4/kill", Some((404, "/demo/nodes"))),
            ("POST", "/demo/nodes/x/kill", Some((404, ""))),
            ("POST", "/demo/nodes/-1/start", Some((404, ""))),
            ("POST", "/demo/nodes/2/paint", None),
            ("GET", "/demo/nodesandmore", None),
            ("GET", "/demo", None),
        ] {
            let request = Request { method: method.into(), path: path.into(), ..Request::default() };
            let answer = switch.answer(&request).await;
            let got = answer.map(|answer| (answer.status, String::from_utf8(answer.body.to_vec()).unwrap()));
            match (&got, expected) {
                (Some((status, body)), Some((expected, part))) => {
                    assert_eq!(*status, expected, "{method} {path}: {body}");
                    assert!(body.contains(part), "{method} {path}: {body}");
                }
                (got, expected) => assert_eq!(got.is_some(), expected.is_some(), "{method} {path}: {got:?}"),
            }
        }
    }
}
