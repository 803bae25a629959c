//! Bans: purges of all pages that a condition names, whatever their keys and tags are.
//!
//! Nobody can look up what a condition names, so a ban is answered at once and holds from then on because of two things:
//! every look-up tests what it finds against the bans that the entry was not tested against yet, and a sweep in the
//! background tests everything, so that the list is short again soon (Varnish's ban list and its lurker).
//!
//! An entry remembers up to which ban it was tested, in a number that wraps. That is enough because of an invariant: *what
//! is in the index was tested against every ban that is not in the list any more*. New entries are tested before they are
//! inserted, with the ledger locked against new bans; the sweep has been through the whole index before it takes bans off
//! the list. The list is kept far shorter than half of what the number counts to.
//!
//! A ban stays in the list, too, while a fill that began before it is under way: the fill is tested at its end.

pub(crate) mod sieve;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::generation::Generation;
use crate::store::PurgeMode;
use crate::tag::Tag;
use crate::time::Moment;

/// Bans in the list at most: what waits for the sweep, or for fills that are under way.
pub(crate) const MOST: usize = 4096;

/// How far the numbers may run ahead of the sweep. Of two marks that lie no further apart it can be told which is older.
const MOST_NUMBERS: u16 = 1 << 14;

/// What a condition is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// `scheme://host/path?query`.
    pub url: &'a str,
    /// Status line and header lines, each with its CRLF.
    pub head: &'a [u8],
    /// The tags that it came with, in their order.
    pub tags: &'a [Tag],
}

/// Which pages a ban names.
pub trait Condition: Send + Sync {
    /// Whether it names this one. Called for a page at most once, and for a hundred thousand pages a second.
    fn names(&self, page: &Page<'_>) -> bool;

    /// Bytes that are in the URL of every page that it names. `None`: nothing is known of that. Many bans are tested at once by them.
    fn needs(&self) -> Option<&[u8]> {
        None
    }

    /// It as operators should read it. Two with the same text name the same pages.
    fn text(&self) -> &str;
}

/// A ban that is not over.
pub(crate) struct Ban {
    number: u16,
    generation: Generation,
    mode: PurgeMode,
    at: Moment,
    condition: Arc<dyn Condition>,
    /// Entries that it took or made stale.
    struck: AtomicU64,
}

impl Ban {
    pub(crate) fn names(&self, page: &Page<'_>) -> bool {
        self.condition.names(page)
    }

