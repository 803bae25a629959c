//! The cache that everybody writes first: when there is no room, what was used longest ago goes. The yardstick.

use std::collections::HashMap;

/// Stands for "no neighbour".
const NONE: usize = usize::MAX;

struct Node {
    key: u64,
    bytes: u64,
    newer: usize,
    older: usize,
}

/// Keys with a weight in bytes, in the order of their last use.
pub(crate) struct Lru {
    places: HashMap<u64, usize>,
    nodes: Vec<Node>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    bytes: u64,
    capacity_bytes: u64,
}

impl Lru {
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        Self {
            places: HashMap::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
            capacity_bytes,
        }
    }

    /// Whether it is there; then it is the newest now.
    pub(crate) fn get(&mut self, key: u64) -> bool {
        let Some(&at) = self.places.get(&key) else { return false };
        self.unlink(at);
        self.link(at);
        true
    }

    /// Puts in what is not there.
    pub(crate) fn put(&mut self, key: u64, bytes: u64) {
        let node = Node { key, bytes, newer: NONE, older: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.places.insert(key, at);
        self.link(at);
        self.bytes += bytes;
        while self.bytes > self.capacity_bytes && self.oldest != NONE {
            let at = self.oldest;
            self.unlink(at);
            self.places.remove(&self.nodes[at].key);
            self.bytes -= self.nodes[at].bytes;
            self.free.push(at);
        }
    }

    fn link(&mut self, at: usize) {
        self.nodes[at].older = self.newest;
        self.nodes[at].newer = NONE;
        match self.newest {
            NONE => self.oldest = at,
            newest => self.nodes[newest].newer = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: usize) {
        let Node { newer, older, .. } = self.nodes[at];
        match newer {
            NONE => self.newest = older,
            newer => self.nodes[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.nodes[older].newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_longest_ago_goes() {
        let mut lru = Lru::new(30);
        for key in 0..3 {
            lru.put(key, 10);
        }
        assert!(lru.get(0));
        lru.put(3, 10);
        assert_eq!([0, 1, 2, 3].map(|key| lru.get(key)), [true, false, true, true]);
        lru.put(4, 25);
        assert_eq!([0, 2, 3, 4].map(|key| lru.get(key)), [false, false, false, true]);
        lru.put(5, 31);
        assert_eq!([4, 5].map(|key| lru.get(key)), [false, false]);
    }
}
