//! A purge that the admin listener asks for, and what can be asked about tags and bans.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use clearcoat_cache::{CacheKey, Condition, Entry, Page, PurgeCount, PurgeMode, Store, Tag};
use clearcoat_purge::BanCondition;

use super::Front;
use super::audit::{By, Purged};
use super::purge::url_keys;
use super::route::Treatment;
use crate::admin::PurgeKind;
use crate::admin::purging::{BanView, Order, Report, TagsView, UrlsView};

/// An order with everything in it read.
struct Read {
    tags: Vec<Tag>,
    keys: Vec<CacheKey>,
    /// Hosts and targets of hashes of visitors, each of which has a key of its own.
    contexts: Vec<(String, String)>,
    ban: Option<Arc<BanCondition>>,
}

impl Front {
    /// Carries out a purge, or tells what is wrong with it. Nothing of it is done then. Blocks for as long as it takes.
    pub(crate) fn order(&self, order: &Order) -> Result<Report, String> {
        let started = Instant::now();
        let read = self.read_order(order)?;
        if order.dry_run {
            let would = Some(self.would_purge(order, &read));
            return Ok(Report { would, micros: micros(started), ..Report::default() });
        }
        let mode = if order.soft { PurgeMode::Soft } else { PurgeMode::Hard };
        let now = self.clock.now();
        let mut count = PurgeCount::default();
        // The ban first: it is the only part that can be refused.
        if let Some(ban) = &read.ban {
            self.store.ban(ban.clone(), mode, now).map_err(|error| error.to_string())?;
        }
        if order.all {
            count += self.store.purge_all(mode, now);
        }
        if !read.tags.is_empty() {
            count += self.store.purge_tags(&read.tags, mode, now);
        }
        for key in &read.keys {
            count += self.store.purge_key(*key, mode, now);
        }
        for (host, target) in &read.contexts {
            count += self.purge_contexts(host.as_bytes(), target.as_bytes(), now);
        }
        let kind = match order {
            _ if read.ban.is_some() || order.all => PurgeKind::Ban,
            _ if !read.tags.is_empty() => PurgeKind::Tags,
            _ => PurgeKind::Url,
        };
        let PurgeCount { purged, softened } = count;
        let id = self.note_purge(
            kind,
            &Purged {
                by: By::Admin,
                method: "API",
                what: &what(order, &read),
                purged,
                softened,
                took: started.elapsed(),
            },
        );
        Ok(Report { id, purged, softened, would: None, micros: micros(started) })
    }

    fn read_order(&self, order: &Order) -> Result<Read, String> {
        let tag = |text: &String| Tag::new(text.as_bytes()).map_err(|error| format!("{text:?}: {error}"));
        let tags = order.tags.iter().map(tag).collect::<Result<Vec<_>, _>>()?;
        let mut keys = Vec::new();
        let mut contexts = Vec::new();
        for url in &order.urls {
            let (host, target) = parts(url)?;
            keys.extend(self.keys_of(url)?);
            let routes = &self.routes;
            if routes.find(host.as_bytes(), target.as_bytes()).is_some_and(Treatment::guards_context) {
                contexts.push((host.to_owned(), target.into_owned()));
            }
        }
        let ban = order.ban.as_ref().map(|ban| {
            let parts = [
                ("host", &ban.host),
                ("url", &ban.url),
                ("content-type", &ban.content_type),
                ("tags", &ban.tags),
            ];
            let said = parts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
            BanCondition::read(said).map(Arc::new).map_err(|error| error.to_string())
        });
        let ban = ban.transpose()?;
        if tags.is_empty() && keys.is_empty() && ban.is_none() && !order.all {
            return Err("nothing is named: give tags, urls, ban or all".to_owned());
        }
        Ok(Read { tags, keys, contexts, ban })
    }

    /// How many entries an order names.
    fn would_purge(&self, order: &Order, read: &Read) -> u64 {
        let is_named = |entry: &Arc<Entry>| {
            let page = Page { url: entry.url(), head: entry.head(), tags: entry.tags() };
            order.all
                || read.keys.contains(&entry.key())
                || entry.tags().iter().any(|tag| read.tags.contains(tag))
                || read.ban.as_ref().is_some_and(|ban| ban.names(&page))
        };
        if !order.all && read.ban.is_none() {
            // What names it can be looked up.
            let tagged = read.tags.iter().flat_map(|tag| self.store.tagged(tag, usize::MAX));
            let stored = read.keys.iter().flat_map(|key| self.store.variants(*key));
            return tagged
                .chain(stored)
                .map(|entry| Arc::as_ptr(&entry) as usize)
                .collect::<BTreeSet<_>>()
                .len() as u64;
        }
        (0..Store::PARTS)
            .map(|part| self.store.part(part).iter().filter(|entry| is_named(entry)).count() as u64)
            .sum()
    }

    /// Every key of a URL with scheme and host.
    fn keys_of(&self, url: &str) -> Result<Vec<CacheKey>, String> {
        let (host, target) = parts(url)?;
        let target = self.routes.known_target(host.as_bytes(), target.as_bytes()).into_owned();
        Ok(url_keys(self.store.secret(), host.as_bytes(), &target).to_vec())
    }

    /// The tags of what is stored of a URL, for each variant.
    pub(crate) fn tags_of(&self, url: &str) -> Result<Vec<TagsView>, String> {
        let keys = self.keys_of(url)?;
        let entries = keys.into_iter().flat_map(|key| self.store.variants(key));
        let view = |entry: Arc<Entry>| TagsView {
            url: entry.url().to_owned(),
            tags: entry.tags().iter().map(Tag::to_string).collect(),
        };
        Ok(entries.map(view).collect())
    }

    /// Some URLs that carry a tag.
    pub(crate) fn urls_of(&self, tag: &str, limit: usize) -> Result<UrlsView, String> {
        let tag = Tag::new(tag.as_bytes()).map_err(|error| format!("{tag:?}: {error}"))?;
        let entries = self.store.count_tagged(&tag) as u64;
        let found = self.store.tagged(&tag, limit.saturating_mul(2));
        let urls: BTreeSet<String> = found.iter().map(|entry| entry.url().to_owned()).collect();
        Ok(UrlsView { entries, urls: urls.into_iter().take(limit).collect() })
    }

    /// The bans that are not over.
    pub(crate) fn bans(&self) -> Vec<BanView> {
        let now = self.clock.now();
        let view = |ban: clearcoat_cache::BanReport| BanView {
            condition: ban.text,
            soft: ban.mode == PurgeMode::Soft,
            age_millis: u64::try_from(now.since(ban.at).as_millis()).unwrap_or(u64::MAX),
            struck: ban.struck,
            swept: ban.swept,
        };
        self.store.bans().into_iter().map(view).collect()
    }
}

/// Host and target of a URL.
fn parts(url: &str) -> Result<(&str, Cow<'_, str>), String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let (host, target) = rest
        .map(|rest| rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| format!("{url:?} is no URL: write http://HOST/PATH"))?;
    Ok((host, if target.starts_with('/') { target.into() } else { format!("/{target}").into() }))
}

fn micros(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// An order for the log.
fn what(order: &Order, read: &Read) -> String {
    let mut parts = Vec::new();
    if order.all {
        parts.push("everything".to_owned());
    }
    if let Some(ban) = &read.ban {
        parts.push(ban.text().to_owned());
    }
    if !order.tags.is_empty() {
        parts.push(format!("tags {}", order.tags.join(" ")));
    }
    if !order.urls.is_empty() {
        parts.push(order.urls.join(" "));
    }
    format!("{}{}", if order.soft { "soft " } else { "" }, parts.join(", "))
}
