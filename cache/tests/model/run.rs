//! Does each step to the store and to the model, and compares everything that can be seen of the two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clearcoat_cache::{
    CacheKey, Commit, Entry, EntryParts, FillStamp, KeySecret, Lifetime, Lookup, Moment, PurgeCount,
    PurgeMode, Scheme, Settings, Store, StoreStats, Tag, VariantKey, VarySpec,
};
use http::HeaderName;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::naive::{Fate, Found, Known, Naive, Named, Word};
use crate::step::{Response, Step, VARIES, Visitor, World};

type Checked = Result<(), TestCaseError>;

pub(crate) fn tag(number: u8) -> Tag {
    Tag::new(format!("t{number}").as_bytes()).unwrap()
}

pub(crate) fn mode(soft: bool) -> PurgeMode {
    if soft { PurgeMode::Soft } else { PurgeMode::Hard }
}

pub(crate) fn url_key(store: &Store, url: u8) -> CacheKey {
    store.secret().key(Scheme::Http, b"a", format!("/{url}").as_bytes())
}

pub(crate) fn spec(vary: u8) -> VarySpec {
    let names = VARIES[usize::from(vary)].iter().map(|name| HeaderName::from_static(name));
    VarySpec::from_names(names).unwrap()
}

/// An entry whose body begins with its number.
pub(crate) fn entry(store: &Store, said: &Response, number: u64, stored: u64) -> (Entry, Option<VarySpec>) {
    let vary = said.vary.map(spec);
    let variant = match &vary {
        Some(vary) => vary.variant(store.secret(), &said.asked.headers()),
        None => VariantKey::NONE,
    };
    let mut body = vec![0; said.body_bytes];
    body[..8].copy_from_slice(&number.to_le_bytes());
    let entry = Entry::new(EntryParts {
        key: url_key(store, said.url),
        variant,
        url: format!("http://a/{}", said.url).into(),
        status: 200,
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
        body: Bytes::from(body),
        tags: said.tags.iter().copied().map(tag).collect(),
        stored: Moment::from_millis(stored),
        lifetime: Lifetime::from(said.life),
    });
    (entry, vary)
}

pub(crate) fn number_in(entry: &Entry) -> u64 {
    u64::from_le_bytes(entry.body()[..8].try_into().unwrap())
}

struct Fill {
    stamp: FillStamp,
    /// Purges before it.
    before: usize,
    began: u64,
}

pub(crate) struct Run {
    store: Store,
    memory_bytes: u64,
    world: World,
    naive: Naive,
    fills: Vec<Fill>,
    /// The last entries that look-ups returned, held as a slow client holds them.
    seen: Vec<Arc<Entry>>,
    responses: u64,
    too_large: u64,
    /// What the store said went for lack of room, and by age, up to the last step.
    evictions: u64,
    expired: u64,
    steps: u64,
}

impl Run {
    pub(crate) fn new(settings: Settings, world: World) -> Self {
        let store = Store::new(settings, KeySecret::new([3; 16]));
        let naive = Naive::new(settings.max_variants.max(1) as usize, settings.max_marks > 0);
        let fill = || Fill { stamp: store.begin_fill(), before: 0, began: naive.now };
        let fills = (0..world.fills).map(|_| fill()).collect();
        Self {
            store,
            memory_bytes: settings.memory_bytes,
            world,
            naive,
            fills,
            seen: Vec::new(),
            responses: 0,
            too_large: 0,
            evictions: 0,
            expired: 0,
            steps: 0,
        }
    }

    fn key(&self, url: u8) -> CacheKey {
        url_key(&self.store, url)
    }

    fn now(&self) -> Moment {
        Moment::from_millis(self.naive.now)
    }

