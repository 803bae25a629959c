//! The small parts: `[limits]`, `[log]`, and secrets wherever they stand.

use super::{Check, count, distinct, number, optional_count, text_file};
use crate::config::{
    AccessFormat, AccessLog, AccessTarget, EsiLimits, HeaderName, Limits, Log, LogFormat, LogLevel,
    MaskedName, RequestIds, Secret, default,
};
use crate::error::Invalid;
use crate::file::{
    AccessFormatWord, AccessLogTable, At, FormatWord, LevelWord, LimitsTable, LogTable, RequestIdTable,
    SecretEntry,
};
use crate::units;

/// The largest file that is read for a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 << 10;

pub(super) fn limits(check: &mut Check<'_>, table: Option<At<LimitsTable>>) -> Limits {
    /// Beyond this a header is an upload.
    const MAX_HEADER_BYTES: u64 = 1 << 20;
    /// Whoever asks for more a second means something else.
    const MAX_RATE: u64 = 1 << 20;
    const ZERO: &str = "zero is not possible here";
    const NO_LIMIT: &str = "leave the key out to have no limit";

    let table = table.map(|at| at.value).unwrap_or_default();
    let header_bytes =
        check.size(table.header_bytes.as_ref(), 1024..=MAX_HEADER_BYTES, default::HEADER_BYTES.into());
    let url_bytes = check.size(table.url_bytes.as_ref(), 256..=MAX_HEADER_BYTES, default::URL_BYTES.into());
    // The key that is written is the one to change; with both, the URL's.
    let url_span = table.url_bytes.as_ref().or(table.header_bytes.as_ref()).map(|at| at.span.clone());
    let both_are_good = !check.is_wrong("limits.header_bytes") && !check.is_wrong("limits.url_bytes");
    if let (true, true, Some(span)) = (both_are_good, url_bytes > header_bytes, url_span) {
        check.report(
            &span,
            format!(
                "a URL of {} does not fit into a header of {}",
                units::show_size(url_bytes),
                units::show_size(header_bytes)
            ),
            "make url_bytes at most header_bytes",
        );
    }
    const LONG: &str = "write a long time, such as 1h, if it should hardly ever end";
    Limits {
        header_bytes: u32::try_from(header_bytes).unwrap_or(default::HEADER_BYTES),
        header_count: count(table.header_count, default::HEADER_COUNT),
        header_timeout: check.positive_duration(table.header_timeout, default::HEADER_TIMEOUT, LONG),
        idle_timeout: check.positive_duration(
            table.idle_timeout,
            default::KEEP_ALIVE_TIMEOUT,
            "write requests_per_connection = 1 to close connections at once",
        ),
        body_timeout: check.positive_duration(table.body_timeout, default::BODY_TIMEOUT, LONG),
        write_timeout: check.positive_duration(table.write_timeout, default::WRITE_TIMEOUT, LONG),
        min_body_rate: check.size(table.min_body_rate.as_ref(), 0..=MAX_RATE, default::MIN_RATE),
        min_response_rate: check.size(table.min_response_rate.as_ref(), 0..=MAX_RATE, default::MIN_RATE),
        request_lifetime: table.request_lifetime.and_then(|at| {
            let lifetime = check.read(&at.span, units::duration(&at.value.0))?;
            if lifetime.is_zero() {
                check.report(&at.span, ZERO, NO_LIMIT);
            }
            Some(lifetime)
        }),
        tunnel_timeout: check.positive_duration(table.tunnel_timeout, default::TUNNEL_TIMEOUT, LONG),
        url_bytes: u32::try_from(url_bytes).unwrap_or(default::URL_BYTES),
        max_connections: optional_count(table.max_connections).unwrap_or(default::MAX_CONNECTIONS),
        connections_per_client: optional_count(table.connections_per_client),
        requests_per_connection: number(table.requests_per_connection, default::REQUESTS_PER_CONNECTION),
        collapse_timeout: check.duration(table.collapse_timeout, default::COLLAPSE_TIMEOUT),
        collapse_waiters: count(table.collapse_waiters, default::COLLAPSE_WAITERS),
        max_body: table.max_body.and_then(|at| check.body_size(&at)).map(u64::from),
        esi: EsiLimits {
            depth: count(table.esi_depth, default::ESI_DEPTH),
            fragments: count(table.esi_fragments, default::ESI_FRAGMENTS),
            bytes: check.size(table.esi_bytes.as_ref(), 1..=u64::MAX, default::ESI_BYTES),
            timeout: check.positive_duration(table.esi_timeout, default::ESI_TIMEOUT, LONG),
        },
        http2_streams: count(table.http2_streams, default::HTTP2_STREAMS),
    }
}

