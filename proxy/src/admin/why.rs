//! `GET /api/why`: what the next request of a URL would meet, and why.
//!
//! The parameters say which request is meant: `url` (with scheme and host, or a path: then the scheme is `http`), `method` (default GET), `host`,
//! `client` (an address; without it the request comes from nowhere), and any number of `header=Name:value`, each percent-encoded. The request is not sent: it is put into the form in which a
//! client would send it and shown to [`Observed::explain`], which only looks. The answer is an [`Explanation`].

use std::net::IpAddr;

use clearcoat_cache::Scheme;
use serde::Serialize;

use super::http1::{Answer, Request};
use super::nodes::decode;
use super::view::Observed;

/// The path of this page.
pub(super) const PATH: &str = "/api/why";

/// The answer to a request that was made for [`PATH`].
pub(super) fn answer(request: &Request, observed: &dyn Observed) -> Answer {
    let question = match Question::read(request.query.as_deref().unwrap_or_default()) {
        Ok(question) => question,
        Err(why) => return Answer::text(400, why),
    };
    let explanation = observed.explain(question.url(), question.asker(), &question.text());
    super::routes::json(&explanation)
}

/// The request that is meant. Nothing in it can end a line.
#[derive(Debug, Eq, PartialEq)]
struct Question {
    method: String,
    /// That of a path is `http`.
    scheme: Scheme,
    host: String,
    /// Path and query.
    target: String,
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Asker {
    pub(crate) scheme: Scheme,
    /// `None`: nobody knows from where.
    pub(crate) client: Option<IpAddr>,
}

impl Question {
    /// Reads the parameters, or tells what is wrong with them.
    fn read(query: &str) -> Result<Self, &'static str> {
        let (mut url, mut method, mut host, mut headers, mut client) = (None, None, None, Vec::new(), None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            if value.chars().any(char::is_control) {
                return Err("a parameter has a control character");
            }
            let free = match name {
                "url" => url.replace(value).is_none(),
                "method" => method.replace(value).is_none(),
                "host" => host.replace(value).is_none(),
                "client" => {
                    let address = value.parse().map_err(|_| "client is not an address")?;
                    client.replace(address).is_none()
                }
                "header" => {
                    let (name, value) = value.split_once(':').ok_or("a header is written Name:value")?;
                    if name.is_empty() || name.contains(char::is_whitespace) {
                        return Err("a header is written Name:value");
                    }
                    headers.push((name.to_owned(), value.trim().to_owned()));
                    true
                }
                _ => return Err("the parameters are url, method, host, client, and header"),
            };
            if !free {
                return Err("url, method, host and client may stand once");
            }
        }
        let url = url.ok_or("url is missing: a URL, or a path and host")?;
        let (scheme, named, target) = parts(&url)?;
        let method = method.unwrap_or_else(|| "GET".to_owned());
        if method.is_empty() || method.contains(char::is_whitespace) || target.contains(char::is_whitespace) {
            return Err("a method or a URL has no white space in it");
        }
        let host = match (host, named) {
            (Some(host), _) => host,
            (None, Some(named)) => named.to_owned(),
            (None, None) => return Err("host is missing: the URL names none"),
        };
        Ok(Self { method, scheme, host, target: target.to_owned(), headers, client })
    }

    fn asker(&self) -> Asker {
        Asker { scheme: self.scheme, client: self.client }
    }

    /// For people.
    fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.as_str(), self.host, self.target)
    }

    /// As a client would send it.
    fn text(&self) -> Vec<u8> {
        let Self { method, scheme: _, host, target, headers, client: _ } = self;
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// Scheme, host, if there is one, and path of a URL.
fn parts(url: &str) -> Result<(Scheme, Option<&str>, &str), &'static str> {
    let url = url.split('#').next().unwrap_or(url);
    if url.starts_with('/') {
        return Ok((Scheme::Http, None, url));
    }
    let schemes = [("http://", Scheme::Http), ("https://", Scheme::Https)];
    let found = schemes.iter().find_map(|(start, scheme)| Some((*scheme, url.strip_prefix(start)?)));
    let (scheme, rest) = found.ok_or("url is neither a URL nor a path")?;
    match rest.find(['/', '?']) {
        Some(0) => Err("the URL names no host"),
        Some(at) if rest[at..].starts_with('?') => Err("the URL has no path before its query"),
        Some(at) => Ok((scheme, Some(&rest[..at]), &rest[at..])),
        None if rest.is_empty() => Err("the URL names no host"),
        None => Ok((scheme, Some(rest), "/")),
    }
}