    pub(crate) fn step(&mut self, step: &Step) -> Checked {
        let now = self.now();
        match step {
            Step::Begin { fill } => {
                let (before, began) = (self.naive.purges.len(), self.naive.now);
                self.fills[*fill] = Fill { stamp: self.store.begin_fill(), before, began };
            }
            Step::Commit { fill, late, said } => self.commit(*fill, *late, said)?,
            Step::CommitTooLarge { fill, url } => self.commit_too_large(*fill, *url)?,
            Step::Get { url, visitor } => self.get(*url, visitor)?,
            Step::PurgeUrl { url, soft } => {
                let found = self.store.purge_key(self.key(*url), mode(*soft), now);
                counted(found, self.naive.purge(Named::Url(*url), *soft))?;
            }
            Step::PurgeTags { tags, soft } => {
                let texts: Vec<_> = tags.iter().copied().map(tag).collect();
                let found = self.store.purge_tags(&texts, mode(*soft), now);
                counted(found, self.naive.purge(Named::Tags(tags.clone()), *soft))?;
            }
            Step::PurgeAll { soft } => {
                let found = self.store.purge_all(mode(*soft), now);
                counted(found, self.naive.purge(Named::All, *soft))?;
            }
            Step::PurgeSeen { seen, soft } => {
                if let Some(entry) = self.seen.get(*seen) {
                    let found = self.store.purge_entry(entry, mode(*soft), now);
                    counted(found, self.naive.purge_one(number_in(entry), *soft, true))?;
                }
            }
            Step::Mark { url, seconds } => {
                let until = self.naive.now + seconds * 1000;
                self.store.mark_uncacheable(self.key(*url), Moment::from_millis(until));
                self.naive.mark(*url, until);
            }
            Step::Learn { url, vary } => {
                self.store.learn_vary(self.key(*url), spec(*vary));
                self.naive.learn(*url, *vary);
            }
            Step::Wait { millis } => self.naive.now += millis,
            Step::Settle => self.store.settle(now),
        }
        self.agree()
    }

    fn commit(&mut self, fill: usize, late: bool, said: &Response) -> Checked {
        self.responses += 1;
        let Fill { stamp, before, began } = &self.fills[fill];
        let stored = if late { *began } else { self.naive.now };
        let (entry, vary) = entry(&self.store, said, self.responses, stored);
        let fate = self.naive.fate(*before, said.url, &said.tags);
        let named = self.store.named_since(stamp, entry.key(), entry.tags()).map_or(0, |last| last.number());
        prop_assert_eq!(named, self.naive.named_since(*before, said.url, &said.tags));
        let told = Instant::now();
        let found = match self.store.commit(stamp, entry, vary, self.now()) {
            Commit::Stored(entry) => {
                prop_assert_eq!(number_in(&entry), self.responses);
                Fate::Clean
            }
            Commit::StoredSoft(entry) => {
                prop_assert_eq!(number_in(&entry), self.responses);
                Fate::Soft
            }
            Commit::Refused => Fate::Hard,
            Commit::TooLarge => return Err(TestCaseError::fail("it is not too large")),
        };
        prop_assert_eq!(found, fate);
        self.naive.store(Known::new(self.responses, said.clone(), stored, told), fate);
        Ok(())
    }

    fn commit_too_large(&mut self, fill: usize, url: u8) -> Checked {
        self.responses += 1;
        let said = Response {
            url,
            asked: Visitor { language: None, hash: None, encoding: 0 },
            vary: None,
            tags: Vec::new(),
            life: crate::step::Life { ttl: 60, age: 0, grace: 0, keep: 0, on_error: 0, may_be_stale: false },
            body_bytes: self.memory_bytes as usize / 2 + 1,
        };
        let (entry, vary) = entry(&self.store, &said, self.responses, self.naive.now);
        let found = self.store.commit(&self.fills[fill].stamp, entry, vary, self.now());
        prop_assert!(matches!(found, Commit::TooLarge), "{found:?}");
        self.too_large += 1;
        Ok(())
    }

    fn get(&mut self, url: u8, visitor: &Visitor) -> Checked {
        let expected = self.naive.find(url, visitor);
        let now = self.now();
        let (word, entry) = match self.store.lookup(self.key(url), &visitor.headers(), now) {
            Lookup::Fresh(entry) => (Word::Fresh, entry),
            Lookup::Grace(entry) => (Word::Grace, entry),
            Lookup::Stale(entry) => (Word::Stale, entry),
            Lookup::Uncacheable => {
                prop_assert_eq!(Found::Uncacheable, expected);
                return Ok(());
            }
            Lookup::Missing => {
                prop_assert_eq!(Found::Missing, expected);
                return Ok(());
            }
        };
        prop_assert_eq!(Found::Entry(word, number_in(&entry)), expected);
        let known = self.naive.known.iter().find(|known| known.number == number_in(&entry)).unwrap();
        prop_assert_eq!(entry.key(), self.key(url));
        prop_assert_eq!(entry.body().len(), known.said.body_bytes);
        let tags: Vec<_> = known.said.tags.iter().copied().map(tag).collect();
        prop_assert_eq!(entry.tags(), &tags[..]);
        let true_age = known.said.life.age + (now.as_millis() - known.stored) / 1000;
        // One that a purge made stale is as old as if its lifetime were over.
        let over = now.as_millis().checked_sub(known.fresh_until);
        let age = over.map_or(true_age, |over| true_age.max(known.said.life.ttl + over / 1000));
        prop_assert_eq!(entry.age_seconds(now), age);
        prop_assert_eq!(entry.may_serve_on_error(now), known.on_error(now.as_millis()));
        prop_assert_eq!(entry.may_serve_disconnected(now), known.disconnected(now.as_millis()));
        self.seen.insert(0, entry);
        self.seen.truncate(8);
        Ok(())
    }

