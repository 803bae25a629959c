//! What a page has that a plain one has not, in a box that most entries do without.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

use super::weight::{VARIANT_BYTES, heap};
use crate::encoded::{Encoded, Recipe};
use crate::key::VariantKey;
use crate::tag::Tag;

/// What not every entry has: a variant, tags, forms in content codings. An entry without any of it has no box either.
pub(super) struct Extras {
    pub(super) variant: VariantKey,
    pub(super) tags: Box<[Tag]>,
    /// Where the entry stands in the list of each tag; only the tag index reads and writes them.
    pub(super) places: Box<[AtomicU32]>,
    /// Bytes of the tag index that are on the entry's account.
    pub(super) levy: AtomicU32,
    /// Set once, by whoever made the forms.
    pub(super) encoded: OnceLock<Box<Encoded>>,
    /// Of an entry that is put together for each request.
    pub(super) recipe: Option<Recipe>,
}

impl Extras {
    pub(super) fn new(variant: VariantKey, tags: Box<[Tag]>) -> Self {
        Self {
            variant,
            places: tags.iter().map(|_| AtomicU32::new(crate::tag::NOWHERE)).collect(),
            tags: tags.into_vec().into_boxed_slice(),
            levy: AtomicU32::new(0),
            encoded: OnceLock::new(),
            recipe: None,
        }
    }

    /// Its memory.
    pub(super) fn weight(&self) -> usize {
        heap(size_of::<Self>())
            + heap(size_of_val(&*self.tags))
            + heap(size_of_val(&*self.places))
            + if self.variant == VariantKey::NONE { 0 } else { VARIANT_BYTES }
    }
}
