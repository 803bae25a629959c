//! The access log, as the configuration has it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clearcoat_conf as conf;

use crate::access::mask::{self, Mask};
use crate::access::{AccessLog, AccessSettings, Destination, File, Format};
use crate::admin::Counters;
use crate::front::request_id::RequestIds;
use crate::process;

/// How long the end of the process waits for the last lines to be written.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

/// Opens the file of the access log, if there is to be one. One that is made belongs to the user whom the process becomes, who
/// will have to open it anew.
///
/// # Errors
///
/// If it cannot be opened, or there is no such user or group.
pub(super) fn open_access_log(config: &conf::Config) -> anyhow::Result<Option<Destination>> {
    let Some(access) = &config.log.access else { return Ok(None) };
    let (file, name) = match &access.target {
        conf::AccessTarget::Stdout => (File::Stdout, "standard output".to_owned()),
        conf::AccessTarget::File(path) => (File::Path(path.clone()), path.display().to_string()),
    };
    let owner = process::future_owner(config.process.user.as_deref(), config.process.group.as_deref())
        .context("process.user")?;
    let destination = Destination::open(&file, owner)
        .with_context(|| format!("opening the access log {name} (log.access.file)"))?;
    Ok(Some(destination))
}

/// How requests get their ids. What no log shows is masked from here on.
///
/// # Errors
///
/// None with a name that was checked.
pub(super) fn request_ids(config: &conf::Config) -> anyhow::Result<RequestIds> {
    let conf::RequestIds { enabled, header } = &config.log.request_id;
    mask::begin(Mask::new(config.log.mask.iter().map(conf::MaskedName::as_str)));
    let header = header.as_str().parse().context("log.request_id.header")?;
    Ok(RequestIds { header, enabled: *enabled })
}

/// Starts writing it, for so many threads that answer requests.
///
/// # Errors
///
/// If there can be no thread for it.
pub(super) fn access_log(
    config: &conf::Config,
    destination: Option<Destination>,
    threads: usize,
    counters: &Arc<Counters>,
) -> anyhow::Result<Option<Arc<AccessLog>>> {
    let (Some(access), Some(destination)) = (&config.log.access, destination) else { return Ok(None) };
    let settings = AccessSettings {
        format: match access.format {
            conf::AccessFormat::Combined => Format::Combined,
            conf::AccessFormat::Json => Format::Json,
        },
        buffer_bytes: access.buffer_bytes,
        threads,
    };
    let log =
        AccessLog::start(destination, &settings, counters.clone()).context("starting the access log")?;
    Ok(Some(log))
}
