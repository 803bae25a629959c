//! A password in front of a site (RFC 7617).
//!
//! Finding out whether one is good takes a core some hundredths of a second, on purpose. So it is done beside the requests, one at a time, and only so
//! many may wait for it; what came out is kept under a hash with a secret of the process, good ones and bad ones alike, and the next
//! request with the same credentials is let in or turned away at once.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use tokio::sync::Semaphore;

use super::{NetSet, Shut};
use crate::listen::head::Head;

/// Requests that may wait for their password to be looked at.
const WAITERS: usize = 64;

/// Credentials of which it is kept whether they are good, in each of two generations.
const KNOWN: usize = 4096;

/// The longest credentials that are looked at, in bytes.
const LONGEST: usize = 512;

/// Whose passwords let in, and what is known already.
#[derive(Debug)]
pub(crate) struct Passwords {
    realm: Box<str>,
    /// Hashes as crypt(5) has them, by name.
    users: BTreeMap<Box<str>, Box<str>>,
    /// Who needs none.
    except: NetSet,
    hashing: [RandomState; 2],
    known: Mutex<Known>,
    turn: Semaphore,
    waiting: AtomicUsize,
}

/// Which credentials are good, by their hash. When the younger generation is full it becomes the older one, which is forgotten.
#[derive(Debug, Default)]
struct Known {
    young: HashMap<u128, bool>,
    old: HashMap<u128, bool>,
}

/// Credentials that nothing is known of.
#[derive(Debug)]
pub(crate) struct Verification {
    passwords: Arc<Passwords>,
    name: String,
    password: Vec<u8>,
    number: u128,
}

/// One who waits.
struct Waiter<'p>(&'p AtomicUsize);

/// Whether a value of `Authorization` is of this scheme.
pub(super) fn is_basic(value: &[u8]) -> bool {
    let scheme = value.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"));
    scheme && value.get(5).is_none_or(u8::is_ascii_whitespace)
}

impl Passwords {
    pub(crate) fn new(realm: &str, users: BTreeMap<Box<str>, Box<str>>, except: NetSet) -> Self {
        Self {
            realm: realm.into(),
            users,
            except,
            hashing: [RandomState::new(), RandomState::new()],
            known: Mutex::default(),
            turn: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    /// Why a request does not come in, if it does not.
    pub(super) fn look<'p>(
        self: &'p Arc<Self>,
        head: &Head<'_, '_>,
        address: Option<IpAddr>,
    ) -> Option<Shut<'p>> {
        if self.except.contains(address) {
            return None;
        }
        let wanted = Some(Shut::Password(self));
        let mut values = head.values("authorization").filter(|value| is_basic(value));
        // Two of them could be one for us and one for those behind.
        let (Some(value), None) = (values.next(), values.next()) else { return wanted };
        let mut decoded = Vec::new();
        let encoded = value[5..].trim_ascii();
        if encoded.len() > LONGEST || STANDARD.decode_vec(encoded, &mut decoded).is_err() {
            return wanted;
        }
        let Some(colon) = memchr::memchr(b':', &decoded) else { return wanted };
        let number = self.number(&decoded);
        match self.known.lock().get(number) {
            Some(true) => None,
            Some(false) => wanted,
            None => {
                let Ok(name) = String::from_utf8(decoded[..colon].to_vec()) else { return wanted };
                let password = decoded[colon + 1..].to_vec();
                let passwords = self.clone();
                Some(Shut::Unverified(Box::new(Verification { passwords, name, password, number })))
            }
        }
    }

    /// Two hashes of the credentials: what is kept tells nobody what they are.
    fn number(&self, credentials: &[u8]) -> u128 {
        let [high, low] = self.hashing.each_ref().map(|hashing| u128::from(hashing.hash_one(credentials)));
        high << 64 | low
    }
}

impl Known {
    fn get(&mut self, number: u128) -> Option<bool> {
        if let Some(good) = self.young.get(&number) {
            return Some(*good);
        }
        let good = self.old.remove(&number)?;
        self.keep(number, good);
        Some(good)
    }

    fn keep(&mut self, number: u128, good: bool) {
        if self.young.len() >= KNOWN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(number, good);
    }
}

impl Verification {
    /// Finds out whether the credentials are good; from then on that is known. `false`: too many wait for it already.
    ///
    /// Whoever is not waited for any more is left out: between the wait and the work nothing is spent on those who have gone.
    pub(crate) async fn settle(self) -> bool {
        let Self { passwords, name, password, number } = self;
        let Some(_waiter) = Waiter::new(&passwords.waiting) else { return false };
        let Ok(turn) = passwords.turn.acquire().await else { return false };
        if passwords.known.lock().get(number).is_some() {
            // Another request with the same ones was first.
            return true;
        }
        // A name that nobody has takes as long as one that somebody has.
        let hash = passwords.users.get(name.as_str()).or_else(|| passwords.users.values().next()).cloned();
        let exists = passwords.users.contains_key(name.as_str());
        let verified = tokio::task::spawn_blocking(move || hash.is_some_and(|hash| verify(&password, &hash)));
        let good = verified.await.unwrap_or(false) && exists;
        passwords.known.lock().keep(number, good);
        drop(turn);
        if !good {
            tracing::info!(user = ?name, realm = %passwords.realm, "a password was wrong");
        }
        true
    }
}

