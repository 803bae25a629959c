//! What may happen to a store, as plain data: proptest makes sequences of it and, after a failure, shorter ones.

use clearcoat_cache::Lifetime;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use std::time::Duration;

/// What responses vary on. Names are sorted, as the store keeps them.
pub(crate) const VARIES: [&[&str]; 4] = [
    &["accept-language"],
    &["accept-language", "x-user-context-hash"],
    &["accept-encoding"],
    &["accept-encoding", "x-user-context-hash"],
];

/// Spellings of `Accept-Encoding`, and which of them mean the same.
const ENCODINGS: [(Option<&str>, &str); 6] = [
    (None, "none"),
    (Some("identity"), "none"),
    (Some("gzip"), "gzip"),
    (Some("gzip;q=0.8, deflate"), "gzip"),
    (Some("br, gzip"), "br and gzip"),
    (Some("GZip ,BR;q=0.1"), "br and gzip"),
];

/// How many different things there are. A small world makes things meet, a large one fills tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) urls: u8,
    pub(crate) tags: u8,
    pub(crate) fills: usize,
    pub(crate) languages: u8,
    /// How much oftener something is stored or asked for, for each time that something else happens.
    pub(crate) busy: u32,
}

/// A request, as far as variants are chosen by it.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) language: Option<u8>,
    pub(crate) hash: Option<u8>,
    pub(crate) encoding: usize,
}

impl Visitor {
    /// What a response that varies on `vary` looks at.
    pub(crate) fn looks_to(&self, vary: u8) -> Vec<String> {
        let look = |name: &&str| match *name {
            "accept-language" => format!("{:?}", self.language),
            "x-user-context-hash" => format!("{:?}", self.hash),
            _ => ENCODINGS[self.encoding].1.to_owned(),
        };
        VARIES[usize::from(vary)].iter().map(look).collect()
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut number = |name, number: Option<u8>| {
            if let Some(number) = number {
                headers.insert(HeaderName::from_static(name), HeaderValue::from(u16::from(number)));
            }
        };
        number("accept-language", self.language);
        number("x-user-context-hash", self.hash);
        if let Some(text) = ENCODINGS[self.encoding].0 {
            headers.insert(HeaderName::from_static("accept-encoding"), HeaderValue::from_static(text));
        }
        headers
    }
}

/// How long a response may be used, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) ttl: u64,
    pub(crate) age: u64,
    pub(crate) grace: u64,
    pub(crate) keep: u64,
    pub(crate) on_error: u64,
    pub(crate) may_be_stale: bool,
}

impl From<Life> for Lifetime {
    fn from(life: Life) -> Self {
        let seconds = Duration::from_secs;
        Self {
            ttl: seconds(life.ttl),
            initial_age: seconds(life.age),
            grace: seconds(life.grace),
            keep: seconds(life.keep),
            stale_if_error: seconds(life.on_error),
            may_be_stale: life.may_be_stale,
            ..Self::default()
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) url: u8,
    /// The request that it answered.
    pub(crate) asked: Visitor,
    /// Place in [`VARIES`].
    pub(crate) vary: Option<u8>,
    /// Each once.
    pub(crate) tags: Vec<u8>,
    pub(crate) life: Life,
    pub(crate) body_bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Begin {
        fill: usize,
    },
    /// `late`: the head came when the fill began, all of the body only now.
    Commit {
        fill: usize,
        late: bool,
        said: Response,
    },
    /// More than half of the store.
    CommitTooLarge {
        fill: usize,
        url: u8,
    },
    Get {
        url: u8,
        visitor: Visitor,
    },
    PurgeUrl {
        url: u8,
        soft: bool,
    },
    /// Tags may repeat, or name nothing.
    PurgeTags {
        tags: Vec<u8>,
        soft: bool,
    },
    PurgeAll {
        soft: bool,
    },
    /// One of the entries that a look-up returned a while ago.
    PurgeSeen {
        seen: usize,
        soft: bool,
    },
    Mark {
        url: u8,
        seconds: u64,
    },
    Learn {
        url: u8,
        vary: u8,
    },
    Wait {
        millis: u64,
    },
    Settle,
}

fn seconds() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0u64), 4 => 1u64..100, 1 => 100u64..100_000, 1 => Just(1_000_000_000u64)]
}

