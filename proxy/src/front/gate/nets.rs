//! Sets of networks, which may have a hundred thousand members: a look-up halves what is left.

use std::net::IpAddr;

use clearcoat_conf::Peer;

/// Addresses by ranges that do not touch, in order; and whether those are in it who have no address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct NetSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
    unix: bool,
}

impl NetSet {
    pub(crate) fn new(peers: &[Peer]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for peer in peers {
            let Peer::Net(net) = peer else { continue };
            match (net.network(), net.broadcast()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits())),
                // A network begins and ends in one family.
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
            }
        }
        Self { v4: merged(v4), v6: merged(v6), unix: peers.contains(&Peer::Unix) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && !self.unix
    }

    /// Whether an address is in it; `None` is whoever comes over a Unix socket.
    pub(crate) fn contains(&self, address: Option<IpAddr>) -> bool {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => is_in(&self.v4, address.to_bits()),
            Some(IpAddr::V6(address)) => is_in(&self.v6, address.to_bits()),
            None => self.unix,
        }
    }
}

/// In order, and those that overlap as one.
fn merged<N: Copy + Ord>(mut ranges: Vec<(N, N)>) -> Box<[(N, N)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(N, N)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged.into()
}

fn is_in<N: Copy + Ord>(ranges: &[(N, N)], address: N) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).is_some_and(|place| address <= ranges[place].1)
}

/// Which addresses may come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Addresses {
    /// Nobody else may; `None`: all may.
    pub(crate) allow: Option<NetSet>,
    /// These may not.
    pub(crate) deny: NetSet,
}

impl Addresses {
    pub(crate) fn are_all(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    pub(crate) fn admit(&self, address: Option<IpAddr>) -> bool {
        !self.deny.contains(address) && self.allow.as_ref().is_none_or(|allow| allow.contains(address))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn peers(texts: &[&str]) -> Vec<Peer> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_are_found() {
        let set =
            NetSet::new(&peers(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "2001:db8::/32", "0.0.0.0"]));
        for (address, expected) in [
            ("10.0.0.0", true),
            ("10.1.2.3", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("0.0.0.0", true),
            ("0.0.0.1", false),
            ("255.255.255.255", false),
            ("2001:db8::1", true),
            ("2001:db9::", false),
            ("::ffff:10.0.0.1", true),
            ("::", false),
        ] {
            assert_eq!(set.contains(Some(address.parse().unwrap())), expected, "{address}");
        }
        assert!(!set.contains(None) && NetSet::new(&[Peer::Unix]).contains(None));
        let all = NetSet::new(&peers(&["0.0.0.0/0", "::/0"]));
        assert!(["0.0.0.0", "255.255.255.255", "::", "ffff::"].iter().all(|a| all.contains(a.parse().ok())));
        assert!(!all.contains(None) && NetSet::default().is_empty());
    }

    #[test]
    fn deny_goes_before_allow() {
        let set = |texts: &[&str]| NetSet::new(&peers(texts));
        let addresses = Addresses { allow: Some(set(&["10.0.0.0/8"])), deny: set(&["10.1.0.0/16"]) };
        for (address, expected) in [("10.0.0.1", true), ("10.1.0.1", false), ("11.0.0.1", false)] {
            assert_eq!(addresses.admit(address.parse().ok()), expected, "{address}");
        }
        assert!(!addresses.admit(None), "a list of networks has nobody without an address");
        assert!(Addresses::default().admit(None) && Addresses::default().are_all());
    }

    proptest! {
        #[test]
        fn a_set_has_what_its_members_have(
            nets in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..20), address in any::<u32>(), near in 0_usize..20,
        ) {
            let nets: Vec<ipnet::IpNet> = nets
                .into_iter()
                .map(|(bits, length)| ipnet::IpNet::new(IpAddr::V4(bits.into()), length).unwrap().trunc())
                .collect();
            let set = NetSet::new(&nets.iter().map(|net| Peer::Net(*net)).collect::<Vec<_>>());
            let edges = nets.get(near).map_or(vec![], |net| vec![net.network(), net.broadcast()]);
            for address in edges.into_iter().chain([IpAddr::V4(address.into())]) {
                prop_assert_eq!(set.contains(Some(address)), nets.iter().any(|net| net.contains(&address)));
            }
        }
    }
}
