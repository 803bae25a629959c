//! The settings of single parts, as the configuration has them.

use clearcoat_cache::coding::Coding;
use clearcoat_conf as conf;

use super::routes::header_names;
use crate::encode::EncodeSettings;
use crate::fetch::FetchSettings;
use crate::listen::connection::Waits;
use crate::listen::head::{HeadLimits, MAX_HEADERS};
use crate::listen::http2::Http2Settings;
use crate::listen::lane::LaneSettings;
use crate::listen::pace::Patience;

pub(super) fn store(config: &conf::Config) -> clearcoat_cache::Settings {
    clearcoat_cache::Settings {
        memory_bytes: config.cache.memory,
        max_variants: config.cache.max_variants.get(),
        max_marks: usize::try_from(config.cache.memory / MEMORY_OF_A_MARK)
            .unwrap_or(MAX_MARKS)
            .min(MAX_MARKS),
    }
}

/// Marks of URLs that were not for sharing; 64 bytes each at most.
const MAX_MARKS: usize = 100_000;

/// For so many bytes of memory there is one mark: they come off it beforehand, and must not take more than a sixteenth.
const MEMORY_OF_A_MARK: u64 = 1024;

/// The largest request body that is taken in whole before a node is asked. No client can make a connection keep more by it
/// than by a long head, so the limit of heads bounds it too.
const SMALL_BODY: u64 = 64 * 1024;

pub(super) fn lane(config: &conf::Config) -> LaneSettings {
    let limits = &config.limits;
    LaneSettings {
        head: HeadLimits {
            bytes: limits.header_bytes as usize,
            count: (limits.header_count.get() as usize).min(MAX_HEADERS),
            url_bytes: limits.url_bytes as usize,
        },
        waits: Waits {
            header: limits.header_timeout,
            idle: limits.idle_timeout,
            write: Patience { silence: limits.write_timeout, rate: limits.min_response_rate },
            tunnel: limits.tunnel_timeout,
        },
        connections: limits.max_connections.get(),
        requests_per_connection: limits.requests_per_connection,
        http2: Http2Settings { streams: limits.http2_streams.get() },
        small_body: u64::from(limits.header_bytes).min(SMALL_BODY).min(limits.max_body.unwrap_or(u64::MAX)),
        body: Patience { silence: limits.body_timeout, rate: limits.min_body_rate },
        lifetime: limits.request_lifetime,
    }
}

pub(super) fn encode(compress: &conf::Compress) -> EncodeSettings {
    let coding = |coding: &conf::Coding| match coding {
        conf::Coding::Brotli => Coding::Br,
        conf::Coding::Zstd => Coding::Zstd,
        conf::Coding::Gzip => Coding::Gzip,
    };
    EncodeSettings {
        codings: compress.codings.iter().map(coding).collect(),
        types: compress.types.clone(),
        min_bytes: compress.min_size,
        max_bytes: compress.max_size,
    }
}

pub(super) fn fetch(config: &conf::Config) -> anyhow::Result<FetchSettings> {
    Ok(FetchSettings {
        max_entry_bytes: config.cache.max_entry,
        tag_headers: header_names(&config.purge.tag_headers)?,
        max_tag_bytes: usize::try_from(config.cache.max_tag_bytes).unwrap_or(usize::MAX),
        keep_tag_headers: config.purge.keep_tag_headers,
        collapse_waiters: config.limits.collapse_waiters.get(),
        finish_abandoned: config.cache.finish_abandoned,
    })
}
