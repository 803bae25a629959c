//! `[cache]`, with lifetimes by status wherever they stand.

use std::collections::BTreeMap;

use super::{Check, count, distinct, number};
use crate::config::{
    Cache, Coding, Compress, HeaderName, StatusKey, StatusTtls, TypePattern, default, parse_net,
};
use crate::error::Invalid;
use crate::file::{At, CacheTable, CodingWord, CompressTable, DurationText};
use crate::units;

/// Checks the table, or fills in its defaults.
pub(super) fn check(check: &mut Check<'_>, table: Option<At<CacheTable>>) -> Cache {
    let table = table.map(|at| at.value).unwrap_or_default();
    let memory =
        check.size(table.memory.as_ref(), default::CACHE_MEMORY_MIN..=u64::MAX, default::CACHE_MEMORY);
    let memory_is_good = !check.is_wrong("cache.memory");
    let mut within_memory = |at: &Option<At<_>>, default: u64| {
        let bytes = check.size(at.as_ref(), 1..=u64::MAX, default);
        if let (true, true, Some(at)) = (memory_is_good, bytes > memory, at) {
            let (bytes, memory) = (units::show_size(bytes), units::show_size(memory));
            check.report(&at.span, format!("{bytes} is more than cache.memory, {memory}"), "make it smaller");
        }
        bytes
    };
    let max_entry = within_memory(&table.max_entry, default::max_entry(memory));
    let max_tag_bytes = within_memory(&table.max_tag_bytes, default::CACHE_MAX_TAG_BYTES);
    Cache {
        memory,
        max_entry,
        default_ttl: check.duration(table.default_ttl, default::CACHE_DEFAULT_TTL),
        grace: check.duration(table.grace, default::CACHE_GRACE),
        keep: check.duration(table.keep, default::CACHE_KEEP),
        uncacheable_ttl: check.duration(table.uncacheable_ttl, default::CACHE_UNCACHEABLE_TTL),
        unsafe_invalidates: table.unsafe_invalidates.is_none_or(|word| word.value),
        max_variants: count(table.max_variants, default::CACHE_MAX_VARIANTS),
        max_tag_bytes,
        stale_if_error: check.duration(table.stale_if_error, default::CACHE_STALE_IF_ERROR),
        status_ttl: table.status_ttl.map(|at| status_ttl(check, at)).unwrap_or_default(),
        heuristic_percent: number(table.heuristic_percent, default::CACHE_HEURISTIC_PERCENT),
        grace_over_revalidate: table.grace_over_revalidate.is_some_and(|word| word.value),
        targeted_fields: match table.targeted_fields {
            Some(list) => distinct(check, list, "field", targeted_field),
            None => Cache::default().targeted_fields,
        },
        keep_targeted_fields: table.keep_targeted_fields.is_none_or(|word| word.value),
        surrogate_control: table.surrogate_control.is_none_or(|word| word.value),
        reverse_proxy_ttl: table.reverse_proxy_ttl.is_none_or(|word| word.value),
        debug_clients: match table.debug_clients {
            Some(list) => distinct(check, list, "network", parse_net),
            None => Vec::new(),
        },
        finish_abandoned: check.size(
            table.finish_abandoned.as_ref(),
            0..=u64::MAX,
            default::CACHE_FINISH_ABANDONED,
        ),
        compress: compress(check, table.compress),
    }
}

/// Lifetimes by status.
pub(super) fn status_ttl(
    check: &mut Check<'_>,
    table: At<BTreeMap<At<String>, At<DurationText>>>,
) -> StatusTtls {
    let mut lifetimes = Vec::with_capacity(table.value.len());
    for (status, ttl) in table.value {
        let status = check.value::<StatusKey>(&status);
        let ttl = check.read(&ttl.span, units::duration(&ttl.value.0));
        lifetimes.extend(status.zip(ttl));
    }
    StatusTtls::new(lifetimes)
}

/// The name of a field that may take the place of `Cache-Control`.
fn targeted_field(text: &str) -> Result<HeaderName, Invalid> {
    let name: HeaderName = text.parse()?;
    match name.as_str() {
        "cache-control" | "expires" | "pragma" => Err(Invalid::new(
            format!("{text} is read where no targeted field is"),
            "take it out; a name such as CDN-Cache-Control is meant",
        )),
        "surrogate-control" | "x-reverse-proxy-ttl" => Err(Invalid::new(
            format!("{text} is no targeted field"),
            format!("write {} = true", name.as_str().trim_start_matches("x-").replace('-', "_")),
        )),
        _ => Ok(name),
    }
}

fn compress(check: &mut Check<'_>, table: Option<At<CompressTable>>) -> Compress {
    let mut compress = Compress::default();
    let Some(At { value: table, .. }) = table else { return compress };
    compress.enabled = table.enabled.is_some_and(|word| word.value);
    if let Some(list) = table.codings {
        compress.codings = codings(check, list);
    }
    if let Some(list) = table.types {
        if list.value.is_empty() && !check.damaged.contains(&list.span) {
            check.report(
                &list.span,
                "there is no type to compress",
                "write enabled = false to compress nothing",
            );
        }
        compress.types = distinct(check, list, "type", |text| text.parse::<TypePattern>());
    }
    // The key that is written is the one to change; with both, the smaller size.
    let span = table.min_size.as_ref().or(table.max_size.as_ref()).map(|at| at.span.clone());
    compress.min_size = check.size(table.min_size.as_ref(), 0..=u64::MAX, default::COMPRESS_MIN_SIZE);
    compress.max_size = check.size(table.max_size.as_ref(), 1..=u64::MAX, default::COMPRESS_MAX_SIZE);
    let sizes_are_good =
        !check.is_wrong("cache.compress.min_size") && !check.is_wrong("cache.compress.max_size");
    if let (true, true, Some(span)) = (sizes_are_good, compress.min_size > compress.max_size, span) {
        check.report(
            &span,
            format!(
                "no body is {} or larger and {} or smaller",
                units::show_size(compress.min_size),
                units::show_size(compress.max_size)
            ),
            "make min_size at most max_size",
        );
    }
    compress
}

fn codings(check: &mut Check<'_>, list: At<Vec<At<CodingWord>>>) -> Vec<Coding> {
    if list.value.is_empty() && !check.damaged.contains(&list.span) {
        check.report(&list.span, "there is no coding to offer", "write enabled = false to compress nothing");
    }
    let mut codings = Vec::with_capacity(list.value.len());
    for at in list.value {
        let coding = match at.value {
            CodingWord::Br => Coding::Brotli,
            CodingWord::Zstd => Coding::Zstd,
            CodingWord::Gzip => Coding::Gzip,
        };
        if codings.contains(&coding) {
            check.report(&at.span, format!("the coding {coding} stands in this list already"), "take it out");
            continue;
        }
        codings.push(coding);
    }
    codings
}