pub(super) fn log(check: &mut Check<'_>, table: Option<At<LogTable>>) -> Log {
    let table = table.map(|at| at.value).unwrap_or_default();
    let level = table.level.map_or(LogLevel::default(), |at| match at.value {
        LevelWord::Error => LogLevel::Error,
        LevelWord::Warn => LogLevel::Warn,
        LevelWord::Info => LogLevel::Info,
        LevelWord::Debug => LogLevel::Debug,
        LevelWord::Trace => LogLevel::Trace,
    });
    let format = table.format.map_or(LogFormat::default(), |at| match at.value {
        FormatWord::Pretty => LogFormat::Pretty,
        FormatWord::Json => LogFormat::Json,
    });
    let access = table.access.and_then(|table| access_log(check, table.value));
    let mask = match table.mask {
        Some(list) => distinct(check, list, "parameter", |text| text.parse::<MaskedName>()),
        None => MaskedName::usual(),
    };
    Log { level, format, access, mask, request_id: request_id(check, table.request_id) }
}

fn request_id(check: &mut Check<'_>, table: Option<At<RequestIdTable>>) -> RequestIds {
    let table = table.map(|at| at.value).unwrap_or_default();
    let usual = RequestIds::default();
    let header = table.header.and_then(|at| {
        let name = check.value::<HeaderName>(&at)?;
        let text = name.as_str();
        // Others mean something already, and PHP cannot tell _ from -.
        let is_free = text.starts_with("x-") && !text.starts_with("x-forwarded-") && !text.contains('_');
        if !is_free {
            let message = format!("{:?} cannot tell the id of a request", at.value);
            check.report(&at.span, message, "choose a name such as X-Request-Id or X-Correlation-Id");
        }
        is_free.then_some(name)
    });
    RequestIds {
        enabled: table.enabled.map_or(usual.enabled, |at| at.value),
        header: header.unwrap_or(usual.header),
    }
}

/// `None` only together with a mistake.
fn access_log(check: &mut Check<'_>, table: AccessLogTable) -> Option<AccessLog> {
    let buffer_bytes =
        check.size(table.buffer.as_ref(), default::ACCESS_LOG_BUFFER_BOUNDS, default::ACCESS_LOG_BUFFER);
    let format = table.format.map_or(AccessFormat::default(), |at| match at.value {
        AccessFormatWord::Combined => AccessFormat::Combined,
        AccessFormatWord::Json => AccessFormat::Json,
    });
    // A missing key has been reported by its shape.
    let file = table.file?;
    let target = match file.value.as_str() {
        "" => {
            check.report(&file.span, "the path is empty", "name a file, or write \"stdout\"");
            return None;
        }
        "stdout" => AccessTarget::Stdout,
        path => AccessTarget::File(check.path(path)),
    };
    Some(AccessLog { target, format, buffer_bytes })
}

/// A secret, from wherever it stands.
pub(super) fn secret(check: &mut Check<'_>, entry: At<SecretEntry>) -> Option<Secret> {
    let At { span, value } = entry;
    let source = match value {
        SecretEntry::Text(text) => return check.read(&span, text.parse()),
        SecretEntry::Source(source) => source,
    };
    match (source.env, source.file) {
        (Some(variable), None) => match (check.env)(&variable.value) {
            Some(text) if !text.is_empty() => check.read(&variable.span, text.parse()),
            found => {
                let state = if found.is_some() { "empty" } else { "not set" };
                let message = format!("the environment variable {:?} is {state}", variable.value);
                check.report(&variable.span, message, "set it where clearcoat is started");
                None
            }
        },
        (None, Some(file)) => {
            let read = read_secret(check, &check.path(&file.value));
            let text = check.read(&file.span, read)?;
            check.read(&file.span, text.parse())
        }
        (Some(_), Some(file)) => {
            check.report(&file.span, "a secret has one source", "keep env or file");
            None
        }
        (None, None) => {
            if !check.damaged.contains(&span) {
                check.report(
                    &span,
                    "the source of the secret is missing",
                    "write { env = \"NAME\" } or { file = \"PATH\" }",
                );
            }
            None
        }
    }
}

/// Reads a secret's file, without the line breaks at its end.
fn read_secret(check: &Check<'_>, path: &std::path::Path) -> Result<String, Invalid> {
    let text = text_file::read(check, path, MAX_SECRET_BYTES)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        let shown = path.display().to_string();
        return Err(Invalid::new(format!("{shown:?} is empty"), "write the secret into it"));
    }
    Ok(text.to_owned())
}