/// What the next request would meet. Times are in seconds, rounded down.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Explanation {
    /// The URL as the cache knows it.
    pub(crate) url: String,
    /// The method that was asked about.
    pub(crate) method: String,
    /// The answer in a sentence or two.
    pub(crate) answer: String,
    /// The answer for programs.
    pub(crate) next: Next,
    /// Where the URL belongs; `None` when no site is for it.
    pub(crate) route: Option<RouteFacts>,
    /// What it is looked up by; `None` when it is not.
    pub(crate) key: Option<KeyFacts>,
    /// What is stored for this very request, whatever its age.
    pub(crate) entry: Option<EntryFacts>,
    /// For how long nobody waits for another's fetch of this URL, because its answer could not be shared.
    pub(crate) uncacheable_for: Option<u64>,
    /// What became of the last fetch of the URL in any variant, if it is remembered.
    pub(crate) last_fetch: Option<FetchFacts>,
}

/// The next request's way.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Next {
    /// What would happen.
    pub(crate) outcome: Outcome,
    /// The status, where it is known before anybody is asked.
    pub(crate) status: Option<u16>,
    /// The answer's `Cache-Status`, as far as it is known before anybody is asked.
    pub(crate) cache_status: String,
    /// Conditions by which a node is asked after the stored copy.
    pub(crate) conditions: Vec<String>,
    /// Whether a fetch of the same is under way.
    pub(crate) fetch_under_way: bool,
    /// Whether a node of the pool is up.
    pub(crate) node_up: Option<bool>,
}

/// What would happen to the request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Answered from memory, fresh.
    Hit,
    /// Answered from memory, stale; a newer copy is fetched meanwhile.
    Grace,
    /// Answered from memory, stale, because no node is up.
    Disconnected,
    /// A node is asked whether the stored copy is still right.
    Revalidate,
    /// Fetched from a node, together with others who ask the same.
    Fetch,
    /// Waits for the fetch that another request started.
    Join,
    /// Fetched from a node for itself alone.
    FetchApart,
    /// Passed to a node.
    Pass,
    /// A purge.
    Purge,
    /// Sent to the same URL by https.
    Redirect,
    /// Not served.
    #[default]
    Refused,
}

/// Where a URL belongs.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RouteFacts {
    /// Which `[[site]]` of the file, from one.
    pub(crate) site: usize,
    /// The pattern that matched.
    pub(crate) host: String,
    /// Which `[[site.route]]` of it, from one; `None`: none, the site itself says what is done.
    pub(crate) route: Option<usize>,
    /// The pattern that matched.
    pub(crate) path: Option<String>,
    /// The pool.
    pub(crate) pool: String,
    /// `cache` or `pass`.
    pub(crate) cache: &'static str,
}

/// What a URL is looked up by.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct KeyFacts {
    /// The URL that it stands for: as the route's rules leave it, the host in the one spelling of all.
    pub(crate) url: String,
    /// The key, in hexadecimal. Another process has another.
    pub(crate) hash: String,
    /// The request headers that choose among its variants, with what this request has there; empty: it is not known to
    /// vary.
    pub(crate) vary: Vec<Selecting>,
    /// Its variants in the store.
    pub(crate) variants: u64,
    /// The newest of them, at most [`MOST_VARIANTS`].
    pub(crate) stored: Vec<VariantFacts>,
}

/// Variants that are listed.
pub(crate) const MOST_VARIANTS: usize = 32;

/// A header that chooses among variants.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Selecting {
    /// In lower case.
    pub(crate) name: String,
    /// What counts of it; `None` if the request does not have it.
    pub(crate) value: Option<String>,
}

