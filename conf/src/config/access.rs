//! Who may come to a site or route: networks, passwords, rates, maintenance.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::listen::Peer;
use super::name::CookieName;
use super::normalise::HeaderText;
use super::pattern::{HeaderName, PathPattern, is_token};
use super::text::{equal_if_written_alike, shown_as_text};
use crate::error::Invalid;
use crate::units;

/// Which addresses may come (nginx's `allow` and `deny`, but `deny` always wins).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Access {
    /// Nobody else may. `None`, the default: everybody may.
    pub allow: Option<Vec<Peer>>,
    /// These may not. Default: nobody.
    pub deny: Vec<Peer>,
}

/// A password in front (RFC 7617).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BasicAuth {
    /// What browsers show. Default `restricted`.
    pub realm: HeaderText,
    /// By name; at least one.
    pub users: BTreeMap<String, PasswordHash>,
    /// Who needs none. Default: nobody.
    pub except: Vec<Peer>,
}

/// What is kept of a password: bcrypt (`$2a$`, `$2b$`, `$2y$`) or SHA-crypt (`$5$`, `$6$`). `Debug` hides it.
#[derive(Clone, Eq, PartialEq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// As crypt(5) has it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PasswordHash(hidden)")
    }
}

impl FromStr for PasswordHash {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        /// 2^14 rounds take a second; whoever guesses must not make us take longer.
        const MOST_COST: u32 = 14;
        const MOST_ROUNDS: u32 = 1_000_000;
        const HINT: &str = "write what htpasswd -nB NAME prints, or a $5$ or $6$ hash of mkpasswd";
        // The text is not repeated: messages end up in logs.
        let invalid = |problem: &'static str| Invalid::new(problem, HINT);
        let is_base64 =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'));
        let mut parts = text.split('$');
        let (Some(""), Some(kind)) = (parts.next(), parts.next()) else {
            return Err(invalid("this is not a password's hash"));
        };
        let rest: Vec<&str> = parts.collect();
        match (kind, &rest[..]) {
            ("2a" | "2b" | "2y", [cost, hash]) if hash.len() == 53 && is_base64(hash) => {
                let cost = cost.parse::<u32>().ok().filter(|_| cost.len() == 2);
                match cost.ok_or_else(|| invalid("this is not a hash of bcrypt"))? {
                    4..=MOST_COST => Ok(Self(text.to_owned())),
                    _ => Err(invalid("the cost of this hash is not from 4 to 14")),
                }
            }
            ("5" | "6", [rounds, salt, hash]) if rounds.starts_with("rounds=") => {
                let rounds = rounds.trim_start_matches("rounds=").parse::<u32>();
                let in_bounds = rounds.is_ok_and(|rounds| (1_000..=MOST_ROUNDS).contains(&rounds));
                if !in_bounds {
                    return Err(invalid("the rounds of this hash are not from 1000 to 1000000"));
                }
                Self::sha_crypt(text, kind, salt, hash, is_base64).ok_or_else(|| invalid("this hash is cut"))
            }
            ("5" | "6", [salt, hash]) => {
                Self::sha_crypt(text, kind, salt, hash, is_base64).ok_or_else(|| invalid("this hash is cut"))
            }
            ("apr1" | "1", _) => Err(invalid("MD5 is too weak for passwords")),
            _ => Err(invalid("this kind of hash is not known here")),
        }
    }
}

impl PasswordHash {
    fn sha_crypt(
        text: &str,
        kind: &str,
        salt: &str,
        hash: &str,
        is_base64: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let length = if kind == "5" { 43 } else { 86 };
        let fits = salt.len() <= 16 && is_base64(salt) && hash.len() == length && is_base64(hash);
        fits.then(|| Self(text.to_owned()))
    }
}

/// How often somebody may ask (a token bucket; Varnish's vsthrottle, nginx's `limit_req`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RateLimit {
    /// A word for the log.
    pub name: HeaderText,
    /// For which paths; empty, the default: all.
    pub paths: Vec<PathPattern>,
    /// For which methods; empty, the default: all.
    pub methods: Vec<Method>,
    /// Whose requests are counted together. Default [`RateKey::Client`].
    pub by: RateKey,
    /// How many in which time.
    pub rate: Rate,
    /// How many at once. Default: as many as the rate has.
    pub burst: NonZeroU32,
    /// Whose requests are not counted. Default: nobody's.
    pub except: Vec<Peer>,
}

/// Whose requests are counted together. Where a header or cookie is missing, the client's are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum RateKey {
    /// The client's address; of IPv6 the first 64 bits, which is what one customer has.
    #[default]
    Client,
    /// The path, whoever asks.
    Path,
    /// The value of a request header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(CookieName),
}

impl FromStr for RateKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match (text, text.split_once(':')) {
            ("client", _) => Ok(Self::Client),
            ("path", _) => Ok(Self::Path),
            (_, Some(("header", name))) => name.parse().map(Self::Header),
            (_, Some(("cookie", name))) => name.parse().map(Self::Cookie),
            _ => Err(Invalid::new(
                format!("{text:?} is nothing to count by"),
                "write client, path, header:NAME or cookie:NAME",
            )),
        }
    }
}

