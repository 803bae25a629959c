//! `tags`, `urls` and `purges`: what a running edge knows of tags, and who purged what.

use anyhow::Context as _;
use serde::Deserialize;

use super::admin::AdminArguments;
use super::client::encoded;
use super::table::Table;
use super::{Trouble, print};

/// Show the tags of what is stored of a URL.
#[derive(Debug, clap::Args)]
pub(super) struct TagsArguments {
    /// A URL with scheme and host.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Show which URLs carry a tag.
#[derive(Debug, clap::Args)]
pub(super) struct UrlsArguments {
    /// The tag.
    #[arg(value_name = "TAG")]
    tag: String,
    /// The most URLs that are shown.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Show the last purges: who sent them, what they named, how many pages went.
#[derive(Debug, clap::Args)]
pub(super) struct PurgesArguments {
    /// All that is known of them as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Deserialize)]
struct Stored {
    url: String,
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Tagged {
    entries: u64,
    urls: Vec<String>,
}

#[derive(Deserialize)]
struct Purge {
    id: u64,
    by: String,
    method: String,
    what: String,
    purged: u64,
    softened: u64,
    micros: u64,
}

/// Prints the tags, a line each; variants of which they differ one after the other.
pub(super) fn tags(arguments: &TagsArguments) -> Result<(), Trouble> {
    let target = format!("/api/tags?url={}", encoded(&arguments.url));
    let mut stored: Vec<Stored> = read(&arguments.admin.get(&target)?)?;
    stored.dedup_by(|one, other| one.tags == other.tags && one.url == other.url);
    let mut text = String::new();
    for Stored { url, tags } in &stored {
        text.push_str(&format!("{url}\n"));
        tags.iter().for_each(|tag| text.push_str(&format!("  {tag}\n")));
    }
    if stored.is_empty() {
        return Err(anyhow::anyhow!("nothing is stored of {}", arguments.url).into());
    }
    Ok(print(&text)?)
}

/// Prints the URLs, a line each.
pub(super) fn urls(arguments: &UrlsArguments) -> Result<(), Trouble> {
    let target = format!("/api/urls?tag={}&limit={}", encoded(&arguments.tag), arguments.limit);
    let Tagged { entries, urls } = read(&arguments.admin.get(&target)?)?;
    let mut text: String = urls.iter().map(|url| format!("{url}\n")).collect();
    text.push_str(&format!("{entries} pages carry {}, {} URLs are shown\n", arguments.tag, urls.len()));
    Ok(print(&text)?)
}

/// Prints the purges, newest first.
pub(super) fn purges(arguments: &PurgesArguments) -> Result<(), Trouble> {
    let body = arguments.admin.get("/api/purges")?;
    if arguments.json {
        return Ok(print(&String::from_utf8_lossy(&body))?);
    }
    let purges: Vec<Purge> = read(&body)?;
    let mut table = Table::new(&["ID", "BY", "METHOD", "PURGED", "EXPIRED", "TOOK", "WHAT"]);
    for Purge { id, by, method, what, purged, softened, micros } in purges {
        let took = format!("{:.1} ms", micros as f64 / 1000.0);
        table.row([id.to_string(), by, method, purged.to_string(), softened.to_string(), took, what]);
    }
    Ok(print(&table.text())?)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("reading the answer")
}
