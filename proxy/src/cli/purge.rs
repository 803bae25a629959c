//! `purge`: the requests that a web node's hooks send, from the command line.

use anyhow::anyhow;

use super::client::{self, Answer, Request};
use super::{Trouble, print};

/// So many characters of tags go into one request, as FOSHttpCache does it; more are split.
const MOST_TAG_BYTES: usize = 7500;

/// Remove pages from the cache of a running edge, by tag, by URL or by expressions.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["tag", "url", "matching"]))]
pub(super) struct Arguments {
    /// Remove all pages that carry this tag; may be given several times.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Remove this page in all its variants: a URL with scheme and host, or /page with --host; may be given
    /// several times.
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Remove all pages whose path and query match this expression (PCRE2, unanchored), such as ^/news/; may be given
    /// several times.
    #[arg(long, value_name = "REGEX")]
    matching: Vec<String>,
    /// With --matching: only on hosts that match this expression.
    #[arg(long, value_name = "REGEX", requires = "matching")]
    on_host: Option<String>,
    /// Do not remove pages, make them stale: they are served while a newer copy is fetched.
    #[arg(long, conflicts_with_all = ["url", "matching"])]
    soft: bool,
    /// The edge, where visitors come in: HOST:PORT, http://HOST:PORT or unix:/path.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:80", value_parser = client::address)]
    to: String,
    /// The host of URLs given as a path [default: the address of --to]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// What the edge's purge.token asks for, if it has one.
    #[arg(long, value_name = "TOKEN", env = "CLEARCOAT_PURGE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Sends the purges one after the other and prints what each did; stops at the first that fails.
pub(super) fn command(arguments: &Arguments) -> Result<(), Trouble> {
    let own_host = arguments.host.as_deref().unwrap_or_else(|| client::host_of(&arguments.to));
    let name = if arguments.soft { "xkey-softpurge" } else { "xkey-purge" };
    for tags in batches(&arguments.tag)? {
        let answer = send(arguments, "PURGEKEYS", "/", own_host, &[(name, &tags)])?;
        print(&format!("{}\n", outcome(answer, "these tags")?))?;
    }
    for url in &arguments.url {
        let (host, target) = parts(url, own_host)?;
        let answer = send(arguments, "PURGE", target, host, &[])?;
        print(&format!("{}: {url}\n", outcome(answer, url)?))?;
    }
    for expression in &arguments.matching {
        let on_host = arguments.on_host.as_deref().unwrap_or(".*");
        let fields = [("X-Host", on_host), ("X-Url", expression.as_str())];
        let answer = send(arguments, "BAN", "/", own_host, &fields)?;
        print(&format!("{}: {expression}\n", outcome(answer, expression)?))?;
    }
    Ok(())
}

fn send(
    arguments: &Arguments,
    method: &str,
    target: &str,
    host: &str,
    fields: &[(&str, &str)],
) -> Result<Answer, Trouble> {
    let token = arguments.token.as_deref().map(|token| ("X-Invalidate-Token", token));
    let fields: Vec<(&str, &str)> = fields.iter().copied().chain(token).collect();
    Ok(Request { to: &arguments.to, method, target, host, fields: &fields }.send()?)
}

/// The tags as values of a header field, none longer than [`MOST_TAG_BYTES`] unless a single tag is.
fn batches(tags: &[String]) -> Result<Vec<String>, Trouble> {
    let mut batches: Vec<String> = Vec::new();
    for tag in tags {
        // The edge splits at these, and would purge something else.
        if tag.is_empty() || tag.contains([' ', '\t', ',']) {
            return Err(Trouble::Usage(format!("{tag:?} is not a tag; give several with several --tag")));
        }
        match batches.last_mut() {
            Some(batch) if batch.len() + 1 + tag.len() <= MOST_TAG_BYTES => {
                batch.push(' ');
                batch.push_str(tag);
            }
            Some(_) | None => batches.push(tag.clone()),
        }
    }
    Ok(batches)
}

/// Host and path of a URL.
fn parts<'a>(url: &'a str, own_host: &'a str) -> Result<(&'a str, &'a str), Trouble> {
    if url.starts_with('/') {
        return Ok((own_host, url));
    }
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return Err(Trouble::Usage(format!(
            "{url:?} is neither a URL nor a path; write http://HOST/PATH or /PATH"
        )));
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    match rest.find('/') {
        Some(0) => Err(Trouble::Usage(format!("{url:?} names no host"))),
        Some(slash) => Ok((&rest[..slash], &rest[slash..])),
        None => Ok((rest, "/")),
    }
}

/// What the edge says it did, or why it did not.
fn outcome(answer: Answer, what: &str) -> Result<String, Trouble> {
    let Answer { status, reason, body } = answer;
    match status {
        200..=299 => Ok(reason),
        405 => Err(anyhow!("the edge does not let this machine purge {what} ({status} {reason})").into()),
        _ => {
            let body = String::from_utf8_lossy(&body);
            Err(anyhow!("purging {what} failed: {status} {reason}: {}", body.trim()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, expected) in [
            ("/a?b", Some(("own:80", "/a?b"))),
            ("http://www.example.com/a?b", Some(("www.example.com", "/a?b"))),
            ("https://www.example.com:8443", Some(("www.example.com:8443", "/"))),
            ("http://h/a#part", Some(("h", "/a"))),
            ("http:///a", None),
            ("www.example.com/a", None),
            ("", None),
        ] {
            assert_eq!(parts(url, "own:80").ok(), expected, "{url:?}");
        }
    }

    #[test]
    fn long_lists_of_tags_are_split() {
        let tags: Vec<String> = (0..2000).map(|number| format!("article-{number}")).collect();
        let batches = batches(&tags).unwrap();
        assert!(batches.len() > 1);
        assert!(batches.iter().all(|batch| batch.len() <= MOST_TAG_BYTES));
        assert_eq!(batches.join(" "), tags.join(" "));
    }

    #[test]
    fn a_tag_is_one_word() {
        for tag in ["", "a b", "a,b"] {
            batches(&[tag.to_owned()]).unwrap_err();
        }
    }

    #[test]
    fn refusals_are_failures() {
        let answer = |status, reason: &str| Answer { status, reason: reason.into(), body: Vec::new() };
        assert_eq!(outcome(answer(200, "Purged 3 objects, expired 0 objects"), "x").unwrap().len(), 35);
        for status in [400, 405, 503] {
            outcome(answer(status, "No"), "x").unwrap_err();
        }
    }
}