fn visitor(world: World) -> impl Strategy<Value = Visitor> {
    (prop::option::of(0..world.languages), prop::option::of(0u8..3), 0..ENCODINGS.len())
        .prop_map(|(language, hash, encoding)| Visitor { language, hash, encoding })
}

fn response(world: World) -> impl Strategy<Value = Response> {
    let life = (seconds(), prop_oneof![3 => Just(0), 1 => seconds()], seconds(), seconds(), seconds());
    let life = (life, any::<bool>()).prop_map(|((ttl, age, grace, keep, on_error), may_be_stale)| {
        // Responses that are of use at all are what most stories are about.
        Life { ttl: ttl.max(u64::from(grace + keep == 0)), age, grace, keep, on_error, may_be_stale }
    });
    let tags = prop_oneof![
        12 => prop::collection::btree_set(0..world.tags, 0..4),
        1 => prop::collection::btree_set(0..world.tags, usize::from(world.tags) / 4),
    ];
    // A site mostly says the same `Vary` for the same URL; now and then it changes its mind.
    let vary = prop_oneof![3 => Just(None), 3 => Just(Some(1)), 1 => (0..VARIES.len() as u8).prop_map(Some)];
    let body_bytes = prop_oneof![2 => 20usize..200, 2 => 1000usize..2500];
    (0..world.urls, visitor(world), vary, tags, life, body_bytes, any::<u8>()).prop_map(
        move |(url, asked, vary, tags, life, body_bytes, same)| Response {
            url,
            asked,
            // Half of the URLs mostly keep to one answer, and always where they are to get many variants.
            vary: if (same < 200 || world.busy > 1) && url % 2 == 0 {
                Some(url / 2 % VARIES.len() as u8)
            } else {
                vary
            },
            tags: tags.into_iter().collect(),
            life,
            body_bytes,
        },
    )
}

/// One step, whatever it may be.
pub(crate) fn step(world: World) -> impl Strategy<Value = Step> {
    let url = 0..world.urls;
    let fill = 0..world.fills;
    let soft = any::<bool>();
    prop_oneof![
        12 => fill.clone().prop_map(|fill| Step::Begin { fill }),
        40 * world.busy => (fill.clone(), any::<bool>(), response(world))
            .prop_map(|(fill, late, said)| Step::Commit { fill, late, said }),
        1 => (fill, url.clone()).prop_map(|(fill, url)| Step::CommitTooLarge { fill, url }),
        40 * world.busy => (url.clone(), visitor(world)).prop_map(|(url, visitor)| Step::Get { url, visitor }),
        4 => (url.clone(), soft).prop_map(|(url, soft)| Step::PurgeUrl { url, soft }),
        8 => (prop::collection::vec(0..world.tags, 0..4), soft)
            .prop_map(|(tags, soft)| Step::PurgeTags { tags, soft }),
        1 => soft.prop_map(|soft| Step::PurgeAll { soft }),
        4 => (0usize..8, soft).prop_map(|(seen, soft)| Step::PurgeSeen { seen, soft }),
        4 => (url.clone(), 0u64..200).prop_map(|(url, seconds)| Step::Mark { url, seconds }),
        2 => (url, 0..VARIES.len() as u8).prop_map(|(url, vary)| Step::Learn { url, vary }),
        10 => prop_oneof![
            8 => 0u64..3_000,
            8 => 0u64..60_000,
            1 => 0u64..100_000_000,
        ].prop_map(|millis| Step::Wait { millis }),
        4 => Just(Step::Settle),
    ]
}
