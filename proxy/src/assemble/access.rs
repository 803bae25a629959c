//! The access log, as the configuration has it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clearcoat_conf as conf;

use crate::access::{AccessLog, AccessSettings, File, Format};
use crate::admin::Counters;

/// How long the end of the process waits for the last lines to be written.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

/// Opens the access log, if there is to be one, for so many threads that answer requests.
///
/// # Errors
///
/// If its file cannot be opened.
pub(super) fn access_log(
    config: &conf::Config,
    threads: usize,
    counters: &Arc<Counters>,
) -> anyhow::Result<Option<Arc<AccessLog>>> {
    let Some(access) = &config.log.access else { return Ok(None) };
    let (file, name) = match &access.target {
        conf::AccessTarget::Stdout => (File::Stdout, "standard output".to_owned()),
        conf::AccessTarget::File(path) => (File::Path(path.clone()), path.display().to_string()),
    };
    let settings = AccessSettings {
        file,
        format: match access.format {
            conf::AccessFormat::Combined => Format::Combined,
            conf::AccessFormat::Json => Format::Json,
        },
        buffer_bytes: access.buffer_bytes,
        threads,
    };
    let log = AccessLog::start(&settings, counters.clone())
        .with_context(|| format!("opening the access log {name} (log.access.file)"))?;
    Ok(Some(log))
}
