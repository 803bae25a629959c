//! `why`: what the next request of a URL would meet at a running edge, and why.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Deserialize;

use super::admin::AdminArguments;
use super::client::encoded;
use super::{Trouble, print};

/// Tell what the next request of a URL would meet, and why; nothing is requested.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A URL with scheme and host, or /page with --host.
    #[arg(value_name = "URL")]
    url: String,
    /// The method of the request.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A header of the request, such as 'Accept-Language: de'; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The host of the request, instead of the URL's.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The address that it comes from. Without it: from nowhere.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<std::net::IpAddr>,
    #[command(flatten)]
    admin: AdminArguments,
    /// All of it as JSON.
    #[arg(long)]
    json: bool,
}

/// Asks and prints the answer.
pub(super) fn command(arguments: &Arguments) -> Result<(), Trouble> {
    let body = arguments.admin.get(&target(arguments))?;
    let text = String::from_utf8_lossy(&body);
    if arguments.json {
        return Ok(print(&text)?);
    }
    let explanation = serde_json::from_str(&text).context("reading the answer")?;
    Ok(print(&page(&explanation))?)
}

/// Path and query of the question.
fn target(arguments: &Arguments) -> String {
    let mut target =
        format!("/api/why?url={}&method={}", encoded(&arguments.url), encoded(&arguments.method));
    if let Some(host) = &arguments.host {
        let _ = write!(target, "&host={}", encoded(host));
    }
    if let Some(client) = arguments.client {
        let _ = write!(target, "&client={client}");
    }
    for header in &arguments.headers {
        let _ = write!(target, "&header={}", encoded(header));
    }
    target
}

