//! What was asked about pins in the last second.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::SessionId;
use crate::pool::NodeId;

/// How long an answer is believed. Another edge may have moved the session since.
const BELIEVED: Duration = Duration::from_secs(1);

/// Locks, so that threads seldom wait for each other.
const SHARDS: usize = 16;

/// Sessions of each shard. More are asked about more often.
const MOST: usize = 8192;

/// Answers by session.
#[derive(Debug, Default)]
pub(super) struct Local {
    shards: [Mutex<HashMap<SessionId, (NodeId, Instant)>>; SHARDS],
}

impl Local {
    fn shard(&self, session: SessionId) -> &Mutex<HashMap<SessionId, (NodeId, Instant)>> {
        &self.shards[session.0 as usize % SHARDS]
    }

    pub(super) fn get(&self, session: SessionId, now: Instant) -> Option<NodeId> {
        let shard = self.shard(session).lock();
        shard.get(&session).filter(|(_, asked)| now < *asked + BELIEVED).map(|(node, _)| *node)
    }

    pub(super) fn put(&self, session: SessionId, node: NodeId, now: Instant) {
        let mut shard = self.shard(session).lock();
        if shard.len() >= MOST {
            shard.retain(|_, (_, asked)| now < *asked + BELIEVED);
            if shard.len() >= MOST {
                shard.clear();
            }
        }
        shard.insert(session, (node, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_are_believed_for_a_second_and_never_too_many() {
        let local = Local::default();
        let now = Instant::now();
        let session = |number: u128| SessionId(number * SHARDS as u128);
        local.put(session(1), NodeId(7), now);
        assert_eq!(local.get(session(1), now + BELIEVED / 2), Some(NodeId(7)));
        assert_eq!(local.get(session(1), now + BELIEVED), None);
        assert_eq!(local.get(session(2), now), None);
        for number in 0..3 * MOST as u128 {
            local.put(session(number), NodeId(number as u64), now + BELIEVED);
        }
        assert!(local.shards[0].lock().len() <= MOST);
        let last = 3 * MOST as u64 - 1;
        assert_eq!(local.get(session(u128::from(last)), now + BELIEVED), Some(NodeId(last)));
    }
}
