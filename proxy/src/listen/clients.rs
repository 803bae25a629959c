//! How many connections each client has open, for the limit of them (`connections_per_client`).
//!
//! A client is an IPv4 address, or an IPv6 network of 64 bits: that is what one subscriber has, who may take another address
//! for each connection. The table holds only clients with a connection, so it is never larger than the number of
//! connections at a time, which has a limit of its own.
//!
//! Counting and comparing happen under one lock, so of two connections that come at the same moment one is refused when there
//! is room for one. A count goes down when its guard is dropped, whatever ended the connection: its task is over, cancelled
//! or has panicked. That is after the socket was closed; a client that closes and connects again at once may therefore find
//! its old connection still counted, for as long as the task takes to see the end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::Mutex;

/// Parts of the table, each with a lock of its own. More than there are cores to meet at one.
const PARTS: usize = 64;

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Client {
    V4(u32),
    /// The upper half of the address.
    V6(u64),
}

impl Client {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The clients that are connected.
#[derive(Debug)]
pub(crate) struct Clients {
    most: NonZeroU32,
    random: RandomState,
    parts: [Mutex<HashMap<Client, u32>>; PARTS],
}

impl Clients {
    /// Each may have so many connections at a time.
    pub(crate) fn new(most: NonZeroU32) -> Self {
        Self { most, random: RandomState::new(), parts: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Counts a connection from there until the guard is dropped. `None`: there are enough.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let client = Client::of(address);
        let mut open = self.part(client).lock();
        let count = open.entry(client).or_default();
        // An entry that was made now is below the limit, which is one at least; so none is left with zero.
        if *count >= self.most.get() {
            return None;
        }
        *count += 1;
        Some(Admitted { clients: self.clone(), client })
    }

    fn part(&self, client: Client) -> &Mutex<HashMap<Client, u32>> {
        &self.parts[self.random.hash_one(client) as usize % PARTS]
    }
}

/// One connection that is counted.
#[derive(Debug)]
pub(crate) struct Admitted {
    clients: Arc<Clients>,
    client: Client,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.clients.part(self.client).lock();
        if let Entry::Occupied(mut entry) = open.entry(self.client) {
            match *entry.get() {
                0 | 1 => drop(entry.remove()),
                _ => *entry.get_mut() -= 1,
            }
        }
        // A crowd that is gone leaves no table of its size behind.
        if open.capacity() > 64 && open.len() < open.capacity() / 8 {
            open.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn clients(most: u32) -> Arc<Clients> {
        Arc::new(Clients::new(NonZeroU32::new(most).unwrap()))
    }

    fn size(clients: &Clients) -> (usize, usize) {
        let parts = || clients.parts.iter().map(|part| part.lock());
        (parts().map(|part| part.len()).sum(), parts().map(|part| part.capacity()).sum())
    }

    #[test]
    fn addresses_of_one_client_count_together() {
        let clients = clients(2);
        let admit = |address: &str| clients.admit(address.parse().unwrap());
        let kept = [admit("192.0.2.1"), admit("::ffff:192.0.2.1")];
        assert!(kept.iter().all(Option::is_some) && admit("192.0.2.1").is_none());
        assert!(admit("192.0.2.2").is_some());
        let six = [admit("2001:db8::1"), admit("2001:db8::ffff:0:0:1")];
        assert!(six.iter().all(Option::is_some) && admit("2001:db8::2").is_none());
        assert!(admit("2001:db8:0:1::1").is_some());
        drop(kept);
        assert!(admit("192.0.2.1").is_some());
        drop(six);
        assert_eq!(size(&clients).0, 0, "who has none is not remembered");
    }

    #[test]
    fn a_crowd_leaves_nothing_behind() {
        let clients = clients(1);
        let crowd: Vec<_> =
            (0..50_000u32).map(|number| clients.admit(IpAddr::from(number.to_be_bytes()))).collect();
        assert!(crowd.iter().all(Option::is_some));
        assert_eq!(size(&clients).0, 50_000);
        drop(crowd);
        let (entries, room) = size(&clients);
        assert!(entries == 0 && room <= PARTS * 64, "{entries} {room}");
    }

    #[test]
    fn threads_that_race_never_pass_the_limit_and_lose_no_count() {
        let clients = clients(3);
        let address = IpAddr::from([192, 0, 2, 1]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let one = clients.admit(address);
                        let open =
                            clients.part(Client::of(address)).lock().get(&Client::of(address)).copied();
                        assert!(open.is_none_or(|open| open <= 3), "{open:?}");
                        drop(one);
                    }
                });
            }
        });
        assert_eq!(size(&clients).0, 0);
    }
}
