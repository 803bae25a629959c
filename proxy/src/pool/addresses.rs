//! The addresses a node is reached at: one that never changes, or those its name was last resolved to.
//!
//! Connections go to them in turn. One that refused a connection is left out for a while, as long as there is another.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::peer::Target;
use super::settings::NodeAddress;

/// How long an address that refused a connection is left out, in milliseconds.
const AVOID_MILLIS: u64 = 10_000;

/// Most addresses kept of one answer.
pub(super) const MAX_ADDRESSES: usize = 64;

/// Where connections to one node go.
pub(super) enum Addresses {
    /// A fixed TCP address.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// Those behind a name.
    Name {
        /// The port of all of them.
        port: u16,
        /// The last good answer; empty until there is one.
        list: ArcSwap<Vec<Resolved>>,
        /// Whose turn is next.
        turn: AtomicUsize,
    },
}

/// One address behind a name.
#[derive(Debug)]
pub(super) struct Resolved {
    address: SocketAddr,
    // Tick of the last refused connection, or zero.
    refused: AtomicU64,
}

impl Addresses {
    /// What is known of `address` without asking.
    pub(super) fn of(address: &NodeAddress) -> Self {
        match address {
            NodeAddress::Ip(address) => Self::Ip(*address),
            NodeAddress::Unix(path) => Self::Unix(path.clone()),
            NodeAddress::Name { port, .. } => {
                Self::Name { port: *port, list: ArcSwap::default(), turn: AtomicUsize::new(0) }
            }
        }
    }

    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        match self {
            Self::Ip(_) | Self::Unix(_) => true,
            Self::Name { list, .. } => !list.load().is_empty(),
        }
    }

    /// Where the next connection goes; `tick` is the node's time in milliseconds.
    pub(super) fn pick(&self, tick: u64) -> Option<Target> {
        match self {
            Self::Ip(address) => Some(Target::Tcp(*address)),
            Self::Unix(path) => Some(Target::Unix(path.clone())),
            Self::Name { list, turn, .. } => {
                let list = list.load();
                let start = turn.fetch_add(1, Ordering::Relaxed);
                let in_turn = (0..list.len()).map(|step| &list[start.wrapping_add(step) % list.len()]);
                let good = in_turn.clone().find(|resolved| {
                    let refused = resolved.refused.load(Ordering::Relaxed);
                    refused == 0 || tick.saturating_sub(refused) >= AVOID_MILLIS
                });
                // All refused lately: the one that is next in turn.
                good.or(in_turn.clone().next()).map(|resolved| Target::Tcp(resolved.address))
            }
        }
    }

    /// A connection to `target` was refused.
    pub(super) fn avoid(&self, target: &Target, tick: u64) {
        if let (Self::Name { list, .. }, Target::Tcp(address)) = (self, target) {
            for resolved in list.load().iter().filter(|resolved| resolved.address == *address) {
                resolved.refused.store(tick, Ordering::Relaxed);
            }
        }
    }

    /// Takes a new answer, keeping what is known of addresses that stay. Tells whether it differs from the last one. At
    /// most [`MAX_ADDRESSES`] are kept; an empty answer changes nothing.
    pub(super) fn set(&self, mut ips: Vec<IpAddr>) -> bool {
        let Self::Name { port, list, .. } = self else { return false };
        ips.sort_unstable();
        ips.dedup();
        ips.truncate(MAX_ADDRESSES);
        let old = list.load();
        if ips.is_empty() || ips.iter().copied().eq(old.iter().map(|resolved| resolved.address.ip())) {
            return false;
        }
        let refused = |ip: IpAddr| {
            let known = old.iter().find(|resolved| resolved.address.ip() == ip);
            known.map_or(0, |resolved| resolved.refused.load(Ordering::Relaxed))
        };
        let new = ips
            .into_iter()
            .map(|ip| Resolved { address: SocketAddr::new(ip, *port), refused: AtomicU64::new(refused(ip)) })
            .collect();
        list.store(Arc::new(new));
        true
    }

    /// What a name was resolved to; empty for nodes without one.
    pub(super) fn resolved(&self) -> Vec<SocketAddr> {
        match self {
            Self::Ip(_) | Self::Unix(_) => Vec::new(),
            Self::Name { list, .. } => list.load().iter().map(|resolved| resolved.address).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(ips: &[u8]) -> Addresses {
        let addresses = Addresses::of(&NodeAddress::Name { host: "web".into(), port: 80 });
        addresses.set(ips.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect());
        addresses
    }

    fn target(last: u8) -> Target {
        Target::Tcp(([10, 0, 0, last], 80).into())
    }

    #[test]
    fn addresses_take_turns() {
        let addresses = named(&[1, 2, 3]);
        for last in [1, 2, 3, 1, 2] {
            assert_eq!(addresses.pick(1), Some(target(last)));
        }
        assert_eq!(named(&[]).pick(1), None);
    }

    #[test]
    fn a_refused_address_is_left_out_for_a_while() {
        let addresses = named(&[1, 2]);
        addresses.avoid(&target(1), 5);
        for _ in 0..4 {
            assert_eq!(addresses.pick(6), Some(target(2)));
        }
        addresses.avoid(&target(2), 5);
        assert!(addresses.pick(6).is_some(), "all refused is no reason to give up");
        addresses.set(vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 9])]);
        assert_eq!(addresses.pick(6), Some(target(9)), "forgot what refused");
        assert_eq!(addresses.pick(6), Some(target(9)));
        let later: Vec<_> = (0..2).filter_map(|_| addresses.pick(5 + AVOID_MILLIS)).collect();
        assert!(later.contains(&target(1)));
    }

    #[test]
    fn only_a_different_answer_is_a_change() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let addresses = named(&[1, 2]);
        assert!(!addresses.set(vec![ip(2), ip(1), ip(2)]));
        assert!(!addresses.set(Vec::new()));
        assert!(addresses.set(vec![ip(2)]));
        assert!(addresses.set((0..=255).map(ip).collect()));
        assert_eq!(addresses.resolved().len(), MAX_ADDRESSES);
    }
}
