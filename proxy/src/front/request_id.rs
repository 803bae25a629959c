//! What stands for a request in every log: ours, the balancer's before us, the application's behind us.
//!
//! A proxy that is trusted may have given the request an id already; that one goes on. All others get one of 128 bits that is
//! made of the number of their connection and their own on it, under a key of the process: the same wherever it is asked for,
//! told apart from those of all other edges, and guessed by nobody. So nothing is made, kept or carried along before it is
//! written somewhere.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use ring::rand::{SecureRandom as _, SystemRandom};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::visitor::Visitor;

/// Bytes of an id that a proxy gave, at most.
const MOST_BYTES: usize = 128;

/// Bytes of one of ours.
pub(crate) const OWN_BYTES: usize = 32;

/// Keeps ids of one process apart from those of others, and from guesses.
static KEY: LazyLock<[u8; 16]> = LazyLock::new(|| {
    let mut key = [0; 16];
    if SystemRandom::new().fill(&mut key).is_err() {
        // Ids are no secrets; that they differ is what matters.
        fastrand::fill(&mut key);
    }
    key
});

/// The number that the next connection gets.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Which request of this process it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RequestNumber {
    /// Zero for what came over no connection of a visitor's.
    connection: u64,
    request: u32,
}

impl RequestNumber {
    /// Of no connection.
    pub(crate) const NONE: Self = Self { connection: 0, request: 0 };

    /// Of the first request of a new connection.
    pub(crate) fn of_connection() -> Self {
        Self { connection: NEXT_CONNECTION.fetch_add(1, Relaxed), request: 0 }
    }

    /// Of the request that so many came before on the same connection.
    pub(crate) const fn after(self, requests: u32) -> Self {
        Self { request: requests, ..self }
    }

    /// The id: 32 hexadecimal digits.
    pub(crate) fn text(self) -> [u8; OWN_BYTES] {
        let mut hasher = SipHasher13::new_with_key(&KEY);
        std::hash::Hasher::write_u64(&mut hasher, self.connection);
        std::hash::Hasher::write_u32(&mut hasher, self.request);
        let mut id = hasher.finish128().as_u128();
        let mut text = [0; OWN_BYTES];
        for digit in text.iter_mut().rev() {
            *digit = b"0123456789abcdef"[(id & 15) as usize];
            id >>= 4;
        }
        text
    }
}

/// What stands for a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum RequestId<'a> {
    /// Nothing: nobody said anything, and ids are off.
    #[default]
    None,
    /// What was said, and is believed.
    Said(&'a [u8]),
    /// Its own.
    Own(RequestNumber),
}

impl RequestId<'_> {
    /// Its bytes.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Said(said) => said.len(),
            Self::Own(_) => OWN_BYTES,
        }
    }

    /// Shows it to somebody.
    pub(crate) fn with<T>(self, show: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::None => show(b""),
            Self::Said(said) => show(said),
            Self::Own(number) => show(&number.text()),
        }
    }
}

/// How requests get their ids.
#[derive(Clone, Debug)]
pub(crate) struct RequestIds {
    /// Where an id is said.
    pub(crate) header: HeaderName,
    /// Whether there are any. If not, what clients say goes on as any header, and stands in the log.
    pub(crate) enabled: bool,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { header: HeaderName::from_static("x-request-id"), enabled: true }
    }
}

impl RequestIds {
    /// The id of a visitor's request, of whose lines these have the name.
    pub(crate) fn of<'a>(&self, visitor: Visitor, said: impl IntoIterator<Item = &'a [u8]>) -> RequestId<'a> {
        let mut said = said.into_iter();
        match (said.next(), said.next()) {
            (said, _) if !self.enabled => said.map_or(RequestId::None, RequestId::Said),
            // Two are no id.
            (Some(said), None) if visitor.vouches && is_usable(said) => RequestId::Said(said),
            (_, _) => RequestId::Own(visitor.number),
        }
    }

    /// The id of the request with these lines, as a node is told it; `None` where its lines go on as they are.
    pub(crate) fn told(&self, visitor: Visitor, headers: &HeaderMap) -> Option<HeaderValue> {
        if !self.enabled {
            return None;
        }
        let said = headers.get_all(&self.header).iter().map(HeaderValue::as_bytes);
        // Both kinds are printable.
        self.of(visitor, said).with(|id| HeaderValue::from_bytes(id).ok())
    }
}

/// Whether an id is one that every log and every application can take: short, and nothing that could mean something else.
fn is_usable(said: &[u8]) -> bool {
    (1..=MOST_BYTES).contains(&said.len())
        && said.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clearcoat_cache::Scheme;

    use super::*;

    fn shown(ids: &RequestIds, vouches: bool, said: &[&str]) -> String {
        let number = RequestNumber::of_connection();
        let visitor = Visitor { vouches, number, ..Visitor::unknown(Scheme::Http) };
        let id = ids.of(visitor, said.iter().map(|said| said.as_bytes()));
        let text = id.with(|id| String::from_utf8_lossy(id).into_owned());
        assert_eq!(text.len(), id.len());
        if text == String::from_utf8_lossy(&number.text()) { "own".to_owned() } else { text }
    }

    #[test]
    fn only_a_trusted_proxy_gives_ids() {
        let on = RequestIds::default();
        let long = "x".repeat(MOST_BYTES);
        let too_long = "x".repeat(MOST_BYTES + 1);
        for (vouches, said, expected) in [
            (true, &["7f-1"][..], "7f-1"),
            (true, &[long.as_str()], long.as_str()),
            (true, &[too_long.as_str()], "own"),
            (true, &[""], "own"),
            (true, &["a b"], "own"),
            (true, &["a\"b"], "own"),
            (true, &["a", "b"], "own"),
            (true, &[], "own"),
            (false, &["7f-1"], "own"),
            (false, &[], "own"),
        ] {
            assert_eq!(shown(&on, vouches, said), expected, "{said:?}");
        }
        let off = RequestIds { enabled: false, ..RequestIds::default() };
        assert_eq!(shown(&off, false, &["a b", "c"]), "a b");
        assert_eq!(shown(&off, false, &[]), "");
    }

    #[test]
    fn ids_are_told_apart_and_stay_the_same() {
        let mut seen = HashSet::new();
        for _ in 0..100 {
            let connection = RequestNumber::of_connection();
            for requests in 0..100 {
                let number = connection.after(requests);
                assert_eq!(number.text(), number.text());
                assert!(number.text().iter().all(u8::is_ascii_hexdigit));
                assert!(seen.insert(number.text()));
            }
        }
    }
}
