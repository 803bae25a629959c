//! A key, as clients say it and as servers keep it.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};
use smallvec::SmallVec;

use super::place;

/// Bytes that a key may have, as in memcached.
pub(crate) const LONGEST_KEY: usize = 250;

/// A key of 1 to 250 bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Key {
    /// What servers are told.
    wire: SmallVec<[u8; 64]>,
    place: u64,
    is_lock: bool,
}

impl Key {
    /// `None` if it is empty or too long.
    pub(crate) fn new(said: &[u8]) -> Option<Self> {
        if said.is_empty() || said.len() > LONGEST_KEY {
            return None;
        }
        let wire = if said.iter().all(|byte| *byte > b' ' && *byte != 0x7f) {
            said.into()
        } else {
            // The binary protocol takes any bytes, what servers are asked in does not.
            let mut hasher = SipHasher24::new_with_keys(0x636c_6561, 0x7263_6f61);
            hasher.write(said);
            let hash = hasher.finish128();
            format!("clearcoat.key:{:016x}{:016x}", hash.h1, hash.h2).into_bytes().into()
        };
        Some(Self { wire, place: place::of_key(said), is_lock: place::is_lock(said) })
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Whether it is the lock of a session.
    pub(crate) fn is_lock(&self) -> bool {
        self.is_lock
    }

    /// The hash that decides where it lives.
    pub(crate) fn place(&self) -> u64 {
        self.place
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_go_to_servers_as_they_can_be_said_there() {
        for as_it_is in [&b"memc.sess.key.abc"[..], b":ezp:", "gr\u{fc}n".as_bytes(), &[b'k'; 250]] {
            assert_eq!(Key::new(as_it_is).unwrap().wire(), as_it_is);
        }
        let mut seen = Vec::new();
        for hashed in [&b"a b"[..], b"a\0b", b"a\r\n", b"\x7f", b" ", &[b' '; 250]] {
            let wire = Key::new(hashed).unwrap().wire;
            assert!(wire.starts_with(b"clearcoat.key:") && wire.len() == 46, "{}", wire.escape_ascii());
            seen.push(wire);
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 6);
        assert_eq!((Key::new(b""), Key::new(&[b'k'; 251])), (None, None));
    }
}
