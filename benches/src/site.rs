//! A made-up site: pages with heads, bodies and tags like those of a content management system, by number.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::{
    CacheKey, Commit, Entry, EntryParts, KeySecret, Lifetime, Moment, Scheme, Settings, Store, Tag,
    VariantKey, VarySpec,
};

/// The moment at which everything happens: pages are stored then, looked up then and purged then.
pub const NOW: Moment = Moment::from_millis(60_000);

/// The site's host.
pub const HOST: &str = "www.example.com";

const WORDS: [&str; 16] = [
    "about", "archive", "article", "autumn", "city", "contact", "events", "garden", "history", "library",
    "market", "news", "product", "river", "summer", "travel",
];

/// The pages of a site. They stand nowhere: each is made when it is asked for.
#[derive(Clone, Debug)]
pub struct Site {
    /// Decides words, and the sizes of bodies.
    pub seed: u64,
    /// Bytes of a body, the end included. Sizes are spread evenly over the magnitudes in between: as many from 1 to
    /// 2 KiB as from 2 to 4 KiB.
    pub body_bytes: (usize, usize),
    /// Tags of a page. The first is its own, the second that of its folder (50 pages), the third that of its kind
    /// (20 kinds), the rest are those of what it shows (shared by 100 pages each).
    pub tags: usize,
}

impl Site {
    /// A site whose bodies have `body_bytes` each.
    pub const fn new(body_bytes: usize, tags: usize) -> Self {
        Self { seed: 1, body_bytes: (body_bytes, body_bytes), tags }
    }

    /// Path of a page, about 40 bytes.
    pub fn target(&self, page: u64) -> String {
        let mut random = self.random(page);
        let mut word = || WORDS[random.usize(..WORDS.len())];
        format!("/{}/{}/{}-{}-{page}", word(), word(), word(), word())
    }

    /// Key of a page.
    pub fn key(&self, secret: &KeySecret, page: u64) -> CacheKey {
        secret.key(Scheme::Https, HOST.as_bytes(), self.target(page).as_bytes())
    }

    /// Tags of a page.
    pub fn tags(&self, page: u64) -> Box<[Tag]> {
        (0..self.tags as u64).map(|number| self.tag(page, number)).collect()
    }

    fn tag(&self, page: u64, number: u64) -> Tag {
        tag(&match number {
            0 => format!("c{page}"),
            1 => format!("l{}", page / 50),
            2 => format!("ct{}", page % 20),
            _ => format!("r{}", (page / 100) * self.tags as u64 + number),
        })
    }

    /// What a page's entry is made of: fresh for a day from [`NOW`], without variants.
    pub fn parts(&self, secret: &KeySecret, page: u64) -> EntryParts {
        let target = self.target(page);
        let tags = self.tags(page);
        let body_bytes = self.body_bytes_of(page);
        EntryParts {
            key: secret.key(Scheme::Https, HOST.as_bytes(), target.as_bytes()),
            variant: VariantKey::NONE,
            url: format!("https://{HOST}{target}").into(),
            status: 200,
            head: head(body_bytes, page),
            // Not zeros: the system would not give memory for them.
            body: Bytes::from(vec![b'a' + (page % 26) as u8; body_bytes]),
            tags,
            stored: NOW,
            lifetime: Lifetime { ttl: Duration::from_secs(86_400), ..Lifetime::default() },
        }
    }

    /// A page's entry.
    pub fn entry(&self, secret: &KeySecret, page: u64) -> Entry {
        Entry::new(self.parts(secret, page))
    }

    /// Stores pages one after the other.
    pub fn fill(&self, store: &Store, pages: Range<u64>) {
        for page in pages {
            put(store, self.entry(store.secret(), page), None);
        }
    }

    fn body_bytes_of(&self, page: u64) -> usize {
        let (least, most) = self.body_bytes;
        if least >= most {
            return least;
        }
        let magnitudes = (most as f64 / least.max(1) as f64).ln();
        let bytes = least.max(1) as f64 * (self.random(!page).f64() * magnitudes).exp();
        (bytes as usize).clamp(least, most)
    }

    fn random(&self, page: u64) -> fastrand::Rng {
        // The generator steps by adding, so neighbouring seeds would give neighbouring sequences.
        fastrand::Rng::with_seed((self.seed ^ page).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// A store with a fixed secret and room for `memory_bytes`.
pub fn store(memory_bytes: u64) -> Store {
    Store::new(
        Settings { memory_bytes, max_variants: 64, max_marks: 8192 },
        KeySecret::new(*b"not that secret!"),
    )
}

/// Stores an entry, as a fetch does.
pub fn put(store: &Store, entry: Entry, vary: Option<VarySpec>) -> Commit {
    store.commit(&store.begin_fill(), entry, vary, NOW)
}

/// A tag.
///
/// # Panics
///
/// If `text` is none: the benches choose their tags themselves.
pub fn tag(text: &str) -> Tag {
    Tag::new(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// Status line and header lines as they are kept, about 250 bytes.
fn head(body_bytes: usize, page: u64) -> Bytes {
    format!(
        "HTTP/1.1 200 OK\r\n\
         Server: nginx\r\n\
         Content-Type: text/html; charset=UTF-8\r\n\
         Cache-Control: public, s-maxage=86400\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Last-Modified: Sat, 05 Nov 1994 12:00:00 GMT\r\n\
         ETag: \"{page:016x}\"\r\n\
         Content-Language: en-GB\r\n\
         Content-Length: {body_bytes}\r\n"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_said() {
        let site = Site::new(1024, 5);
        let secret = KeySecret::new([1; 16]);
        let parts = site.parts(&secret, 12_345);
        assert_eq!(parts.body.len(), 1024);
        assert!((230..270).contains(&parts.head.len()), "{}", parts.head.len());
        assert_eq!(parts.key, site.key(&secret, 12_345));
        assert_eq!(*parts.tags, ["c12345", "l246", "ct5", "r618", "r619"].map(tag));
        assert!((25..60).contains(&site.target(1).len()), "{}", site.target(1));
        assert_ne!(site.target(1), site.target(2));
    }

    #[test]
    fn sizes_are_spread_over_the_magnitudes() {
        let site = Site { body_bytes: (1 << 10, 1 << 14), ..Site::new(0, 0) };
        let sizes: Vec<_> = (0..10_000).map(|page| site.body_bytes_of(page)).collect();
        for magnitude in 10..14 {
            let count = sizes.iter().filter(|bytes| bytes.ilog2() == magnitude).count();
            assert!((2_300..2_700).contains(&count), "{count} at 2^{magnitude}");
        }
    }

    #[test]
    fn filling_stores_every_page() {
        let (site, store) = (Site::new(100, 3), store(16 << 20));
        site.fill(&store, 0..200);
        store.settle(NOW);
        assert_eq!(store.stats().entries, 200);
        assert_eq!(store.count_tagged(&tag("l1")), 50);
        assert_eq!(store.count_tagged(&tag("ct19")), 10);
    }
}
