//! What Clearcoat stores and for how long: keys, entries, freshness, tags, the store.
//!
//! Read [`key`], [`entry`] and [`freshness`] first, then [`store`], which brings them together. The crate opens no
//! sockets, spawns no tasks and reads no clock: `now` is an argument, the last one.

pub mod ban;
pub mod bounded;
pub mod budget;
pub mod coding;
pub mod collapse;
pub mod directive;
pub mod encoded;
pub mod entry;
pub mod freshness;
pub mod generation;
pub mod governor;
pub mod key;
pub mod language;
pub mod store;
pub mod structured;
pub mod tag;
pub mod time;
pub mod vary;

mod index;
mod room;
mod variants;

pub use ban::{BanReport, Condition, Page, TooManyBans};
pub use coding::{Accepted, Coding};
pub use encoded::{Encoded, EncodedForm, Recipe, Recoding};
pub use entry::{Audience, Entry, EntryParts, Freshness};
pub use freshness::{
    DefaultTtls, FreshnessSettings, Lifetime, Reason, RequestFacts, SaidBy, Statuses, TargetedFields,
    Verdict, assess,
};
pub use generation::{FillStamp, Generation};
pub use governor::{Footprint, Governor};
pub use key::{CacheKey, KeySecret, Scheme, VariantKey};
pub use store::{Commit, Grown, Known, Lookup, Peek, PurgeCount, PurgeMode, Settings, Store, StoreStats};
pub use tag::{Tag, TagList, TagsTooLong, collect_tags, split_tags};
pub use time::Moment;
pub use vary::{SelectingHeaders, VarySpec};