/// A variant in the store. What its request had in the selecting headers is not kept, only a hash of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct VariantFacts {
    /// The hash, in hexadecimal.
    pub(crate) hash: String,
    /// Whether this request selects it.
    pub(crate) selected: bool,
    /// The status.
    pub(crate) status: u16,
    /// What `Age` would say.
    pub(crate) age: u64,
    /// Freshness left; negative when it is over.
    pub(crate) ttl: i64,
}

/// What is stored, and for how long it may be used.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct EntryFacts {
    /// `fresh`, `grace`, `stale` or `dead`.
    pub(crate) state: &'static str,
    /// Its status.
    pub(crate) status: u16,
    /// Bytes of its body.
    pub(crate) body_bytes: u64,
    /// What it takes of the memory budget.
    pub(crate) memory_bytes: u64,
    /// The lifetime that it came with.
    pub(crate) lifetime: u64,
    /// Where that comes from.
    pub(crate) lifetime_from: &'static str,
    /// How old it was when it came.
    pub(crate) initial_age: u64,
    /// How long ago it came.
    pub(crate) stored_for: u64,
    /// What `Age` would say: the two together.
    pub(crate) age: u64,
    /// Freshness left: the lifetime less the age, unless a soft purge ended it; negative when it is over.
    pub(crate) ttl: i64,
    /// A soft purge ended its freshness before its time.
    pub(crate) soft_purged: bool,
    /// How long after its freshness it is served while a newer copy is fetched.
    pub(crate) grace: u64,
    /// How long after that it is kept to be asked after.
    pub(crate) keep: u64,
    /// How long after its freshness it may stand in for a node that fails.
    pub(crate) stale_if_error: u64,
    /// Whether it may stand in where no node can be reached, for as long as it is kept.
    pub(crate) may_be_stale: bool,
    /// A node is asked after it each time, however fresh it is.
    pub(crate) ask_always: bool,
    /// Its tags.
    pub(crate) tags: Vec<String>,
}

/// What became of a fetch.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct FetchFacts {
    /// How long ago that was.
    pub(crate) ago: u64,
    /// From the request to the last that is known of it, in milliseconds.
    pub(crate) took_ms: u64,
    /// The node that answered.
    pub(crate) node: Option<String>,
    /// Its status.
    pub(crate) status: Option<u16>,
    /// What became of the answer, in a word: `stored`, or why not.
    pub(crate) result: &'static str,
    /// Whether it is stored.
    pub(crate) stored: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Option<&str>) {
        let text = Question::read(query).ok().map(|question| String::from_utf8(question.text()).unwrap());
        assert_eq!(text.as_deref(), expected, "{query}");
    }

    #[test]
    fn questions_become_requests() {
        check("url=http://a/b", Some("GET /b HTTP/1.1\r\nHost: a\r\n\r\n"));
        check("url=https%3A%2F%2Fa%3A81", Some("GET / HTTP/1.1\r\nHost: a:81\r\n\r\n"));
        check("url=http://a/b%3Fc%3Dd%2526e%23f", Some("GET /b?c=d%26e HTTP/1.1\r\nHost: a\r\n\r\n"));
        check("url=/b&host=a&method=POST", Some("POST /b HTTP/1.1\r\nHost: a\r\n\r\n"));
        check("url=http://x/b&host=a", Some("GET /b HTTP/1.1\r\nHost: a\r\n\r\n"));
        check(
            "url=/b&host=a&header=Accept:%20text%2Fhtml&header=X-A:",
            Some("GET /b HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nX-A: \r\n\r\n"),
        );
    }

    #[test]
    fn what_is_no_question() {
        for query in [
            "",
            "url=/b",
            "url=b&host=a",
            "url=http://",
            "url=http:///b",
            "url=http://a?b",
            "url=/b&url=/c&host=a",
            "url=/b&host=a&colour=red",
            "url=/b&host=a&header=X",
            "url=/b&host=a&header=:x",
            "url=/b&host=a&header=X%20Y:x",
            // Nothing may smuggle in a line, or a second request.
            "url=/b&host=a&header=X:y%0d%0aZ:w",
            "url=/b&host=a%0d%0aX:y",
            "url=/b%20HTTP/1.1%0d%0a&host=a",
            "url=/b%20c&host=a",
            "url=/b&host=a&method=GET%20/x",
            "url=/b&host=a&method=",
        ] {
            check(query, None);
        }
    }
}
