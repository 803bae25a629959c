//! The `[log]` table as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::{At, SizeText};

/// Clearcoat's own log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogTable {
    /// The least important level that is written. Default info.
    pub(crate) level: Option<At<LevelWord>>,
    /// How a line looks. Default pretty.
    pub(crate) format: Option<At<FormatWord>>,
    /// The access log: one record for each request. Default: none.
    pub(crate) access: Option<At<AccessLogTable>>,
    /// Parameters of URLs whose values no log shows; a * at the begin or end stands for anything, case does not count. Default: tokens,
    /// passwords, secrets, keys, signatures, hashes and sessions.
    #[schemars(extend("examples" = [["*token", "*password*", "sig"]]))]
    pub(crate) mask: Option<At<Vec<At<String>>>>,
    /// What stands for a request in every log.
    pub(crate) request_id: Option<At<RequestIdTable>>,
}

/// What stands for a request in every log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestIdTable {
    /// Whether nodes are told an id with each request. If not, what clients say goes on as it is. Default true.
    pub(crate) enabled: Option<At<bool>>,
    /// The header that says it; believed where it comes from trusted_proxies. Default X-Request-Id.
    pub(crate) header: Option<At<String>>,
}

/// The access log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessLogTable {
    /// Where it is written: a file, from the folder of this file, or stdout.
    #[schemars(required, extend("examples" = ["/var/log/clearcoat/access.log", "stdout"]))]
    pub(crate) file: Option<At<String>>,
    /// How a record looks. Default combined.
    pub(crate) format: Option<At<AccessFormatWord>>,
    /// The most bytes of records that wait to be written, 64KiB to 1GiB; more are dropped and counted. Default 4MiB.
    pub(crate) buffer: Option<At<SizeText>>,
}

/// How a record of the access log looks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum AccessFormatWord {
    /// The line that Apache, nginx and varnishncsa call combined.
    Combined,
    /// One JSON object per line.
    Json,
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum LevelWord {
    /// Something failed.
    Error,
    /// A limit fired, a node went down.
    Warn,
    /// What an operator wants to know.
    Info,
    /// One or more lines per request.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum FormatWord {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}
