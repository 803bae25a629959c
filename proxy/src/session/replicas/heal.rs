//! A server that comes back empty gets its copies again.
//!
//! Without this a key would have them again only when it is asked for, and until then a second outage would be its end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::join_all;
use tracing::{debug, info};

use super::Replicas;
use crate::session::key::Key;
use crate::session::place;
use crate::session::servers::Server;

/// Keys of one server that are looked at. More are repaired when they are asked for.
const MOST_KEYS: usize = 500_000;

/// Keys that are repaired at a time, so that visitors find room beside.
const TOGETHER: usize = 16;

impl Replicas {
    /// Gives a server that has returned what others have of its keys.
    pub(crate) async fn heal(&self, returned: &Arc<Server>) {
        let before = self.counts.repaired_missing.load(Relaxed);
        for source in &self.servers {
            if Arc::ptr_eq(source, returned) || !source.is_up() {
                continue;
            }
            match source.keys(MOST_KEYS).await {
                Ok(keys) => self.heal_keys(&keys, returned).await,
                Err(error) => {
                    debug!(server = source.name(), %error, "the keys of a memcached server cannot be listed")
                }
            }
        }
        let copies = self.counts.repaired_missing.load(Relaxed) - before;
        if copies > 0 {
            info!(server = returned.name(), copies, "memcached server has its copies again");
        }
    }

    async fn heal_keys(&self, keys: &[Vec<u8>], returned: &Arc<Server>) {
        for keys in keys.chunks(TOGETHER) {
            let wanted = keys
                .iter()
                .filter_map(|key| Key::new(key))
                .filter(|key| !key.is_lock() && self.has_home(key, returned));
            let repaired = wanted.map(async |key| {
                // Asking for the newest copy is what repairs the others.
                if let Ok(homes) = self.homes(&key).await {
                    drop(self.newest(&key, &homes).await);
                }
            });
            join_all(repaired).await;
            if !returned.is_up() {
                return;
            }
        }
    }

    fn has_home(&self, key: &Key, server: &Arc<Server>) -> bool {
        let order = place::order(&self.hashes, key.place());
        let mut homes =
            order.iter().take(self.homes_of(key)).map(|position| &self.servers[usize::from(*position)]);
        homes.any(|home| Arc::ptr_eq(home, server))
    }
}
