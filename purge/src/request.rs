//! Reading purge requests: the dialects that web nodes speak.
//!
//! | dialect | request | what it purges |
//! | --- | --- | --- |
//! | `purge` | `PURGE /path?query` | every variant of this URL |
//! | `purgekeys` | `PURGEKEYS /` with `xkey-purge: t1 t2`, `xkey-softpurge: t3` or both | every page that carries one of these tags |
//! | `ban` | `BAN /` with `X-Host`, `X-Url`, `X-Content-Type`, and `X-Cache-Tags` if it is by tags | every page of which all of these expressions match the part |
//! | `key` | `PURGE /` with `key: t1 t2` | the same as a soft purge of tags: ezplatform-http-cache before 2.0 |
//! | `location-id` | `BAN` or `PURGE` with `X-Location-Id`, `PURGE` with `X-Group-Location-Id` | pages by their `X-Location-Id`: eZ Publish 5, eZ Platform 1 |
//! | `surrogate-key` | `PURGE /` with `Surrogate-Key: t1 t2`, soft with `Fastly-Soft-Purge: 1` | pages by tags, as Fastly has it; also softens the soft purge of a URL |
//!
//! The path of a request that is not by URL means nothing: clients put there what their base URL has.

use std::sync::Arc;

use clearcoat_cache::tag::InvalidTag;
use clearcoat_cache::{CacheKey, PurgeMode, TagList, split_tags};
use http::{HeaderMap, HeaderName};

use crate::ban::BanCondition;
use crate::pattern::{InvalidPattern, Pattern, listed_tags};
use crate::{BadBan, PurgeError};

const PURGE: &str = "PURGE";
const PURGE_KEYS: &str = "PURGEKEYS";
const BAN: &str = "BAN";

const HARD_TAGS: HeaderName = HeaderName::from_static("xkey-purge");
const SOFT_TAGS: HeaderName = HeaderName::from_static("xkey-softpurge");
const KEY: HeaderName = HeaderName::from_static("key");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const FASTLY_SOFT: HeaderName = HeaderName::from_static("fastly-soft-purge");
const HOST: HeaderName = HeaderName::from_static("x-host");
const URL: HeaderName = HeaderName::from_static("x-url");
const TYPE: HeaderName = HeaderName::from_static("x-content-type");
const LOCATION: HeaderName = HeaderName::from_static("x-location-id");
const LOCATIONS: HeaderName = HeaderName::from_static("x-group-location-id");

/// A way to ask for a purge. See the module's page.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Dialect {
    /// `PURGE` of a URL.
    Purge,
    /// `PURGEKEYS` by tags.
    PurgeKeys,
    /// `BAN` by expressions.
    Ban,
    /// `PURGE` with `key`.
    Key,
    /// `BAN` and `PURGE` by `X-Location-Id`.
    LocationId,
    /// `PURGE` with `Surrogate-Key`.
    SurrogateKey,
}

/// A set of dialects: those that one listener understands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dialects(u8);

impl FromIterator<Dialect> for Dialects {
    fn from_iter<I: IntoIterator<Item = Dialect>>(dialects: I) -> Self {
        Self(dialects.into_iter().fold(0, |bits, dialect| bits | 1 << dialect as u8))
    }
}

impl Dialects {
    /// All that there are.
    pub const ALL: Self = Self((1 << (Dialect::SurrogateKey as u8 + 1)) - 1);

    /// Whether this one is understood.
    pub const fn has(self, dialect: Dialect) -> bool {
        self.0 & 1 << dialect as u8 != 0
    }

    /// Whether a request with this method is for us and not for a node. Methods are case-sensitive (RFC 9110 section 9.1).
    ///
    /// A method that no dialect uses that is understood goes to a node like any other.
    pub fn take(self, method: &str) -> bool {
        use Dialect::{Ban, Key, LocationId, Purge, PurgeKeys, SurrogateKey};
        match method {
            PURGE => [Purge, Key, LocationId, SurrogateKey].into_iter().any(|dialect| self.has(dialect)),
            PURGE_KEYS => self.has(PurgeKeys),
            BAN => self.has(Ban) || self.has(LocationId),
            _ => false,
        }
    }
}

