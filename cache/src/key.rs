//! Under which number a response is kept: a keyed 128-bit hash of scheme, host, path and query.
//!
//! The hash is SipHash-1-3 under a secret that is drawn anew by every process, so nobody outside can prepare
//! two URLs that meet. A key is therefore never compared with the URL it stands for. Keys mean nothing to
//! another process and are not written anywhere.
//!
//! The parts are length-prefixed: `host = "a", path = "/b"` and `host = "a/b", path = ""` are different keys
//! (the class of mistake behind CVE-2026-2836). What the parts *are* — a sorted query, a cleaned path — is the
//! route's business; only the host is made canonical here, because every caller needs exactly that.

use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip128::{Hasher128, SipHasher13};

/// What a hash is for, so that equal bytes in different roles never give equal numbers.
#[derive(Clone, Copy)]
enum Role {
    Resource = 1,
    Variant = 2,
    Identity = 3,
}

/// The scheme of a URL that is cached. The same path over `http` and `https` is two resources.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scheme {
    /// Port 80 by default.
    Http,
    /// Port 443 by default.
    Https,
}

impl Scheme {
    /// As written in a URL, without the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that may be left out of a URL.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Names a resource: every variant of one URL shares it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CacheKey(u128);

impl CacheKey {
    /// A key from a number, for tests and tools; keys of real URLs come from [`KeySecret::key`].
    pub const fn from_number(number: u128) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn number(self) -> u128 {
        self.0
    }
}

/// Names one variant of a resource: a keyed hash of the header values its `Vary` selects by.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VariantKey(u128);

impl VariantKey {
    /// The only variant of a resource without `Vary`.
    pub const NONE: Self = Self(0);

    /// The number itself; zero only for [`VariantKey::NONE`].
    pub const fn number(self) -> u128 {
        self.0
    }
}

/// The secret of this process under which keys are made.
#[derive(Clone)]
pub struct KeySecret {
    first: u64,
    second: u64,
}

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySecret(..)")
    }
}

impl KeySecret {
    /// Takes 16 random bytes; whoever starts the process draws them.
    pub fn new(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        Self { first: number as u64, second: (number >> 64) as u64 }
    }

    /// The key of a URL; `target` is its path with the query, in origin-form (`/a?b=c`).
    ///
    /// `host` is what `Host` or `:authority` said: it is lower-cased, and one trailing dot and the scheme's
    /// default port are dropped (RFC 9110 §4.2.3). Nothing is allocated.
    pub fn key(&self, scheme: Scheme, host: &[u8], target: &[u8]) -> CacheKey {
        self.key_with(scheme, host, target, None)
    }

    /// The same with the query apart and without its `?`: `key_with(s, h, b"/a", Some(b"b"))` is
    /// `key(s, h, b"/a?b")`.
    pub fn key_with(&self, scheme: Scheme, host: &[u8], path: &[u8], query: Option<&[u8]>) -> CacheKey {
        let mut hash = self.hash(Role::Resource);
        hash.write_u8(scheme as u8);
        let (name, port) = canonical_host(scheme, host);
        write_lower_case(&mut hash, name);
        hash.write_u32(port.len() as u32);
        hash.write(port);
        hash.write(path);
        if let Some(query) = query {
            hash.write(b"?");
            hash.write(query);
        }
        CacheKey(number(&hash))
    }

    /// The key of what a URL gives to one visitor, where each gets something else: `identity` writes down who that is, part
    /// by part, each with a number for its kind. Never the key of the URL itself, whatever is written. Nothing is
    /// allocated.
    pub fn key_for(
        &self,
        scheme: Scheme,
        host: &[u8],
        target: &[u8],
        identity: impl FnOnce(&mut dyn FnMut(u8, &[u8])),
    ) -> CacheKey {
        let mut hash = self.hash(Role::Identity);
        hash.write_u8(scheme as u8);
        let (name, port) = canonical_host(scheme, host);
        write_lower_case(&mut hash, name);
        for part in [port, target] {
            hash.write_u32(part.len() as u32);
            hash.write(part);
        }
        identity(&mut |kind, part| {
            hash.write_u8(kind);
            hash.write_u32(part.len() as u32);
            hash.write(part);
        });
        CacheKey(number(&hash))
    }

    /// Hashes what `fill` writes into a variant; never [`VariantKey::NONE`].
    pub(crate) fn variant(&self, fill: impl FnOnce(&mut SipHasher13)) -> VariantKey {
        let mut hash = self.hash(Role::Variant);
        fill(&mut hash);
        VariantKey(number(&hash).max(1))
    }

    fn hash(&self, role: Role) -> SipHasher13 {
        let mut hash = SipHasher13::new_with_keys(self.first, self.second);
        hash.write_u8(role as u8);
        hash
    }
}

fn number(hash: &SipHasher13) -> u128 {
    hash.finish128().as_u128()
}

