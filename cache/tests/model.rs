//! The store against a naive model: whatever is put, asked for and purged in whatever order, a look-up never returns
//! what a purge named, nor anything but the latest response of its variant.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::{
    CacheKey, Commit, Entry, EntryParts, FillStamp, KeySecret, Lifetime, Lookup, Moment, PurgeCount,
    PurgeMode, Scheme, Settings, Store, Tag, VariantKey, VarySpec,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const URLS: u8 = 6;
const TAGS: u8 = 5;
const TTL: u64 = 60;
const GRACE: u64 = 30;
const KEEP: u64 = 10;

#[derive(Clone, Debug)]
enum Step {
    Begin { fill: usize },
    Commit { fill: usize, url: u8, language: Option<u8>, tags: Vec<u8> },
    Get { url: u8, language: u8 },
    PurgeUrl { url: u8, soft: bool },
    PurgeTags { tags: Vec<u8>, soft: bool },
    PurgeAll { soft: bool },
    Wait { seconds: u64 },
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let tags = || prop::collection::btree_set(0..TAGS, 0..4).prop_map(Vec::from_iter);
    prop_oneof![
        2 => (0usize..3).prop_map(|fill| Step::Begin { fill }),
        8 => (0usize..3, 0..URLS, prop::option::of(0u8..3), tags())
            .prop_map(|(fill, url, language, tags)| Step::Commit { fill, url, language, tags }),
        8 => (0..URLS, 0u8..3).prop_map(|(url, language)| Step::Get { url, language }),
        1 => (0..URLS, any::<bool>()).prop_map(|(url, soft)| Step::PurgeUrl { url, soft }),
        2 => (tags(), any::<bool>()).prop_map(|(tags, soft)| Step::PurgeTags { tags, soft }),
        1 => any::<bool>().prop_map(|soft| Step::PurgeAll { soft }),
        2 => (0u64..50).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Settle),
    ]
}

/// A stored response as the model knows it.
#[derive(Clone)]
struct Known {
    body: usize,
    tags: Vec<u8>,
    fresh_until: u64,
}

impl Known {
    fn word(&self, now: u64) -> &'static str {
        match now {
            now if now < self.fresh_until => "fresh",
            now if now < self.fresh_until + GRACE => "grace",
            now if now < self.fresh_until + GRACE + KEEP => "stale",
            _ => "missing",
        }
    }
}

/// A purge as the model remembers it, for the fills that began before it.
struct Purge {
    url: Option<u8>,
    tags: Vec<u8>,
    all: bool,
    soft: bool,
}

impl Purge {
    fn names(&self, url: u8, tags: &[u8]) -> bool {
        self.all || self.url == Some(url) || self.tags.iter().any(|tag| tags.contains(tag))
    }
}

struct Model {
    /// By URL and language; no language for a response that does not vary.
    known: BTreeMap<(u8, Option<u8>), Known>,
    purges: Vec<Purge>,
    now: u64,
}

impl Model {
    fn get(&self, url: u8, language: u8) -> Option<&Known> {
        self.known.get(&(url, None)).or_else(|| self.known.get(&(url, Some(language))))
    }

    fn purge(&mut self, purge: Purge) -> PurgeCount {
        let mut count = PurgeCount::default();
        let now = self.now;
        self.known.retain(|(url, _), known| {
            if !purge.names(*url, &known.tags) {
                return true;
            }
            if purge.soft {
                count.softened += u64::from(known.word(now) == "fresh");
                known.fresh_until = known.fresh_until.min(now);
            } else {
                count.purged += u64::from(known.word(now) != "missing");
            }
            purge.soft
        });
        self.purges.push(purge);
        count
    }
}

fn tag(number: u8) -> Tag {
    Tag::new(format!("t{number}").as_bytes()).unwrap()
}

fn request(language: u8) -> HeaderMap {
    HeaderMap::from_iter([(
        HeaderName::from_static("accept-language"),
        HeaderValue::from(u16::from(language)),
    )])
}

fn mode(soft: bool) -> PurgeMode {
    if soft { PurgeMode::Soft } else { PurgeMode::Hard }
}

