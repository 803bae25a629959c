//! Pins that visitors keep: a cookie that says the node, and that only we can write.

use clearcoat_cache::SelectingHeaders as _;
use http::{HeaderMap, header};
use ring::hmac;

use crate::front::cookies::pairs;
use crate::pool::{NodeId, Pinnable};

/// Bytes of a node's mark: so many that guessing one takes longer than any session.
const MARK: usize = 16;

/// Writes and reads the cookie.
///
/// What it says is a mark of the node, made with a secret: it tells nothing of the node's address, is the same on every edge, and who
/// does not know the secret cannot make one, so nobody chooses a node.
pub(crate) struct Signer {
    name: String,
    key: hmac::Key,
}

impl Signer {
    pub(crate) fn new(name: &str, secret: &[u8]) -> Self {
        Self { name: name.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    fn mark(&self, node: NodeId) -> String {
        let tag = hmac::sign(&self.key, &node.0.to_be_bytes());
        tag.as_ref()[..MARK].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The node that a request's cookie says.
    pub(super) fn told(&self, headers: &HeaderMap, nodes: &[Pinnable]) -> Option<NodeId> {
        let mut mark = None;
        headers.visit(header::COOKIE.as_str(), &mut |line| {
            for pair in pairs(line) {
                let said = pair.strip_prefix(self.name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
                if let Some(said) = said {
                    mark = Some(said.to_vec());
                }
            }
        });
        let mark = mark?;
        // What a visitor can learn by the time this takes is a mark of their own.
        nodes.iter().map(|node| node.id).find(|id| self.mark(*id).as_bytes() == mark)
    }

    /// The `Set-Cookie` line for a node.
    pub(super) fn line(&self, node: NodeId) -> Option<String> {
        Some(format!("{}={}; Path=/; HttpOnly; SameSite=Lax", self.name, self.mark(node)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderValue;

    use super::*;

    fn node(number: u64) -> Pinnable {
        Pinnable { id: NodeId(number), weight: 1, backup: false, takes_new: true, drained: false }
    }

    #[test]
    fn only_we_can_say_a_node() {
        let signer = Signer::new("CLEARCOAT_NODE", b"a secret of the cluster");
        let nodes = [node(1), node(2), node(3)];
        let told = |cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
            signer.told(&headers, &nodes)
        };
        let line = signer.line(NodeId(2)).unwrap();
        let pair = line.split(';').next().unwrap();
        assert_eq!(told(pair), Some(NodeId(2)));
        assert_eq!(told(&format!("a=b; {pair}; c=d")), Some(NodeId(2)));
        let forged = Signer::new("CLEARCOAT_NODE", b"another secret").line(NodeId(2)).unwrap();
        for other in [
            forged.split(';').next().unwrap(),
            "CLEARCOAT_NODE=",
            "CLEARCOAT_NODE=2",
            &format!("X{pair}"),
            "a=b",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
        // One that is not configured any more.
        let gone = signer.line(NodeId(9)).unwrap();
        assert_eq!(told(gone.split(';').next().unwrap()), None);
    }
}