/// What to purge.
#[derive(Clone, Debug)]
pub enum PurgeRequest {
    /// Every variant of a URL.
    Url {
        /// Its keys: one for each scheme and spelling under which it may be stored.
        keys: Vec<CacheKey>,
        /// Whether it is gone, or stale.
        mode: PurgeMode,
    },
    /// Every entry with one of these tags. A list may be empty: that purges nothing and is no mistake.
    Tags {
        /// These are gone at once. They are purged before the soft ones.
        hard: TagList,
        /// These are stale at once and keep their grace.
        soft: TagList,
        /// How it was asked for, which decides how it is answered.
        dialect: Dialect,
    },
    /// Every entry that a condition names.
    Ban {
        /// The condition.
        condition: Arc<BanCondition>,
        /// Whether they are gone, or stale.
        mode: PurgeMode,
        /// How it was asked for.
        dialect: Dialect,
    },
}

/// What it names, as operators should read it; nothing for a URL, of which only the keys are known here.
impl std::fmt::Display for PurgeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url { .. } => Ok(()),
            Self::Tags { hard, soft, .. } => {
                let lists = [("tags", hard), ("soft tags", soft)];
                for (place, (name, tags)) in
                    lists.into_iter().filter(|(_, tags)| !tags.is_empty()).enumerate()
                {
                    write!(f, "{}{name} {tags}", if place > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::Ban { condition, .. } => f.write_str(&condition.text),
        }
    }
}

/// Reads purge requests.
#[derive(Clone, Debug)]
pub struct Reader {
    tag_headers: Vec<HeaderName>,
    ban_headers: Vec<HeaderName>,
}

impl Reader {
    /// A `BAN` names tags by any of `tag_headers`, and lines of heads by any of `ban_headers`.
    pub fn new(tag_headers: Vec<HeaderName>, ban_headers: Vec<HeaderName>) -> Self {
        Self { tag_headers, ban_headers }
    }

    /// Reads a purge request in one of these dialects; `keys` are those of its URL.
    ///
    /// All lines of a header count. (Varnish's xkey looks at the first only; no client sends a second.)
    ///
    /// # Errors
    ///
    /// What is wrong with it. Do not answer with that: [`Guard::admit`](crate::Guard::admit) takes the whole result,
    /// because a stranger must not learn even that much.
    pub fn read(
        &self,
        dialects: Dialects,
        method: &str,
        headers: &HeaderMap,
        keys: Vec<CacheKey>,
    ) -> Result<PurgeRequest, PurgeError> {
        let has = |dialect, name: &HeaderName| dialects.has(dialect) && headers.contains_key(name);
        match method {
            PURGE if has(Dialect::LocationId, &LOCATION) => locations_purge(headers),
            PURGE if has(Dialect::LocationId, &LOCATIONS) => locations_purge(headers),
            PURGE if has(Dialect::Key, &KEY) => Ok(PurgeRequest::Tags {
                hard: TagList::default(),
                soft: tags(headers, &KEY)?,
                dialect: Dialect::Key,
            }),
            PURGE if has(Dialect::SurrogateKey, &SURROGATE_KEY) => {
                let named = tags(headers, &SURROGATE_KEY)?;
                let (hard, soft) = match fastly_mode(headers) {
                    PurgeMode::Hard => (named, TagList::default()),
                    PurgeMode::Soft => (TagList::default(), named),
                };
                Ok(PurgeRequest::Tags { hard, soft, dialect: Dialect::SurrogateKey })
            }
            PURGE if dialects.has(Dialect::Purge) => {
                let mode =
                    if dialects.has(Dialect::SurrogateKey) { fastly_mode(headers) } else { PurgeMode::Hard };
                Ok(PurgeRequest::Url { keys, mode })
            }
            PURGE_KEYS if !dialects.has(Dialect::PurgeKeys) => Err(PurgeError::Method),
            PURGE_KEYS if !headers.contains_key(HARD_TAGS) && !headers.contains_key(SOFT_TAGS) => {
                Err(PurgeError::NoKeys)
            }
            PURGE_KEYS => Ok(PurgeRequest::Tags {
                hard: tags(headers, &HARD_TAGS)?,
                soft: tags(headers, &SOFT_TAGS)?,
                dialect: Dialect::PurgeKeys,
            }),
            BAN if has(Dialect::LocationId, &LOCATION) => {
                // Nothing but this counts, as in the VCL of the time: the others say `.*`.
                let mut condition = BanCondition::default();
                let pattern = pattern(headers, &LOCATION, &mut condition, LOCATION.as_str())?;
                condition.lines.extend(pattern.map(|pattern| (LOCATION, pattern)));
                Ok(ban(condition, Dialect::LocationId))
            }
            BAN if dialects.has(Dialect::Ban) => self.ban(headers),
            _ => Err(PurgeError::Method),
        }
    }

