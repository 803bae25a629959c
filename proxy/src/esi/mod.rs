//! Edge Side Includes: pages that a node sends with holes in them, and that are put together here for each visitor.
//!
//! A node that hears `Surrogate-Capability: clearcoat="ESI/1.0"` may answer with `Surrogate-Control: content="ESI/1.0"`. Such a
//! body is read once ([`parse`]) into a [`Template`], which is a part of the stored entry (`Entry::recipe`). Each request for the page walks
//! the template (`page`): every fragment is a request of its own, made from the visitor's header lines with another target, that goes
//! the way of all requests (`Front::decide`). So each is cached by itself, under its own key, Vary and rules, and a purge of a
//! fragment changes the page at once. Where all fragments are in memory the page is one list of pieces, which share the bodies of their
//! entries, and nothing waits. What is missing is fetched by tasks, all at the same time (`fragment`), while the page goes out in
//! order (`assembly`).
//!
//! Pieces are plain text always: fragments are asked for without `Accept-Encoding`, and what a node compressed all the same
//! is decoded. The page goes out as it is, without Range, 304, `ETag` and `Last-Modified`: what it is made of changes without it.
//!
//! What of a fragment counts is its body. Its `Set-Cookie` and other lines are dropped. A fragment fails when there is no
//! answer or its status is not 2xx. Then `alt` is asked for; then, with `onerror="continue"`, nothing stands in its place;
//! else the nearest `<esi:attempt>` fails, and without one the body is put in as Varnish does, if the status is below 500.
//!
//! Downstream caches hear the page's own `Cache-Control`, unless the page is made for one visitor, or might be: a variable
//! or test is in it, a fragment says `private`, `no-store` or `no-cache` or varies by something else than the coding, or a fragment had to be fetched,
//! so that nobody could know when the head went out. Then it is `private, no-cache`.
//!
//! Left out on purpose: variables in `src` (a visitor would choose what is asked for), `inline`, `assign` and functions. The
//! other tags are left out and counted.

mod assembly;
mod expression;
mod fragment;
mod gather;
mod handshake;
mod original;
mod page;
pub(crate) mod parse;
mod serving;
mod template;

use std::time::Duration;

pub(crate) use assembly::Assembly;
pub(crate) use expression::push_escaped;
pub(crate) use gather::{Readable, read_page};
pub(crate) use handshake::{CAPABILITY, SURROGATE_CAPABILITY, SURROGATE_CONTROL, is_marked};
use original::Original;
pub(crate) use serving::{Arrived, Incoming, Rest, Serving};
pub(crate) use template::{Part, Template};

/// How far assembling goes. What is beyond is left out of the page, and the rest is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct EsiSettings {
    /// Pages within pages; the fragments of a page stand at depth one. Default 5, as Varnish (`max_esi_depth`).
    pub(crate) depth: u32,
    /// Fragments of one page, with those of its fragments and the alternatives that were tried. Default 256.
    pub(crate) fragments: u32,
    /// Bytes of fragments in one page, and of a page that is read for tags. Default 64 MiB.
    pub(crate) bytes: u64,
    /// The longest wait for a fragment, with what it is made of and until its body is whole. Default 30 s.
    pub(crate) timeout: Duration,
}

impl Default for EsiSettings {
    fn default() -> Self {
        Self { depth: 5, fragments: 256, bytes: 64 << 20, timeout: Duration::from_secs(30) }
    }
}

/// A request as far as variables tell of it.
pub(crate) trait Visit {
    /// The host, as the visitor named it.
    fn host(&self) -> &[u8];

    /// The query, without its question mark.
    fn query(&self) -> &[u8];

    /// Calls `line` with the value of each header line of this name, given in lower case.
    fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8]));
}
