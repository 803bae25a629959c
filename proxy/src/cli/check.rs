//! `check` and `schema`: the configuration without running it.

use std::path::PathBuf;

use anyhow::Context as _;
use clearcoat_conf::{Config, LogFormat, LogLevel};

use super::{Trouble, print};
use crate::admin::logs;
use crate::assemble;

/// Read a configuration and tell every mistake in it.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Print the whole configuration, every default filled in, and where each rule of a site or route comes from.
    #[arg(long)]
    explain: bool,
}

/// A variable of this process's environment, for `{ env = … }` in a configuration.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Tells every mistake of a file, or that there is none; then, if that is wanted, what the file comes to. Certificates are
/// read too, unless it is only explained.
pub(super) fn command(arguments: &Arguments) -> Result<(), Trouble> {
    if arguments.explain {
        let page = clearcoat_conf::explain_file(&arguments.config, &environment)?;
        return Ok(print(page.trim_start())?);
    }
    let config = clearcoat_conf::load(&arguments.config, &environment)?;
    // What a start would stumble over besides, as `nginx -t` does.
    assemble::tls::acceptors(&config)?;
    let warnings = assemble::privileges::look_ahead(&config)?;
    let file = arguments.config.display();
    let warnings: String = warnings.iter().map(|warning| format!("{file}: warning: {warning}\n")).collect();
    Ok(print(&format!("{warnings}{file}: no mistakes\n"))?)
}

/// Prints the JSON Schema of the configuration, for editors.
pub(super) fn schema() -> Result<(), Trouble> {
    let schema = serde_json::to_string_pretty(&clearcoat_conf::schema()).context("writing the schema")?;
    Ok(print(&format!("{schema}\n"))?)
}

/// Begins logging as the configuration says.
pub(super) fn begin_log(config: &Config) -> Result<(), Trouble> {
    let format = match config.log.format {
        LogFormat::Pretty => logs::Format::Pretty,
        LogFormat::Json => logs::Format::Json,
    };
    let level = match config.log.level {
        LogLevel::Error => logs::Level::Error,
        LogLevel::Warn => logs::Level::Warn,
        LogLevel::Info => logs::Level::Info,
        LogLevel::Debug => logs::Level::Debug,
        LogLevel::Trace => logs::Level::Trace,
    };
    Ok(logs::begin(format, level)?)
}
