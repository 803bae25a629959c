//! Bans: how they are taken in, tested by look-ups and fills, and swept.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{PurgeMode, Store};
use crate::ban::sieve::Sieve;
use crate::ban::{Ban, BanReport, Condition, Page, TooManyBans, is_before};
use crate::entry::Entry;
use crate::generation::{FillStamp, Generation};
use crate::index::SHARDS;

/// What bans did to something.
pub(super) enum Tested {
    /// Nothing.
    Clean,
    /// They made it stale just now.
    Softened,
    /// It must not be used: this one names it.
    Struck(Arc<Ban>),
}

impl Store {
    /// Purges every page that `condition` names and that is stored, or being fetched. When it returns, the ban holds;
    /// [`Store::sweep_bans`] does the rest.
    ///
    /// # Errors
    ///
    /// [`TooManyBans`] when the sweep lags behind: try again when it has been through once more.
    pub fn ban(
        &self,
        condition: Arc<dyn Condition>,
        mode: PurgeMode,
        now: crate::Moment,
    ) -> Result<Generation, TooManyBans> {
        self.ledger.ban(|generation| self.bans.add(condition, mode, generation, now))
    }

    /// The newest ban since `stamp` that names a page.
    pub fn banned_since(&self, stamp: &FillStamp, page: &Page<'_>) -> Option<Generation> {
        let (pending, _) = self.bans.since(stamp.generation());
        pending.iter().rev().find(|ban| ban.names(page)).map(|ban| ban.generation())
    }

    /// Whether a sweep has something to do.
    pub fn wants_sweep(&self) -> bool {
        self.bans.wants_sweep()
    }

    /// Bans in the list: those that were not swept yet, and those that a fill under way has to be tested against.
    pub fn ban_count(&self) -> usize {
        self.bans.len()
    }

    /// The bans in the list, oldest first.
    pub fn bans(&self) -> Vec<BanReport> {
        self.bans.reports()
    }

    /// Tests all entries against the bans in the list, unless that was done since the last one came, and takes bans off it
    /// that nobody needs any more. `rest` is called again and again on the way. Takes some tenths of a microsecond for each entry,
    /// and for each entry and ban that may name it: call it where a thread may be busy for long. A second call waits for the first. Returns how many entries are gone or stale by it.
    pub fn sweep_bans(&self, mut rest: impl FnMut()) -> u64 {
        let _alone = self.sweeping.lock();
        let mut struck = 0;
        if self.bans.wants_sweep() {
            let (pending, through) = self.bans.unswept();
            let sieve = Sieve::new(pending);
            for part in 0..SHARDS {
                for entry in self.index.entries(part) {
                    let mark = entry.ban_mark();
                    // A look-up may have tested it against newer ones already.
                    if is_before(mark, through) {
                        let pending = sieve.may_name(entry.url(), mark);
                        struck += u64::from(self.enforce(&entry, mark, &pending, through));
                    }
                }
                rest();
            }
            self.bans.swept(through);
        }
        self.bans.prune(self.ledger.needless());
        struck
    }

    /// Does what bans say of an entry that was tested up to `mark`: `pending` are those up to `through` that may name it.
    /// Returns whether that changed anything.
    fn enforce(&self, entry: &Arc<Entry>, mark: u16, pending: &[Arc<Ban>], through: u16) -> bool {
        match tested_by(pending, entry, mark, through) {
            Tested::Clean => false,
            Tested::Softened => true,
            Tested::Struck(ban) => self.strike(entry, &ban),
        }
    }

    /// Takes out what a ban named; whether it was still there.
    pub(super) fn strike(&self, entry: &Arc<Entry>, ban: &Ban) -> bool {
        let removed = self.remove(entry);
        if removed {
            ban.count_struck();
            self.counters.banned.fetch_add(1, Relaxed);
        }
        removed
    }

    /// What the bans say of a stored entry that it was not tested against yet. Nearly always there are none, and that is
    /// one comparison.
    pub(super) fn tested(&self, entry: &Entry) -> Tested {
        if entry.ban_mark() == self.bans.newest() {
            return Tested::Clean;
        }
        self.tested_now(entry)
    }

    #[cold]
    fn tested_now(&self, entry: &Entry) -> Tested {
        let mark = entry.ban_mark();
        let (pending, through) = self.bans.after(mark);
        tested_by(&pending, entry, mark, through)
    }

    /// What the bans since a fill began say of its page, and up to which they were asked.
    pub(super) fn tested_fill(&self, stamp: &FillStamp, entry: &Entry) -> (Sentence, u16) {
        let (pending, through) = self.bans.since(stamp.generation());
        (judge(&pending, &page(entry)), through)
    }
}

/// What `pending`, which are all bans between `mark` and `through` that may name it, say of an entry.
fn tested_by(pending: &[Arc<Ban>], entry: &Entry, mark: u16, through: u16) -> Tested {
    match judge(pending, &page(entry)) {
        Sentence::Hard(ban) => Tested::Struck(ban),
        sentence => {
            let mut tested = Tested::Clean;
            if let Sentence::Soft(ban) = sentence
                && entry.soften(ban.at())
            {
                ban.count_struck();
                tested = Tested::Softened;
            }
            // Only forward: if another thread was quicker, that one knows more.
            entry.advance_ban_mark(mark, through);
            tested
        }
    }
}

/// What some bans say of a page together.
pub(super) enum Sentence {
    Clean,
    /// It was stale from the moment of this one on.
    Soft(Arc<Ban>),
    Hard(Arc<Ban>),
}

fn judge(bans: &[Arc<Ban>], page: &Page<'_>) -> Sentence {
    let mut sentence = Sentence::Clean;
    for ban in bans {
        match (ban.mode(), &sentence) {
            // The earliest soft one counts, since it is stale from then on.
            (PurgeMode::Soft, Sentence::Soft(_)) => {}
            (PurgeMode::Soft, _) if ban.names(page) => sentence = Sentence::Soft(Arc::clone(ban)),
            (PurgeMode::Hard, _) if ban.names(page) => return Sentence::Hard(Arc::clone(ban)),
            (PurgeMode::Soft | PurgeMode::Hard, _) => {}
        }
    }
    sentence
}

fn page(entry: &Entry) -> Page<'_> {
    Page { url: entry.url(), head: entry.head(), tags: entry.tags() }
}