impl fmt::Display for RateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => out.write_str("client"),
            Self::Path => out.write_str("path"),
            Self::Header(name) => write!(out, "header:{name}"),
            Self::Cookie(name) => write!(out, "cookie:{}", name.as_str()),
        }
    }
}

/// A number in a time, both more than zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which time, at most a day.
    pub per: Duration,
}

impl FromStr for Rate {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        /// What is counted over a longer time is no rate.
        const LONGEST: Duration = Duration::from_secs(86_400);
        let invalid = || {
            Invalid::new(
                format!("{text:?} is not a rate"),
                "write requests per time, such as 10/s, 600/m or 5/10s; at most a million, and at most a day",
            )
        };
        let (count, per) = text.split_once('/').ok_or_else(invalid)?;
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse().ok().filter(|_| digits).and_then(NonZeroU32::new).ok_or_else(invalid)?;
        let per = match per.bytes().next() {
            Some(first) if first.is_ascii_digit() => units::duration(per),
            _ => units::duration(&format!("1{per}")),
        };
        let per = per.map_err(|_| invalid())?;
        if per.is_zero() || per > LONGEST || count.get() > 1_000_000 {
            return Err(invalid());
        }
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.count, units::show_duration(self.per))
    }
}

/// A method of a request (RFC 9110 §9.1). Case counts.
#[derive(Clone, Debug)]
pub struct Method(String);

impl Method {
    /// As requests say it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if is_token(text) && !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(format!("{text:?} is not a method"), "write it as in requests, such as POST"))
    }
}

equal_if_written_alike!(Method);
shown_as_text!(Method);

/// A page in place of the site.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Maintenance {
    /// As long as it exists. `None`, the default: always.
    pub flag: Option<PathBuf>,
    /// The page. `None`, the default: a line of text.
    pub page: Option<PathBuf>,
    /// What visitors are told of when to come again. Default 5 min.
    pub retry_after: Duration,
    /// Who sees the site all the same. Default: nobody.
    pub except: Vec<Peer>,
}

/// What browsers are told of https (RFC 6797). Only what comes by https says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hsts {
    /// How long. Default a year.
    pub max_age: Duration,
    /// For all hosts below too. Default false.
    pub subdomains: bool,
    /// Browsers may have it built in. Default false.
    pub preload: bool,
}

impl fmt::Display for Hsts {
    /// The value of the header.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "max-age={}", self.max_age.as_secs())?;
        if self.subdomains {
            out.write_str("; includeSubDomains")?;
        }
        if self.preload {
            out.write_str("; preload")?;
        }
        Ok(())
    }
}

/// What a response header is set to: visible ASCII characters, with spaces only between them, at most 4 KiB.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderValue(String);

impl HeaderValue {
    /// The value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderValue {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        /// Content-Security-Policy is the longest that is written by hand.
        const LONGEST: usize = 4096;
        let fits = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !fits || text.is_empty() || text.trim() != text || text.len() > LONGEST {
            return Err(Invalid::new(
                "this is not the value of a header",
                "use letters, digits and punctuation of ASCII on one line, at most 4 KiB",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

shown_as_text!(HeaderValue);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, expected) in [
            ("10/s", Some("10/1s")),
            ("600/m", Some("600/1m")),
            ("5/10s", Some("5/10s")),
            ("1/d", Some("1/1d")),
            ("1000000/1h30m", Some("1000000/1h30m")),
            ("0/s", None),
            ("1000001/s", None),
            ("1/0s", None),
            ("1/2d", None),
            ("+1/s", None),
            ("1/", None),
            ("/s", None),
            ("10", None),
            ("1/week", None),
        ] {
            let rate = text.parse::<Rate>().ok().map(|rate| rate.to_string());
            assert_eq!(rate.as_deref(), expected, "input: {text:?}");
        }
    }

    #[test]
    fn hashes_of_passwords_are_told_from_others() {
        let bcrypt = format!("$2y$10${}", "a".repeat(53));
        let sha512 = format!("$6$salt${}", "a".repeat(86));
        for (text, is_good) in [
            (bcrypt.as_str(), true),
            (&bcrypt.replace("2y", "2b"), true),
            (&bcrypt.replace("$10$", "$31$"), false),
            (&bcrypt.replace("$10$", "$4$"), false),
            (&bcrypt[..59], false),
            (&sha512, true),
            (&sha512.replace("salt", "rounds=5000$salt"), true),
            (&sha512.replace("salt", "rounds=999999999$salt"), false),
            (&sha512.replace("$6$", "$5$"), false),
            (&format!("$5$salt${}", "a".repeat(43)), true),
            ("$apr1$salt$hash", false),
            ("{SHA}abc", false),
            ("secret", false),
            ("", false),
        ] {
            let hash = text.parse::<PasswordHash>();
            assert_eq!(hash.is_ok(), is_good, "input: {text:?}");
            let shown = format!("{hash:?}");
            assert!(text.is_empty() || !shown.contains(text), "{shown}");
        }
    }

    #[test]
    fn what_is_counted_by_is_read_and_written() {
        for text in ["client", "path", "header:x-api-key", "cookie:eZSESSID"] {
            assert_eq!(text.parse::<RateKey>().unwrap().to_string(), text);
        }
        for text in ["", "Client", "header", "header:", "header:a b", "cookie:a;b", "query:x"] {
            assert!(text.parse::<RateKey>().is_err(), "input: {text:?}");
        }
    }
}