    /// A ban as FOSHttpCache asks for it.
    ///
    /// Varnish answers one that lacks an expression, or brings one that it cannot read, with 200 and does nothing. Here it
    /// is refused: whoever sent it wanted something.
    fn ban(&self, headers: &HeaderMap) -> Result<PurgeRequest, PurgeError> {
        let mut condition = BanCondition::default();
        let mut named = false;
        if let Some(host) = pattern(headers, &HOST, &mut condition, "host")? {
            named = true;
            condition.host = Some(host).filter(|pattern| !pattern.is_anything());
        }
        if let Some(url) = pattern(headers, &URL, &mut condition, "url")? {
            named = true;
            condition.url = Some(url).filter(|pattern| !pattern.is_anything());
        }
        let kind = TYPE;
        let lines = std::iter::once((&kind, http::header::CONTENT_TYPE))
            .chain(self.ban_headers.iter().map(|name| (name, name.clone())));
        for (name, line) in lines {
            if let Some(pattern) = pattern(headers, name, &mut condition, line.as_str())? {
                named = true;
                condition.lines.push((line, pattern));
            }
        }
        for name in &self.tag_headers {
            if let Some(pattern) = pattern(headers, name, &mut condition, "tags")? {
                named = true;
                if condition.tags.replace(pattern).is_some() {
                    return Err(BadBan::TagsTwice.into());
                }
            }
        }
        if !named {
            return Err(BadBan::Nothing.into());
        }
        // By tags alone, as their list is always written: the index of tags finds them, and nothing has to be tested. A page
        // without a type goes too, which a ban would leave.
        let rest_is_anything = condition.host.is_none()
            && condition.url.is_none()
            && condition.lines.iter().all(|(_, pattern)| pattern.is_anything());
        let listed = self.tag_headers.iter().find_map(|name| headers.get(name));
        if let Some(listed) =
            listed.filter(|_| rest_is_anything).and_then(|value| listed_tags(value.as_bytes()))
            && let Ok(hard) = TagList::read(&listed)
        {
            return Ok(PurgeRequest::Tags { hard, soft: TagList::default(), dialect: Dialect::Ban });
        }
        Ok(ban(condition, Dialect::Ban))
    }
}

fn ban(condition: BanCondition, dialect: Dialect) -> PurgeRequest {
    PurgeRequest::Ban { condition: Arc::new(condition), mode: PurgeMode::Hard, dialect }
}

/// What eZ Publish 5.0 to 5.3 sends: ids, not expressions.
fn locations_purge(headers: &HeaderMap) -> Result<PurgeRequest, PurgeError> {
    let values =
        || headers.get_all(LOCATION).iter().chain(headers.get_all(LOCATIONS)).map(|value| value.as_bytes());
    let mut condition = BanCondition::default();
    let expression = if values().any(|value| value.trim_ascii() == b"*") {
        ".*".to_owned()
    } else {
        let mut ids = Vec::new();
        for id in values().flat_map(|value| value.split(|byte| matches!(byte, b';' | b',' | b'|' | b' '))) {
            match std::str::from_utf8(id) {
                Ok("") => {}
                Ok(id) if id.bytes().all(|byte| byte.is_ascii_digit()) => ids.push(id.to_owned()),
                Ok(_) | Err(_) => return Err(BadBan::NoLocation.into()),
            }
        }
        if ids.is_empty() {
            return Err(BadBan::NoLocation.into());
        }
        format!("^({})$", ids.join("|"))
    };
    condition.tell(LOCATION.as_str(), expression.as_bytes());
    let pattern =
        Pattern::new(expression.as_bytes()).map_err(|source| BadBan::Pattern { name: LOCATION, source })?;
    condition.lines.push((LOCATION, pattern));
    Ok(ban(condition, Dialect::LocationId))
}