impl<'p> Waiter<'p> {
    fn new(waiting: &'p AtomicUsize) -> Option<Self> {
        let waiter = (waiting.fetch_add(1, Ordering::Relaxed) < WAITERS, Self(waiting));
        waiter.0.then_some(waiter.1)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a password is the one of this hash. Takes as long as the hash says.
fn verify(password: &[u8], hash: &str) -> bool {
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    ShaCrypt::default().verify_password(password, hash).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};

    /// All of `x`, by PHP, OpenSSL and crypt(3).
    const HASHES: [&str; 4] = [
        "$2y$04$pfSUULK02hQdnX67Wp9BR.qpRXo8ZGjlmwNoBYxis0GMGRGytm2Se",
        "$5$salt$eC8iHMk0B/acxRGi4idWiCK/.xXHLUsxovn4V591t3.",
        "$6$salt$wZU8LXJfJJqoagopbB7RuK6JEotEMZ0CQDy0phpPAuLMYQFcmf6L6BdAbs/Q7w7o1qsZ9pFqFVY4yuUSWgaYt1",
        "$6$rounds=1000$salt$dp.sf6xrDVOi6TLP3zDbIJaA6gs0VgRbHlpmjjxGZKgmGeTPVWC8FNtkny4LZetNMVSTwdL6c/OB/cDBZl76V0",
    ];

    /// What is made of an `Authorization` line: let in, wanted, or to be looked at, with the name.
    fn look(passwords: &Arc<Passwords>, line: &str) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n");
        let limits = HeadLimits { bytes: 1 << 16, count: 64, url_bytes: 1000 };
        let mut lines = lines();
        let Parsed::Complete(head) = parse(text.as_bytes(), &mut lines, &limits) else {
            return "none".into();
        };
        match passwords.look(&head, None) {
            None => "in".into(),
            Some(Shut::Unverified(verification)) => format!("? {}", verification.name),
            Some(_) => "wanted".into(),
        }
    }

    fn of_anna(hash: &str) -> Arc<Passwords> {
        Arc::new(Passwords::new("a", [("anna".into(), hash.into())].into(), NetSet::default()))
    }

    #[test]
    fn hashes_of_others_are_understood() {
        for hash in HASHES {
            assert!(verify(b"x", hash), "{hash}");
            for wrong in [&b"y"[..], b"", b"xx", b"x\0"] {
                assert!(!verify(wrong, hash), "{hash}: {wrong:?}");
            }
        }
        assert!(!verify(b"x", "") && !verify(b"x", "x") && !verify(b"x", "$2y$04$short"));
    }

    #[tokio::test]
    async fn what_was_found_out_is_known() {
        let passwords = of_anna(HASHES[0]);
        for (line, before, after) in [
            // anna:x, anna:y, bert:x
            ("Authorization: Basic YW5uYTp4\r\n", "? anna", "in"),
            ("Authorization: Basic YW5uYTp5\r\n", "? anna", "wanted"),
            ("Authorization: BASIC   YmVydDp4\r\n", "? bert", "wanted"),
            ("Authorization: Basic YW5uYQ==\r\n", "wanted", "wanted"),
            ("", "wanted", "wanted"),
        ] {
            assert_eq!(look(&passwords, line), before, "{line}");
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n");
            let limits = HeadLimits { bytes: 1 << 16, count: 64, url_bytes: 1000 };
            let mut lines = lines();
            let Parsed::Complete(head) = parse(text.as_bytes(), &mut lines, &limits) else {
                panic!("{line}")
            };
            if let Some(Shut::Unverified(verification)) = passwords.look(&head, None) {
                assert!(verification.settle().await);
            }
            assert_eq!(look(&passwords, line), after, "{line}");
        }
        assert_eq!(passwords.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_so_many_are_known() {
        let mut known = Known::default();
        for number in 0..100_000 {
            known.keep(number, true);
            assert_eq!(known.get(0).is_some(), known.young.contains_key(&0), "what is asked for stays");
        }
        assert!(known.young.len() <= KNOWN && known.old.len() <= KNOWN);
        assert_eq!(known.get(0), Some(true));
        assert_eq!(known.get(50_000), None);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_a_password_or_none(value in "[ -~]{0,80}") {
            let told = look(&of_anna(HASHES[0]), &format!("Authorization: {value}\r\n"));
            prop_assert!(told != "in" && (told.starts_with('?') || told == "wanted"), "{}", told);
        }
    }
}