/// The parts of the answer that are shown. An edge of another version may lack some.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Explanation {
    answer: String,
    next: Next,
    route: Option<Route>,
    key: Option<Key>,
    entry: Option<Entry>,
    uncacheable_for: Option<u64>,
    last_fetch: Option<Fetch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Next {
    cache_status: String,
    conditions: Vec<String>,
    fetch_under_way: bool,
    node_up: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Route {
    site: usize,
    host: String,
    route: Option<usize>,
    path: Option<String>,
    pool: String,
    cache: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Key {
    url: String,
    hash: String,
    vary: Vec<Selecting>,
    variants: u64,
    stored: Vec<Variant>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Selecting {
    name: String,
    value: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Variant {
    hash: String,
    selected: bool,
    status: u16,
    age: u64,
    ttl: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    state: String,
    status: u16,
    body_bytes: u64,
    memory_bytes: u64,
    lifetime: u64,
    lifetime_from: String,
    initial_age: u64,
    stored_for: u64,
    age: u64,
    ttl: i64,
    soft_purged: bool,
    grace: u64,
    keep: u64,
    stale_if_error: u64,
    may_be_stale: bool,
    ask_always: bool,
    tags: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fetch {
    ago: u64,
    took_ms: u64,
    node: Option<String>,
    status: Option<u16>,
    result: String,
}

/// The answer, and below it what it is based on.
fn page(explanation: &Explanation) -> String {
    let mut facts = Facts(String::new());
    let Explanation { answer, next, route, key, entry, uncacheable_for, last_fetch } = explanation;
    if let Some(route) = route {
        let path = route.path.as_deref().unwrap_or("every path");
        let number = route.route.map_or_else(|| "no route".to_owned(), |number| format!("route {number}"));
        facts.add("site", &format!("{} ({}), {number} ({path}), {}", route.site, route.host, route.cache));
        let up = if next.node_up == Some(false) { ", no node is up" } else { "" };
        facts.add("pool", &format!("{}{up}", route.pool));
    }
    if let Some(key) = key {
        facts.add("key", &format!("{} ({})", key.url, key.hash));
        let vary = key.vary.iter().map(|selecting| match &selecting.value {
            Some(value) => format!("{}: {value}", selecting.name),
            None => format!("{} (absent)", selecting.name),
        });
        let vary: Vec<String> = vary.collect();
        facts.add("varies by", &if vary.is_empty() { "nothing known".to_owned() } else { vary.join("; ") });
        facts.add("stored", &variants(key));
    }
    if let Some(entry) = entry {
        for (name, fact) in entry_facts(entry) {
            facts.add(name, &fact);
        }
    }
    if let Some(seconds) = uncacheable_for {
        facts.add("uncacheable", &format!("for {seconds} s more nobody waits for another's fetch"));
    }
    if let Some(fetch) = last_fetch {
        let who = match (&fetch.node, fetch.status) {
            (Some(node), Some(status)) => format!("{node} said {status}"),
            _ => "no node answered".to_owned(),
        };
        let Fetch { ago, took_ms, result, .. } = fetch;
        facts.add("last fetch", &format!("{ago} s ago, {who}, {took_ms} ms: {result}"));
    }
    if next.fetch_under_way {
        facts.add("under way", "a fetch of the same");
    }
    for condition in &next.conditions {
        facts.add("asked with", condition);
    }
    facts.add("Cache-Status", &next.cache_status);
    format!("{}\n\n{}", clean(answer), facts.0)
}

fn variants(key: &Key) -> String {
    match &key.stored[..] {
        [] => "nothing".to_owned(),
        [_] if key.vary.is_empty() => "one, for every request".to_owned(),
        stored => {
            let shown = stored.iter().map(|variant| {
                let Variant { hash, selected, status, age, ttl } = variant;
                let selected = if *selected { ", this one" } else { "" };
                let short = hash.get(..8).unwrap_or(hash);
                format!("\n{:14}{short}: {status}, age {age} s, ttl {ttl} s{selected}", "")
            });
            format!("{} variants{}", key.variants, shown.collect::<String>())
        }
    }
}

fn entry_facts(entry: &Entry) -> Vec<(&'static str, String)> {
    let Entry {
        state, status, body_bytes, memory_bytes, lifetime, initial_age, stored_for, age, ttl, ..
    } = entry;
    let mut facts = vec![
        ("entry", format!("{state}, status {status}, {body_bytes} bytes, {memory_bytes} in memory")),
        ("age", format!("{age} s: {initial_age} s when it came, {stored_for} s here")),
    ];
    let left = format!("{ttl} s left");
    facts.push(if entry.ask_always {
        ("lifetime", "none: the node wants to be asked each time".to_owned())
    } else {
        ("lifetime", format!("{lifetime} s by {}: {left}", entry.lifetime_from))
    });
    if entry.soft_purged {
        facts.push(("soft purge", format!("ended its freshness {} s ago", ttl.unsigned_abs())));
    }
    facts.push(("then", {
        let Entry { grace, keep, stale_if_error, .. } = entry;
        let asked = if entry.may_be_stale { "" } else { "; it demands to be asked after" };
        format!("grace {grace} s, kept {keep} s more, for a failing node {stale_if_error} s{asked}")
    }));
    facts.push(("tags", if entry.tags.is_empty() { "none".to_owned() } else { entry.tags.join(" ") }));
    facts
}

/// Lines of a name and a fact, aligned.
struct Facts(String);

impl Facts {
    fn add(&mut self, name: &str, fact: &str) {
        let _ = writeln!(self.0, "{name:<14}{}", clean(fact));
    }
}

/// The text without what could steer a terminal, for some of it comes from elsewhere. Line ends are our own.
fn clean(text: &str) -> String {
    text.chars().filter(|character| *character == '\n' || !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_question_is_encoded() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let line = ["why", "http://a/b?c=d&e", "-H", "Accept-Language: de", "-H", "X: ä", "--host", "h:1"];
        let Line { arguments } = clap::Parser::try_parse_from(line).unwrap();
        assert_eq!(
            target(&arguments),
            "/api/why?url=http%3A%2F%2Fa%2Fb%3Fc%3Dd%26e&method=GET&host=h%3A1&header=Accept-Language%3A%20de&header=X%3A%20%C3%A4"
        );
    }

    #[test]
    fn the_page_begins_with_the_answer() {
        let document = r#"{
            "url": "http://a/", "method": "GET", "answer": "The next GET of http://a/ is a hit: fresh for 52 s more.",
            "next": {"outcome": "hit", "status": 200, "cache_status": "clearcoat; hit; ttl=52", "node_up": true},
            "route": {"site": 1, "host": "*", "route": 2, "path": "/a*", "pool": "web", "cache": "cache"},
            "key": {"url": "http://a/", "hash": "0123456789abcdef", "vary": [{"name": "accept-language", "value": "de"}, {"name": "x", "value": null}],
                "variants": 2, "stored": [{"hash": "aaaaaaaaaa", "selected": true, "status": 200, "age": 8, "ttl": 52},
                {"hash": "bbbbbbbbbb", "selected": false, "status": 404, "age": 1, "ttl": 9}]},
            "entry": {"state": "fresh", "status": 200, "body_bytes": 4, "memory_bytes": 2000, "lifetime": 60,
                "lifetime_from": "s-maxage in Cache-Control", "initial_age": 5, "stored_for": 3, "age": 8, "ttl": 52,
                "grace": 10, "keep": 600, "stale_if_error": 0, "may_be_stale": true, "tags": ["c1", "c2\u001b[31m"]},
            "last_fetch": {"ago": 3, "took_ms": 12, "node": "10.0.0.1:80", "status": 200, "result": "stored"},
            "a key of tomorrow": {}
        }"#;
        assert_eq!(
            page(&serde_json::from_str(document).unwrap()),
            "The next GET of http://a/ is a hit: fresh for 52 s more.\n\
             \n\
             site          1 (*), route 2 (/a*), cache\n\
             pool          web\n\
             key           http://a/ (0123456789abcdef)\n\
             varies by     accept-language: de; x (absent)\n\
             stored        2 variants\n\
             \x20             aaaaaaaa: 200, age 8 s, ttl 52 s, this one\n\
             \x20             bbbbbbbb: 404, age 1 s, ttl 9 s\n\
             entry         fresh, status 200, 4 bytes, 2000 in memory\n\
             age           8 s: 5 s when it came, 3 s here\n\
             lifetime      60 s by s-maxage in Cache-Control: 52 s left\n\
             then          grace 10 s, kept 600 s more, for a failing node 0 s\n\
             tags          c1 c2[31m\n\
             last fetch    3 s ago, 10.0.0.1:80 said 200, 12 ms: stored\n\
             Cache-Status  clearcoat; hit; ttl=52\n"
        );
    }

    #[test]
    fn an_empty_document_is_a_page_too() {
        assert!(page(&serde_json::from_str("{}").unwrap()).ends_with("Cache-Status  \n"));
    }
}