/// The expression in a header, and notes it in the condition under the name of what it is about.
fn pattern(
    headers: &HeaderMap,
    header: &HeaderName,
    condition: &mut BanCondition,
    name: &str,
) -> Result<Option<Pattern>, BadBan> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BadBan::Twice { name: header.clone() });
    }
    condition.tell(name, value.as_bytes());
    Pattern::new(value.as_bytes())
        .map(Some)
        .map_err(|source: InvalidPattern| BadBan::Pattern { name: header.clone(), source })
}

fn fastly_mode(headers: &HeaderMap) -> PurgeMode {
    match headers.get(FASTLY_SOFT) {
        Some(value) if value == "1" => PurgeMode::Soft,
        Some(_) | None => PurgeMode::Hard,
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<TagList, InvalidTag> {
    TagList::read(headers.get_all(name).iter().flat_map(|line| split_tags(line.as_bytes())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn keys() -> Vec<CacheKey> {
        [1, 2].map(CacheKey::from_number).into()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut all = HeaderMap::new();
        for (name, value) in pairs {
            all.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        all
    }

    fn reader() -> Reader {
        Reader::new(vec![HeaderName::from_static("x-cache-tags")], Vec::new())
    }

    /// What is asked for, as text.
    fn read(method: &str, headers: &HeaderMap) -> Result<String, PurgeError> {
        reader().read(Dialects::ALL, method, headers, keys()).map(|request| match request {
            PurgeRequest::Url { keys, mode } => format!("{mode:?} {}", keys.len()),
            PurgeRequest::Tags { hard, soft, .. } => format!("{hard}|{soft}"),
            PurgeRequest::Ban { condition, .. } => condition.text.clone(),
        })
    }

    #[test]
    fn methods_are_told_apart() {
        for (method, expected) in [
            ("PURGE", true),
            ("PURGEKEYS", true),
            ("purge", false),
            ("PURGEKEY", false),
            ("GET", false),
            ("BAN", true),
        ] {
            assert_eq!(Dialects::ALL.take(method), expected, "{method}");
        }
        assert_eq!(read("GET", &headers(&[])), Err(PurgeError::Method));
        let some: Dialects = [Dialect::Ban].into_iter().collect();
        assert!(some.take("BAN") && !some.take("PURGE") && !some.take("PURGEKEYS"));
        assert!(!Dialects::default().take("PURGE") && !Dialects::default().take("BAN"));
    }

    #[test]
    fn purge_names_its_url_whatever_its_headers() {
        let url = Ok("Hard 2".to_owned());
        assert_eq!(read("PURGE", &headers(&[])), url);
        assert_eq!(read("PURGE", &headers(&[("xkey-purge", "a"), ("cookie", "b")])), url);
        assert_eq!(read("PURGE", &headers(&[("fastly-soft-purge", "1")])), Ok("Soft 2".to_owned()));
    }

    #[test]
    fn purgekeys_reads_both_lists() {
        check(&[("XKey-Purge", "l42 c57")], Ok("l42 c57|"));
        check(&[("xkey-softpurge", " a,b\tc ,, ")], Ok("|a b c"));
        check(&[("xkey-softpurge", "a"), ("xkey-purge", "b"), ("xkey-softpurge", "c")], Ok("b|a c"));
        check(&[("xkey-purge", "")], Ok("|"));
        check(&[("xkey", "a"), ("key", "b")], Err(PurgeError::NoKeys));
        check(&[], Err(PurgeError::NoKeys));
        let long = "x".repeat(4097);
        check(&[("xkey-purge", &long)], Err(PurgeError::BadTags(InvalidTag::TooLong(4097))));
        let many = vec!["tag"; 20_000].join(" ");
        check(&[("xkey-purge", &many)], Ok(&format!("{many}|")));
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: Result<&str, PurgeError>) {
        assert_eq!(read("PURGEKEYS", &headers(pairs)), expected.map(str::to_owned));
    }

    #[test]
    fn other_lists_of_tags_are_read() {
        for (pairs, expected) in [
            (&[("key", "l1 l2")][..], "|l1 l2"),
            (&[("surrogate-key", "a b")], "a b|"),
            (&[("surrogate-key", "a b"), ("fastly-soft-purge", "1")], "|a b"),
        ] {
            assert_eq!(read("PURGE", &headers(pairs)).unwrap(), expected);
        }
    }

    #[test]
    fn bans_are_read() {
        let all = [("x-host", ".*"), ("x-url", ".*"), ("x-content-type", ".*")];
        let with = |more: &[(&str, &str)]| read("BAN", &headers(&[&all, more].concat()));
        assert_eq!(with(&[]).unwrap(), "host ~ .* && url ~ .* && content-type ~ .*");
        assert_eq!(with(&[("x-cache-tags", r"(^|,)(a\.b|c)(,|$)")]).unwrap(), "a.b c|", "a purge by tags");
        assert!(with(&[("x-cache-tags", "a")]).unwrap().ends_with("&& tags ~ a"));
        let narrow =
            [("x-host", "^a$"), ("x-url", ".*"), ("x-content-type", ".*"), ("x-cache-tags", "(^|,)(c)(,|$)")];
        assert_eq!(
            read("BAN", &headers(&narrow)).unwrap(),
            "host ~ ^a$ && url ~ .* && content-type ~ .* && tags ~ (^|,)(c)(,|$)"
        );
        for (pairs, expected) in
            [(&[][..], BadBan::Nothing), (&[("x-host", "a"), ("x-host", "b")], BadBan::Twice { name: HOST })]
        {
            assert_eq!(read("BAN", &headers(pairs)), Err(PurgeError::BadBan(expected)));
        }
        assert!(matches!(
            read("BAN", &headers(&[("x-url", "(")])),
            Err(PurgeError::BadBan(BadBan::Pattern { .. }))
        ));
    }

    #[test]
    fn locations_are_read() {
        for (method, pairs, expected) in [
            ("BAN", &[("x-host", ".*"), ("x-location-id", "^(1|2)$")][..], Some("x-location-id ~ ^(1|2)$")),
            ("PURGE", &[("x-location-id", "42")], Some("x-location-id ~ ^(42)$")),
            ("PURGE", &[("x-group-location-id", "1; 2; 3")], Some("x-location-id ~ ^(1|2|3)$")),
            ("PURGE", &[("x-location-id", "*")], Some("x-location-id ~ .*")),
            ("PURGE", &[("x-location-id", "")], None),
            ("PURGE", &[("x-location-id", "1.5")], None),
        ] {
            assert_eq!(read(method, &headers(pairs)).ok().as_deref(), expected, "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line_gives_tags_without_separators(line in "[ -~\t]{0,80}") {
            let read = reader().read(Dialects::ALL, "PURGEKEYS", &headers(&[("xkey-purge", &line)]), keys());
            let Ok(PurgeRequest::Tags { hard, .. }) = read else {
                return Err(TestCaseError::fail("no tags"));
            };
            let joined = hard.iter().flatten().count();
            let expected = line.bytes().filter(|byte| !matches!(byte, b',' | b' ' | b'\t')).count();
            prop_assert_eq!(joined, expected);
        }

        #[test]
        fn any_expressions_are_read_or_refused(method in "BAN|PURGE", host in "[ -~]{0,30}", tags in "[ -~]{0,30}") {
            let pairs = [("x-host", host.as_str()), ("x-cache-tags", &tags), ("x-location-id", &tags)];
            for pairs in [&pairs[..2], &pairs[..]] {
                if let Ok(PurgeRequest::Ban { condition, .. }) = reader().read(Dialects::ALL, &method, &headers(pairs), keys()) {
                    let page = clearcoat_cache::Page { url: "http://a/b", head: b"HTTP/1.1 200 OK\r\n", tags: &[] };
                    prop_assert!(!clearcoat_cache::Condition::names(&*condition, &page));
                }
            }
        }
    }
}
