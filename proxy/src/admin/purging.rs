//! Purging from the admin listener, and what is known of purges.
//!
//! | request | what it is |
//! | --- | --- |
//! | `POST /api/purge` | a purge in JSON ([`Order`]); the answer is a [`Report`] |
//! | `GET /api/purges` | the last purges, whoever sent them, newest first |
//! | `GET /api/bans` | the bans that are not over |
//! | `GET /api/tags?url=URL` | the tags of what is stored of a URL |
//! | `GET /api/urls?tag=TAG` | URLs that carry a tag, at most `limit` of them (default 100) |

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::http1::{Answer, Request};
use super::nodes::decode;
use super::routes::json;
use super::view::Observed;

/// Most URLs that are listed for a tag, whatever is asked for.
const MOST_URLS: usize = 10_000;

/// What is to be purged: everything that one of its parts names.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Order {
    /// Pages with one of these tags.
    pub(crate) tags: Vec<String>,
    /// URLs with scheme and host, in all variants and under both schemes.
    pub(crate) urls: Vec<String>,
    /// Pages of which all of these expressions match.
    pub(crate) ban: Option<BanOrder>,
    /// Everything.
    pub(crate) all: bool,
    /// Pages are not removed, they are stale.
    pub(crate) soft: bool,
    /// Nothing is purged, and what would be is counted.
    pub(crate) dry_run: bool,
}

/// Expressions in PCRE2's syntax, unanchored.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BanOrder {
    pub(crate) host: Option<String>,
    /// Path and query.
    pub(crate) url: Option<String>,
    pub(crate) content_type: Option<String>,
    /// The tags as a list with commas.
    pub(crate) tags: Option<String>,
}

/// What a purge did.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Its number in the log and in `/api/purges`; zero for a dry run.
    pub(crate) id: u64,
    /// Entries removed. What a ban removes is known when it is over.
    pub(crate) purged: u64,
    /// Entries that were fresh and are stale now.
    pub(crate) softened: u64,
    /// Entries that would be purged or softened, of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) would: Option<u64>,
    /// How long it took, in microseconds.
    pub(crate) micros: u64,
}

/// A purge that was carried out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PurgeView {
    /// Counts up from one.
    pub(crate) id: u64,
    /// When it was answered, in seconds of Unix time.
    #[serde(serialize_with = "unix_seconds")]
    pub(crate) at: SystemTime,
    /// The address of who sent it; `local` for a local socket, `admin` for the admin listener.
    pub(crate) by: String,
    /// Its method, or `API`.
    pub(crate) method: String,
    /// What it named.
    pub(crate) what: String,
    /// See [`Report`].
    pub(crate) purged: u64,
    /// See [`Report`].
    pub(crate) softened: u64,
    /// See [`Report`].
    pub(crate) micros: u64,
}

fn unix_seconds<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_f64(since.as_millis() as f64 / 1000.0)
}

/// A ban that is not over.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BanView {
    /// What it names.
    pub(crate) condition: String,
    /// Whether pages are made stale rather than removed.
    pub(crate) soft: bool,
    /// For how long it has been in the list, in milliseconds.
    pub(crate) age_millis: u64,
    /// Entries that it took or made stale so far.
    pub(crate) struck: u64,
    /// All entries were tested, and only fetches that began before it are waited for.
    pub(crate) swept: bool,
}

/// What is stored of a URL, one for each variant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TagsView {
    /// Its URL as it is stored.
    pub(crate) url: String,
    /// Its tags.
    pub(crate) tags: Vec<String>,
}

/// URLs that carry a tag.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct UrlsView {
    /// How many entries carry it.
    pub(crate) entries: u64,
    /// Some of their URLs, each once, in the order of the alphabet.
    pub(crate) urls: Vec<String>,
}

/// The answer, if the path is one of these.
pub(super) fn answer(request: &Request, observed: &dyn Observed) -> Option<Answer> {
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    let parameter = |name: &str| {
        let query = request.query.as_deref().unwrap_or_default();
        let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        found.map(|value| decode(&value.replace('+', " "))).filter(|value| !value.is_empty())
    };
    Some(match request.path.as_str() {
        "/api/purge" if request.method != "POST" => Answer::method_not_allowed("POST"),
        "/api/purge" => match serde_json::from_slice::<Order>(&request.body) {
            Ok(order) => match observed.purge(&order) {
                Ok(report) => json(&report),
                Err(why) => Answer::text(400, why),
            },
            Err(error) => Answer::text(400, format!("the order cannot be read: {error}")),
        },
        "/api/purges" | "/api/bans" | "/api/tags" | "/api/urls" if !is_read => {
            Answer::method_not_allowed("GET, HEAD")
        }
        "/api/purges" => json(&observed.purges()),
        "/api/bans" => json(&observed.bans()),
        "/api/tags" => match parameter("url").map(|url| observed.tags_of(&url)) {
            Some(Ok(found)) => json(&found),
            Some(Err(why)) => Answer::text(400, why),
            None => Answer::text(400, "url is missing: a URL with scheme and host"),
        },
        "/api/urls" => {
            let limit = match parameter("limit").map(|text| text.parse::<usize>()) {
                None => 100,
                Some(Ok(limit)) => limit.min(MOST_URLS),
                Some(Err(_)) => return Some(Answer::text(400, "limit is a number")),
            };
            match parameter("tag").map(|tag| observed.urls_of(&tag, limit)) {
                Some(Ok(found)) => json(&found),
                Some(Err(why)) => Answer::text(400, why),
                None => Answer::text(400, "tag is missing"),
            }
        }
        _ => return None,
    })
}
