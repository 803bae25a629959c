//! `[log]`: Clearcoat's own log and the access log.

use std::path::PathBuf;

use super::{HeaderName, MaskedName};

/// Clearcoat's own log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// The least important level that is written. Default `info`.
    pub level: LogLevel,
    /// How a line looks. Default `pretty`.
    pub format: LogFormat,
    /// One record for each request of a visitor. `None`, the default: none.
    pub access: Option<AccessLog>,
    /// Parameters of URLs whose values no log shows. Default: `*token`, `*password*`, `*secret*`, `key`, `*signature`, `*hash` and their
    /// kin; an empty list masks nothing.
    pub mask: Vec<MaskedName>,
    /// What stands for a request in every log.
    pub request_id: RequestIds,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: LogLevel::default(),
            format: LogFormat::default(),
            access: None,
            mask: MaskedName::usual(),
            request_id: RequestIds::default(),
        }
    }
}

/// What stands for a request, here, in the logs of a balancer in front and in those of the application.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestIds {
    /// Whether nodes are told an id with each request. If not, what clients say goes on as it is. Default true.
    pub enabled: bool,
    /// The header that says it. An id of 1 to 128 letters, digits and `-._~:/+=@` that comes from a trusted proxy goes on; all
    /// other requests get one of 32 hexadecimal digits. Default `X-Request-Id`, as by HAProxy's `unique-id-header` and nginx's
    /// `$request_id`.
    pub header: HeaderName,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { enabled: true, header: HeaderName::request_id() }
    }
}

/// The access log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// Where records go. No default.
    pub target: AccessTarget,
    /// How a record looks. Default [`AccessFormat::Combined`].
    pub format: AccessFormat,
    /// The most bytes of records that may wait to be written; those that do not fit are dropped and counted, so that a slow
    /// disk never slows a visitor. Default 4 MiB, 64 KiB to 1 GiB.
    pub buffer_bytes: u64,
}

/// Where the access log goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AccessTarget {
    /// To standard output.
    Stdout,
    /// To the end of this file, which is made if there is none.
    File(PathBuf),
}

/// How a record of the access log looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AccessFormat {
    /// The line that Apache and nginx call combined, as varnishncsa writes it by default.
    #[default]
    Combined,
    /// One JSON object per line.
    Json,
}

impl AccessFormat {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Combined => "combined",
            Self::Json => "json",
        }
    }
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// A limit fired, a node went down.
    Warn,
    /// Start, reload, shutdown and what an operator wants to know.
    #[default]
    Info,
    /// One or more lines per request.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        }
    }
}
