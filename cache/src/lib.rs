//! What Clearcoat stores and for how long: keys, entries, freshness, tags, the store.