    fn needs(&self) -> Option<&[u8]> {
        self.condition.needs()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn mode(&self) -> PurgeMode {
        self.mode
    }

    /// When it came.
    pub(crate) fn at(&self) -> Moment {
        self.at
    }

    pub(crate) fn count_struck(&self) {
        self.struck.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a mark is that of a ban before the one of `through`; both are no further apart than numbers can tell.
pub(crate) fn is_before(mark: u16, through: u16) -> bool {
    List::is_after(through, mark)
}

/// A ban as operators see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BanReport {
    /// Its condition.
    pub text: String,
    /// What it does.
    pub mode: PurgeMode,
    /// When it came.
    pub at: Moment,
    /// Entries that it took or made stale so far.
    pub struck: u64,
    /// The sweep has tested everything, and only fills that began before it are waited for.
    pub swept: bool,
}

/// Bans that are to be tested, oldest first.
pub(crate) type Pending = SmallVec<[Arc<Ban>; 4]>;

#[derive(Default)]
struct List {
    bans: VecDeque<Arc<Ban>>,
    /// The list's ban for each text and mode, by its number.
    texts: HashMap<(Box<str>, PurgeMode), u16>,
    /// The number up to which the index was swept.
    swept: u16,
}

impl List {
    /// Whether `number` is that of a ban after the one of `mark`; both are of bans in the list, or of the last before it.
    fn is_after(number: u16, mark: u16) -> bool {
        (number.wrapping_sub(mark) as i16) > 0
    }

    fn forget(&mut self, ban: &Ban) {
        let name = (Box::from(ban.condition.text()), ban.mode);
        if self.texts.get(&name) == Some(&ban.number) {
            self.texts.remove(&name);
        }
    }
}

/// The bans that are not over. See the module's page.
#[derive(Default)]
pub(crate) struct Bans {
    /// The number of the last ban. Read by every look-up, so it has a line of its own.
    newest: Newest,
    list: RwLock<List>,
}

#[derive(Default)]
#[repr(align(64))]
struct Newest(AtomicU16);

/// The sweep lags behind so far that no further ban can be taken now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many bans wait for the sweep")]
pub struct TooManyBans;

impl Bans {
    /// The number of the last ban: what was tested up to it has nothing before it.
    pub(crate) fn newest(&self) -> u16 {
        self.newest.0.load(Ordering::Acquire)
    }

    /// Adds a ban. Called with the ledger locked. Returns the generation up to which a ban had to be forgotten that a fill
    /// under way may not have seen.
    pub(crate) fn add(
        &self,
        condition: Arc<dyn Condition>,
        mode: PurgeMode,
        generation: Generation,
        at: Moment,
    ) -> Result<Option<Generation>, TooManyBans> {
        let mut list = self.list.write();
        let list = &mut *list;
        let number = self.newest().wrapping_add(1);
        if number.wrapping_sub(list.swept) > MOST_NUMBERS {
            return Err(TooManyBans);
        }
        let name = (Box::from(condition.text()), mode);
        // Whatever the older one names, this one names too.
        if let Some(number) = list.texts.get(&name) {
            list.bans.retain(|ban| ban.number != *number);
        }
        let mut forgotten = None;
        if list.bans.len() >= MOST {
            // Swept ones are there for fills only.
            match list.bans.front() {
                Some(oldest) if !List::is_after(oldest.number, list.swept) => {
                    forgotten = Some(oldest.generation);
                    if let Some(oldest) = list.bans.pop_front() {
                        list.forget(&oldest);
                    }
                }
                Some(_) | None => return Err(TooManyBans),
            }
        }
        list.texts.insert(name, number);
        let struck = AtomicU64::new(0);
        list.bans.push_back(Arc::new(Ban { number, generation, mode, at, condition, struck }));
        self.newest.0.store(number, Ordering::Release);
        Ok(forgotten)
    }

    /// The bans after `mark`, and the number of the last of them.
    pub(crate) fn after(&self, mark: u16) -> (Pending, u16) {
        let list = self.list.read();
        let newer = list.bans.iter().rev().take_while(|ban| List::is_after(ban.number, mark));
        let mut pending: Pending = newer.cloned().collect();
        pending.reverse();
        (pending, self.newest())
    }

    /// The bans since a fill began, and the number of the last of all.
    pub(crate) fn since(&self, stamp: Generation) -> (Pending, u16) {
        let list = self.list.read();
        let newer = list.bans.iter().rev().take_while(|ban| ban.generation > stamp);
        let mut pending: Pending = newer.cloned().collect();
        pending.reverse();
        (pending, self.newest())
    }

    /// Whether there is something to sweep.
    pub(crate) fn wants_sweep(&self) -> bool {
        let swept = self.list.read().swept;
        swept != self.newest()
    }

    /// The bans that were not swept yet, and the number of the last of them.
    pub(crate) fn unswept(&self) -> (Pending, u16) {
        let swept = self.list.read().swept;
        self.after(swept)
    }

    /// Notes that everything in the index was tested against the bans up to `number`.
    pub(crate) fn swept(&self, number: u16) {
        self.list.write().swept = number;
    }

    /// Takes bans off the list that were swept, and that no fill under way began before: `needless` is the stamp of the
    /// oldest of them.
    pub(crate) fn prune(&self, needless: Generation) {
        if self.list.read().bans.is_empty() {
            return;
        }
        let mut list = self.list.write();
        let list = &mut *list;
        while let Some(oldest) = list.bans.front() {
            if List::is_after(oldest.number, list.swept) || oldest.generation > needless {
                break;
            }
            if let Some(oldest) = list.bans.pop_front() {
                list.forget(&oldest);
            }
        }
        if list.bans.is_empty() {
            list.bans.shrink_to(64);
            list.texts.shrink_to(64);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.read().bans.len()
    }

    pub(crate) fn reports(&self) -> Vec<BanReport> {
        let list = self.list.read();
        let report = |ban: &Arc<Ban>| BanReport {
            text: ban.condition.text().to_owned(),
            mode: ban.mode,
            at: ban.at,
            struck: ban.struck.load(Ordering::Relaxed),
            swept: !List::is_after(ban.number, list.swept),
        };
        list.bans.iter().map(report).collect()
    }
}
