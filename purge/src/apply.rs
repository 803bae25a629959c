//! Carrying out an admitted purge.

use clearcoat_cache::{Moment, PurgeCount, PurgeMode, Store};

use crate::{Admitted, Dialect, PurgeError, PurgeRequest};

/// How often a ban is tried again when there are too many: each time the sweep has been through once more.
const MOST_TRIES: usize = 8;

/// What a purge did, and what to answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Always 200, also when nothing was found: the caller wanted it gone, and it is.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Entries removed. Each counts once. (Varnish's xkey counts an entry once per tag that names it.) What a ban removes
    /// is known only when it is over.
    pub purged: u64,
    /// Entries that were fresh and are stale now.
    pub softened: u64,
}

/// Carries out a purge: when it returns, the purge holds, also for what is being fetched.
///
/// The time it takes grows with the number of entries named, one or two microseconds each. A ban takes none, unless so many
/// are pending that the caller has to help with the sweep first. What may take more than some hundred microseconds is given to `aside`, which
/// has to call it.
///
/// # Errors
///
/// [`PurgeError::TooManyBans`] when bans come faster than they can be worked off.
pub fn apply(
    admitted: Admitted,
    store: &Store,
    now: Moment,
    aside: impl Fn(&mut dyn FnMut()),
) -> Result<Outcome, PurgeError> {
    let mut count = PurgeCount::default();
    match admitted.request() {
        PurgeRequest::Url { keys, mode } => {
            for key in keys {
                count += store.purge_key(*key, *mode, now);
            }
        }
        PurgeRequest::Tags { hard, soft, dialect: _ } => {
            for (tags, mode) in [(hard, PurgeMode::Hard), (soft, PurgeMode::Soft)] {
                if !tags.is_empty() {
                    let tags: Vec<&[u8]> = tags.iter().collect();
                    count += store.purge_tags_aside(&tags, mode, now, &aside);
                }
            }
        }
        PurgeRequest::Ban { condition, mode, dialect: _ } => {
            let mut taken = store.ban(condition.clone(), *mode, now);
            if taken.is_err() {
                aside(&mut || {
                    for _ in 1..MOST_TRIES {
                        store.sweep_bans(|| {});
                        taken = store.ban(condition.clone(), *mode, now);
                        if taken.is_ok() {
                            return;
                        }
                    }
                });
            }
            taken?;
        }
    }
    let PurgeCount { purged, softened } = count;
    let reason = match admitted.request() {
        PurgeRequest::Url { .. } => "Purged".to_owned(),
        PurgeRequest::Ban { .. } | PurgeRequest::Tags { dialect: Dialect::Ban, .. } => "Banned".to_owned(),
        PurgeRequest::Tags { dialect: Dialect::Key, .. } => format!("Invalidated {softened} objects"),
        PurgeRequest::Tags { .. } => format!("Purged {purged} objects, expired {softened} objects"),
    };
    Ok(Outcome { status: 200, reason, purged, softened })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use clearcoat_cache::{
        CacheKey, Entry, EntryParts, KeySecret, Lifetime, Lookup, Settings as StoreSettings, Tag, VariantKey,
    };
    use http::{HeaderMap, HeaderName};

    use super::*;
    use crate::{Dialects, Guard, Reader, Settings};

    const NOW: Moment = Moment::from_millis(1000);

    /// Three pages: 1 with tags a and b, 2 with b and c, 3 without.
    fn store() -> Store {
        let settings = StoreSettings { memory_bytes: 8 << 20, max_variants: 4, max_marks: 0 };
        let store = Store::new(settings, KeySecret::new([0; 16]));
        for (number, tags) in [(1, "a b"), (2, "b c"), (3, "")] {
            let minute = Duration::from_secs(60);
            let entry = Entry::new(EntryParts {
                key: CacheKey::from_number(number),
                variant: VariantKey::NONE,
                url: "http://a/".into(),
                status: 200,
                head: Default::default(),
                body: Default::default(),
                tags: tags.split_whitespace().map(|tag| Tag::new(tag.as_bytes()).unwrap()).collect(),
                stored: NOW,
                lifetime: Lifetime { ttl: minute, grace: minute, ..Lifetime::default() },
            });
            store.commit(&store.begin_fill(), entry, None, NOW);
        }
        store
    }

    fn purge(store: &Store, method: &str, pairs: &[(&str, &str)], key: u128) -> Outcome {
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let reader = Reader::new(vec!["x-cache-tags".parse().unwrap()], Vec::new());
        let request = reader.read(Dialects::ALL, method, &headers, vec![CacheKey::from_number(key)]);
        let admitted = Guard::new(Settings::default()).admit(request, None, None).unwrap();
        apply(admitted, store, NOW, |rest| rest()).unwrap()
    }

    /// A letter per page: fresh, grace, or missing.
    fn pages(store: &Store) -> String {
        (1..=3)
            .map(|number| match store.lookup(CacheKey::from_number(number), &HeaderMap::new(), NOW) {
                Lookup::Fresh(_) => 'f',
                Lookup::Grace(_) => 'g',
                Lookup::Missing => 'm',
                Lookup::Stale(_) | Lookup::Uncacheable => '?',
            })
            .collect()
    }

    #[test]
    fn purge_removes_a_url() {
        let store = store();
        let outcome = purge(&store, "PURGE", &[], 1);
        assert_eq!(outcome, Outcome { status: 200, reason: "Purged".into(), purged: 1, softened: 0 });
        assert_eq!(pages(&store), "mff");
        assert_eq!(purge(&store, "PURGE", &[], 1).purged, 0);
    }

    #[test]
    fn purgekeys_removes_and_softens_by_tag() {
        check(&[("xkey-purge", "b")], "mmf", (2, 0));
        check(&[("xkey-purge", "a b c")], "mmf", (2, 0));
        check(&[("xkey-softpurge", "a")], "gff", (0, 1));
        check(&[("xkey-softpurge", "b"), ("xkey-purge", "a")], "mgf", (1, 1));
        check(&[("xkey-purge", "unknown")], "fff", (0, 0));
        check(&[("xkey-purge", "")], "fff", (0, 0));
    }

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: &str, (purged, softened): (u64, u64)) {
        let store = store();
        let outcome = purge(&store, "PURGEKEYS", headers, 9);
        let reason = format!("Purged {purged} objects, expired {softened} objects");
        assert_eq!(outcome, Outcome { status: 200, reason, purged, softened }, "{headers:?}");
        assert_eq!(pages(&store), expected, "{headers:?}");
    }
}