fn moment(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

struct Run {
    store: Store,
    model: Model,
    /// Each with the number of purges before it.
    fills: Vec<(FillStamp, usize)>,
    bodies: usize,
    /// With a tiny store the model does not know what was evicted: then "missing" is always right.
    may_evict: bool,
}

impl Run {
    fn new(memory_bytes: u64, may_evict: bool) -> Self {
        let store =
            Store::new(Settings { memory_bytes, max_variants: 10, max_marks: 0 }, KeySecret::new([3; 16]));
        let fills = (0..3).map(|_| (store.begin_fill(), 0)).collect();
        let model = Model { known: BTreeMap::new(), purges: Vec::new(), now: 100 };
        Self { store, model, fills, bodies: 0, may_evict }
    }

    fn key(&self, url: u8) -> CacheKey {
        self.store.secret().key(Scheme::Http, b"a", &[b'/', url])
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = moment(self.model.now);
        match step {
            Step::Begin { fill } => self.fills[*fill] = (self.store.begin_fill(), self.model.purges.len()),
            Step::Commit { fill, url, language, tags } => self.commit(*fill, *url, *language, tags)?,
            Step::Get { url, language } => self.get(*url, *language)?,
            Step::PurgeUrl { url, soft } => {
                let purge = Purge { url: Some(*url), tags: vec![], all: false, soft: *soft };
                let expected = self.model.purge(purge);
                self.counted(self.store.purge_key(self.key(*url), mode(*soft), now), expected)?;
            }
            Step::PurgeTags { tags, soft } => {
                let expected =
                    self.model.purge(Purge { url: None, tags: tags.clone(), all: false, soft: *soft });
                let tags: Vec<_> = tags.iter().copied().map(tag).collect();
                self.counted(self.store.purge_tags(&tags, mode(*soft), now), expected)?;
            }
            Step::PurgeAll { soft } => {
                let expected = self.model.purge(Purge { url: None, tags: vec![], all: true, soft: *soft });
                self.counted(self.store.purge_all(mode(*soft), now), expected)?;
            }
            Step::Wait { seconds } => self.model.now += seconds,
            Step::Settle => self.store.settle(),
        }
        Ok(())
    }

    fn counted(&self, found: PurgeCount, expected: PurgeCount) -> Result<(), TestCaseError> {
        if self.may_evict {
            prop_assert!(found.purged <= expected.purged && found.softened <= expected.softened);
        } else {
            prop_assert_eq!(found, expected);
        }
        Ok(())
    }

    fn commit(
        &mut self,
        fill: usize,
        url: u8,
        language: Option<u8>,
        tags: &[u8],
    ) -> Result<(), TestCaseError> {
        self.bodies += 1;
        let vary = language.and_then(|_| VarySpec::from_names([HeaderName::from_static("accept-language")]));
        let variant = match (&vary, language) {
            (Some(vary), Some(language)) => vary.variant(self.store.secret(), &request(language)),
            _ => VariantKey::NONE,
        };
        let mut body = self.bodies.to_string().into_bytes();
        body.resize(4000, b' ');
        let entry = Entry::new(EntryParts {
            key: self.key(url),
            variant,
            url: "http://a/".into(),
            status: 200,
            head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
            body: Bytes::from(body),
            tags: tags.iter().copied().map(tag).collect(),
            stored: moment(self.model.now),
            lifetime: Lifetime {
                ttl: Duration::from_secs(TTL),
                initial_age: Duration::ZERO,
                grace: Duration::from_secs(GRACE),
                keep: Duration::from_secs(KEEP),
                ..Lifetime::default()
            },
        });
        let (stamp, before) = &self.fills[fill];
        let found = self.store.commit(stamp, entry, vary, moment(self.model.now));
        let named: Vec<_> =
            self.model.purges[*before..].iter().filter(|purge| purge.names(url, tags)).collect();
        let hard = named.iter().any(|purge| !purge.soft);
        let soft = !hard && !named.is_empty();
        let as_expected = match found {
            Commit::Refused => hard,
            Commit::StoredSoft(_) => soft,
            Commit::Stored(_) => !hard && !soft,
            Commit::TooLarge => false,
        };
        prop_assert!(as_expected, "hard {hard}, soft {soft}, found {found:?}");
        if !hard {
            // A response with another `Vary` than the last one displaces all that went before.
            self.model
                .known
                .retain(|(known, other), _| *known != url || (other.is_some() && language.is_some()));
            let fresh_until = self.model.now + if soft { 0 } else { TTL };
            let known = Known { body: self.bodies, tags: tags.to_vec(), fresh_until };
            self.model.known.insert((url, language), known);
        }
        Ok(())
    }

    fn get(&self, url: u8, language: u8) -> Result<(), TestCaseError> {
        let (word, entry) = match self.store.lookup(self.key(url), &request(language), moment(self.model.now))
        {
            Lookup::Fresh(entry) => ("fresh", Some(entry)),
            Lookup::Grace(entry) => ("grace", Some(entry)),
            Lookup::Stale(entry) => ("stale", Some(entry)),
            Lookup::Uncacheable => ("uncacheable", None),
            Lookup::Missing => ("missing", None),
        };
        if word == "missing" && self.may_evict {
            return Ok(());
        }
        let expected = self.model.get(url, language);
        prop_assert_eq!(word, expected.map_or("missing", |known| known.word(self.model.now)));
        if let (Some(entry), Some(expected)) = (entry, expected) {
            let body = std::str::from_utf8(entry.body()).unwrap().trim_end();
            prop_assert_eq!(body, expected.body.to_string());
        }
        Ok(())
    }

    /// Nothing is left behind when everything is gone.
    fn end(self) -> Result<(), TestCaseError> {
        self.store.purge_all(PurgeMode::Hard, moment(self.model.now));
        let stats = self.store.stats();
        prop_assert_eq!((stats.entries, stats.bytes, stats.tags, stats.tag_bytes), (0, 0, 0, 0));
        Ok(())
    }
}

fn run(steps: &[Step], memory_bytes: u64, may_evict: bool) -> Result<(), TestCaseError> {
    let mut run = Run::new(memory_bytes, may_evict);
    for step in steps {
        run.step(step)?;
    }
    run.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_room_for_all_it_is_the_model(steps in prop::collection::vec(step(), 1..150)) {
        run(&steps, 16 << 20, false)?;
    }

    #[test]
    fn with_room_for_few_it_returns_nothing_else(steps in prop::collection::vec(step(), 1..150)) {
        run(&steps, 64 << 10, true)?;
    }
}