/// Splits `host` into name and port, without the trailing dot and without a port that says nothing. The case stays.
///
/// Hosts that differ in no more than this, and in case, share their keys. So whoever asks an origin on behalf of all of
/// them has to name it so, or one visitor's spelling ends up in everybody's links.
pub fn canonical_host(scheme: Scheme, host: &[u8]) -> (&[u8], &[u8]) {
    // From the end, and no further than the bracket of an IPv6 literal, whose colons are not a port's.
    let colon = host.iter().rposition(|&byte| byte == b':' || byte == b']').filter(|&at| host[at] == b':');
    let (name, port) = match colon {
        Some(colon) => (&host[..colon], &host[colon + 1..]),
        None => (host, &host[..0]),
    };
    let zeros = port.iter().take_while(|&&byte| byte == b'0').count();
    let port = &port[zeros..];
    let is_default = match scheme {
        Scheme::Http => port == b"80",
        Scheme::Https => port == b"443",
    };
    (name.strip_suffix(b".").unwrap_or(name), if is_default { &port[..0] } else { port })
}

/// Hashes `text` in lower case, with its length in front, through a small buffer on the stack.
fn write_lower_case(hash: &mut SipHasher13, text: &[u8]) {
    hash.write_u32(text.len() as u32);
    for piece in text.chunks(64) {
        let mut buffer = [0; 64];
        let lower = &mut buffer[..piece.len()];
        lower.copy_from_slice(piece);
        lower.make_ascii_lowercase();
        hash.write(lower);
    }
}

/// For maps whose keys are already hashes: takes the low half of the number as it is.
#[derive(Clone, Default)]
pub(crate) struct IdentityHasher(u64);

pub(crate) type BuildIdentity = BuildHasherDefault<IdentityHasher>;

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    // Not used by 128-bit keys; right, if slow, for anything else.
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> KeySecret {
        KeySecret::new(*b"sixteen  octets!")
    }

    fn key(scheme: Scheme, host: &str, target: &str) -> CacheKey {
        secret().key(scheme, host.as_bytes(), target.as_bytes())
    }

    #[test]
    fn spellings_of_one_host_are_one_key() {
        let plain = key(Scheme::Http, "example.com", "/a");
        for host in [
            "EXAMPLE.com",
            "example.com.",
            "example.com:80",
            "Example.Com.:80",
            "example.com:",
            "example.com:080",
        ] {
            assert_eq!(key(Scheme::Http, host, "/a"), plain, "host: {host}");
        }
        assert_eq!(key(Scheme::Https, "a:443", "/"), key(Scheme::Https, "a", "/"));
        assert_eq!(key(Scheme::Http, "[::1]:80", "/"), key(Scheme::Http, "[::1]", "/"));
    }

    #[test]
    fn different_resources_are_different_keys() {
        let all = [
            key(Scheme::Http, "a", "/b"),
            key(Scheme::Https, "a", "/b"),
            key(Scheme::Http, "a/b", ""),
            key(Scheme::Http, "a/", "b"),
            key(Scheme::Http, "", "a/b"),
            key(Scheme::Http, "a", "/B"),
            key(Scheme::Http, "a:8080", "/b"),
            key(Scheme::Http, "a:443", "/b"),
            key(Scheme::Https, "a:80", "/b"),
            key(Scheme::Http, "a..", "/b"),
            key(Scheme::Http, "a", "/b?"),
            key(Scheme::Http, "a", "/b?c"),
            key(Scheme::Http, "[::1]", "/b"),
            key(Scheme::Http, "[::2]", "/b"),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn what_visitors_get_each_for_themselves_has_a_key_for_each() {
        let key = |host: &str, parts: &[(u8, &str)]| {
            secret().key_for(Scheme::Http, host.as_bytes(), b"/me", |write| {
                parts.iter().for_each(|(kind, part)| write(*kind, part.as_bytes()));
            })
        };
        let all = [
            secret().key(Scheme::Http, b"a", b"/me"),
            key("a", &[]),
            key("b", &[]),
            key("a", &[(1, "")]),
            key("a", &[(1, "x")]),
            key("a", &[(2, "x")]),
            key("a", &[(1, "x"), (1, "y")]),
            key("a", &[(1, "xy")]),
            key("a", &[(1, "x"), (2, "y")]),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(key("A:80", &[(1, "x")]), key("a", &[(1, "x")]));
    }

    #[test]
    fn the_query_may_come_apart_or_with_the_path() {
        let apart = secret().key_with(Scheme::Http, b"a", b"/b", Some(b"c=d"));
        assert_eq!(apart, key(Scheme::Http, "a", "/b?c=d"));
        assert_ne!(secret().key_with(Scheme::Http, b"a", b"/b", Some(b"")), key(Scheme::Http, "a", "/b"));
    }

    #[test]
    fn hosts_of_any_length_are_lower_cased() {
        for length in [1, 63, 64, 65, 128, 255, 256, 3000] {
            let (upper, lower) = ("X".repeat(length), "x".repeat(length));
            assert_eq!(key(Scheme::Http, &upper, "/"), key(Scheme::Http, &lower, "/"), "length: {length}");
            assert_ne!(key(Scheme::Http, &lower, "/"), key(Scheme::Http, &"x".repeat(length + 1), "/"));
        }
    }

    #[test]
    fn another_secret_gives_other_keys() {
        let other = KeySecret::new(*b"sixteen  octets?");
        assert_ne!(other.key(Scheme::Http, b"a", b"/"), key(Scheme::Http, "a", "/"));
        assert_eq!(format!("{other:?}"), "KeySecret(..)");
    }
}
