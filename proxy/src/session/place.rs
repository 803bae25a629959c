//! Where a key lives: on which servers, and in which order they are asked.
//!
//! Rendezvous hashing: each server draws a number for each key, and the largest come first. Every edge with the same servers in
//! its configuration, in whatever order, finds the same places; a server that is added or taken away moves only its own share.

use std::hash::Hasher;

use memchr::memmem;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

/// The same on every edge and in every release: what is stored would be looked for elsewhere otherwise.
const PLACES: (u64, u64) = (0x636c_6561_7263_6f61, 0x7420_706c_6163_6573);

/// What tells the key of a lock from that of its session, in every way that PHP writes them: `memc.sess.key.lock.ID`.
const LOCK: &[u8] = b"lock.";

/// Positions of servers, the best for a key first.
pub(crate) type Order = SmallVec<[u8; 8]>;

/// A hash that every edge agrees on.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(PLACES.0, PLACES.1);
    hasher.write(bytes);
    hasher.finish()
}

/// Whether a key is that of a session's lock.
pub(crate) fn is_lock(key: &[u8]) -> bool {
    memmem::find(key, LOCK).is_some()
}

/// The hash of a key that decides where it lives. A session's lock has that of its session.
pub(crate) fn of_key(key: &[u8]) -> u64 {
    match memmem::find(key, LOCK) {
        Some(at) => {
            let mut hasher = SipHasher13::new_with_keys(PLACES.0, PLACES.1);
            hasher.write(&key[..at]);
            hasher.write(&key[at + LOCK.len()..]);
            hasher.finish()
        }
        None => hash(key),
    }
}

/// The number that a server draws for a key; both are given by their hashes.
pub(crate) fn drawn(server: u64, key: u64) -> u64 {
    // The finaliser of SplitMix64: each bit of the sum changes half of the result.
    let mut mixed = server ^ key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The number that one of several with weights draws for a key: each is the largest for as many keys as its weight says.
pub(crate) fn drawn_by_weight(server: u64, weight: u16, key: u64) -> f64 {
    // Weighted rendezvous hashing: -w / ln(u) with u evenly in (0, 1).
    let even = (drawn(server, key) >> 11) as f64 + 0.5;
    -f64::from(weight) / (even / (1_u64 << 53) as f64).ln()
}

/// The order in which servers, given by their hashes, are responsible for a key.
pub(crate) fn order(servers: &[u64], key: u64) -> Order {
    let mut order: SmallVec<[(u64, u8); 8]> =
        servers.iter().zip(0..).map(|(server, position)| (drawn(*server, key), position)).collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    order.into_iter().map(|(_, position)| position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: usize) -> Vec<u64> {
        (0..count).map(|number| hash(format!("10.0.0.{number}:11211").as_bytes())).collect()
    }

    #[test]
    fn every_server_has_its_share_and_only_that_moves() {
        let all = servers(5);
        let mut shares = [0; 5];
        for number in 0..50_000_u32 {
            let key = of_key(format!("memc.sess.key.{number:x}").as_bytes());
            let with = order(&all, key);
            shares[with[0] as usize] += 1;
            let without = order(&all[..4], key);
            let expected: Vec<u8> = with.iter().copied().filter(|position| *position != 4).collect();
            assert_eq!(without.to_vec(), expected);
        }
        assert!(shares.iter().all(|share| (9_500..10_500).contains(share)), "{shares:?}");
    }

    #[test]
    fn weights_are_shares() {
        let all = servers(3);
        let mut shares = [0; 3];
        for number in 0..60_000_u32 {
            let key = hash(&number.to_be_bytes());
            let drawn = |position: usize| drawn_by_weight(all[position], [1, 2, 3][position], key);
            let best = (0..3).max_by(|a, b| drawn(*a).total_cmp(&drawn(*b))).unwrap_or_default();
            shares[best] += 1;
        }
        for (share, expected) in shares.iter().zip([10_000, 20_000, 30_000]) {
            assert!((expected * 95 / 100..expected * 105 / 100).contains(share), "{shares:?}");
        }
    }

    #[test]
    fn a_lock_lives_with_its_session() {
        for (lock, session) in
            [("memc.sess.key.lock.abc", "memc.sess.key.abc"), ("ez.lock.abc", "ez.abc"), ("lock.abc", "abc")]
        {
            assert_eq!(of_key(lock.as_bytes()), of_key(session.as_bytes()), "{lock}");
        }
        assert_ne!(of_key(b"memc.sess.key.abc"), of_key(b"memc.sess.key.abd"));
    }

    #[test]
    fn places_never_change() {
        // What stands in the servers was put there by this function.
        assert_eq!(hash(b"memc.sess.key.abc"), PINNED_HASH);
        assert_eq!(order(&servers(4), hash(b"memc.sess.key.abc")).to_vec(), PINNED_ORDER);
    }

    const PINNED_HASH: u64 = 9_896_493_250_688_758_367;
    const PINNED_ORDER: [u8; 4] = [3, 2, 0, 1];
}