    /// Everything that is counted says the same. All that is stored is looked through when something went by itself,
    /// and now and then, because that takes a hundred times as long as a step.
    fn agree(&mut self) -> Checked {
        let stats = self.store.stats();
        self.steps += 1;
        if (stats.evictions, stats.expired) != (self.evictions, self.expired) || self.steps.is_multiple_of(8)
        {
            self.look_through(&stats)?;
        }
        prop_assert_eq!(stats.entries, self.naive.known.len() as u64);
        prop_assert!(stats.bytes <= self.memory_bytes, "{} bytes", stats.bytes);
        prop_assert_eq!(stats.stored, self.naive.stored);
        prop_assert_eq!(stats.refused_by_purge, self.naive.refused);
        prop_assert_eq!(stats.too_large, self.too_large);
        prop_assert_eq!(stats.variants_dropped, self.naive.variants_dropped);
        prop_assert_eq!((stats.marks, stats.marks_dropped), (self.naive.marks.len() as u64, 0));
        prop_assert_eq!(self.store.generation().number(), self.naive.purges.len() as u64);
        let tags = self.naive.tags();
        prop_assert_eq!(stats.tags, tags.len() as u64);
        prop_assert_eq!(stats.tag_bytes == 0, tags.is_empty());
        Ok(())
    }

    /// The store holds what the model holds. What the policy took is taken from the model too, and must be neither
    /// more nor less than what the store counted.
    fn look_through(&mut self, stats: &StoreStats) -> Checked {
        let all: Vec<_> = (0..Store::PARTS).flat_map(|part| self.store.part(part)).collect();
        let present: BTreeMap<_, _> = all.iter().map(|entry| (number_in(entry), entry)).collect();
        prop_assert_eq!(present.len(), all.len(), "an entry stands in two places");

        let gone: Vec<_> =
            self.naive.known.iter().filter(|known| !present.contains_key(&known.number)).cloned().collect();
        let (evicted, expired) = (stats.evictions - self.evictions, stats.expired - self.expired);
        prop_assert_eq!(gone.len() as u64, evicted + expired, "evicted {}, expired {}", evicted, expired);
        let dead =
            gone.iter().filter(|known| known.word(self.naive.now) == Word::Dead || known.lay_about()).count();
        prop_assert!(expired <= dead as u64, "expired {expired}, of which dead {dead}");
        (self.evictions, self.expired) = (stats.evictions, stats.expired);
        for known in gone {
            self.naive.forget(known.number);
        }

        prop_assert_eq!(present.len(), self.naive.known.len(), "something is stored that must not be");
        for known in &self.naive.known {
            prop_assert_eq!(present[&known.number].fresh_until().as_millis(), known.fresh_until);
        }
        prop_assert_eq!(stats.bytes, present.values().map(|entry| u64::from(entry.weight())).sum::<u64>());
        for number in 0..self.world.tags {
            let carriers = self.naive.carriers(number);
            prop_assert_eq!(self.store.count_tagged(&tag(number)), carriers);
            prop_assert_eq!(self.store.tagged(&tag(number), 3).len(), carriers.min(3));
        }
        for url in 0..self.world.urls {
            let found = self.store.vary_of(self.key(url));
            let found = found.as_ref().map(|vary| vary.names().collect::<Vec<_>>());
            prop_assert_eq!(found.as_deref(), self.naive.vary_of(url), "vary of {}", url);
        }
        Ok(())
    }

    /// Nothing is left behind when everything is gone.
    pub(crate) fn end(mut self) -> Checked {
        self.look_through(&self.store.stats())?;
        self.step(&Step::PurgeAll { soft: false })?;
        // Clients that still hold an entry hold memory of theirs, none of the store's.
        let stats = self.store.stats();
        prop_assert_eq!((stats.entries, stats.bytes, stats.tags, stats.tag_bytes), (0, 0, 0, 0));
        self.store.settle(Moment::from_millis(self.naive.now));
        prop_assert_eq!(stats, self.store.stats());
        Ok(())
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }
}

fn counted(found: PurgeCount, (purged, softened): (u64, u64)) -> Checked {
    prop_assert_eq!(found, PurgeCount { purged, softened });
    Ok(())
}
