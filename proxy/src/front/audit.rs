//! Which purges there were: the last thousand, for operators who ask who emptied the cache.
//!
//! One short mutex, taken once for each purge and never on the way of another request.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::admin::purging::PurgeView;

/// Purges that are remembered.
const MOST: usize = 1000;

/// Bytes of what a purge named that are remembered.
const MOST_BYTES: usize = 300;

/// Who sent a purge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum By {
    /// A client; no address is that of a local socket.
    Client(Option<IpAddr>),
    /// The admin listener.
    Admin,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(Some(address)) => address.to_canonical().fmt(f),
            Self::Client(None) => f.write_str("local"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

/// As much of what a purge named as is told.
pub(crate) fn told(what: &dyn fmt::Display) -> String {
    let mut short = Short(String::new());
    // It fails when there is enough of it.
    let _ = fmt::write(&mut short, format_args!("{what}"));
    short.0
}

/// Takes in as much as is told, and no more is written then: a list of tags may be a megabyte.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MOST_BYTES - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A purge that was carried out.
#[derive(Clone, Debug)]
pub(crate) struct Purged<'a> {
    pub(crate) by: By,
    pub(crate) method: &'a str,
    pub(crate) what: &'a str,
    pub(crate) purged: u64,
    pub(crate) softened: u64,
    pub(crate) took: Duration,
}

#[derive(Default)]
struct Kept {
    last: u64,
    purges: VecDeque<PurgeView>,
}

/// The last purges.
#[derive(Default)]
pub(crate) struct Audit(Mutex<Kept>);

impl Audit {
    /// Keeps a purge and gives it its number.
    pub(crate) fn note(&self, purged: &Purged<'_>) -> u64 {
        let &Purged { by, method, what, purged, softened, took } = purged;
        let (by, method, what, at) = (by.to_string(), method.to_owned(), told(&what), SystemTime::now());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut kept = self.0.lock();
        kept.last += 1;
        let id = kept.last;
        if kept.purges.len() == MOST {
            kept.purges.pop_front();
        }
        kept.purges.push_back(PurgeView { id, at, by, method, what, purged, softened, micros });
        id
    }

    /// The purges that are remembered, newest first.
    pub(crate) fn purges(&self) -> Vec<PurgeView> {
        self.0.lock().purges.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_cut_short() {
        let audit = Audit::default();
        let long = "é".repeat(MOST_BYTES);
        for number in 0..MOST as u64 + 5 {
            let what = if number % 2 == 0 { "tags a" } else { &long };
            let by = By::Client(Some([127, 0, 0, 1].into()));
            let took = Duration::from_micros(number);
            let id = audit.note(&Purged { by, method: "PURGE", what, purged: number, softened: 0, took });
            assert_eq!(id, number + 1);
        }
        let purges = audit.purges();
        assert_eq!((purges.len(), purges[0].id, purges[0].micros), (MOST, MOST as u64 + 5, MOST as u64 + 4));
        assert!(purges.iter().all(|purge| purge.what.len() <= MOST_BYTES && purge.by == "127.0.0.1"));
    }
}
