//! The command line: which words there are, and what a process of each does and returns.
//!
//! Exit codes: 0 good; 1 something failed; 2 the configuration or the command line is wrong, and nothing was started.
//! Results go to standard output, everything else to standard error. The running edge is started by the [`Run`] that
//! `main` hands in; this room only gets it a configuration.

mod admin;
mod check;
mod client;
mod demo;
mod log;
mod ports;
mod purge;
mod reload;
mod run;
mod status;
mod table;
mod tags;
#[cfg(test)]
mod test;
mod why;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use clearcoat_conf::{Config, Mistakes};

use crate::admin::Extra;
use crate::assemble::Source;

/// Starts the edge with a configuration, with what reads it again if there is a file, and with more routes on the admin listener if there are any; comes back when
/// it was told to end.
pub(crate) type Run = fn(Config, Option<Source>, Option<Arc<dyn Extra>>) -> anyhow::Result<()>;

/// An HTTP cache and load balancer for the web nodes of a PHP cluster.
#[derive(Debug, Parser)]
#[command(name = "clearcoat", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the edge in the foreground.
    Run(run::Arguments),
    /// Read a configuration and tell every mistake in it.
    Check(check::Arguments),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Try it: three small web nodes, the edge in front of them, and a tour to paste.
    Demo(demo::Arguments),
    /// Remove pages from the cache of a running edge, by tag or by URL.
    Purge(purge::Arguments),
    /// Show the last purges: who sent them, what they named, how many pages went.
    Purges(tags::PurgesArguments),
    /// Show the tags of what is stored of a URL.
    Tags(tags::TagsArguments),
    /// Show which URLs carry a tag.
    Urls(tags::UrlsArguments),
    /// Let a running edge read its configuration again; what is wrong with it is told, and the one before goes on.
    Reload(reload::ReloadArguments),
    /// Put an earlier configuration of a running edge into force again.
    Rollback(reload::RollbackArguments),
    /// Show the last configurations of a running edge, and how they differ.
    Configurations(reload::ConfigurationsArguments),
    /// Show what a running edge says about itself.
    Status(status::Arguments),
    /// Tell what the next request of a URL would meet, and why; nothing is requested.
    Why(why::Arguments),
    /// Show requests of a running edge while they are answered.
    Log(log::Arguments),
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(#[from] Mistakes),
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Trouble {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

/// Does what the command line says. Wrong usage ends the process with exit code 2 and a hint.
pub(crate) fn main(run: Run) -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::command(arguments, run),
        Command::Check(arguments) => check::command(&arguments),
        Command::Schema => check::schema(),
        Command::Demo(arguments) => demo::command(&arguments, run),
        Command::Purge(arguments) => purge::command(&arguments),
        Command::Purges(arguments) => tags::purges(&arguments),
        Command::Tags(arguments) => tags::tags(&arguments),
        Command::Urls(arguments) => tags::urls(&arguments),
        Command::Reload(arguments) => reload::reload(&arguments),
        Command::Rollback(arguments) => reload::roll_back(&arguments),
        Command::Configurations(arguments) => reload::configurations(&arguments),
        Command::Status(arguments) => status::command(&arguments),
        Command::Why(arguments) => why::command(&arguments),
        Command::Log(arguments) => log::command(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            // Where standard error is closed, the exit code still tells.
            let _ = writeln!(io::stderr(), "{trouble}");
            trouble.exit_code()
        }
    }
}

/// Writes a result to standard output. A reader that has seen enough (`| head`) is not an error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn usage_is_checked() {
        for (line, good) in [
            ("run --config a.toml", true),
            ("run --to 10.0.0.11:80", true),
            (
                "run --to 10.0.0.11:80 --to web-2:80 --listen 127.0.0.1:80 --memory 2GiB --admin 127.0.0.1:1",
                true,
            ),
            ("run", false),
            ("run --config a.toml --to 10.0.0.11:80", false),
            ("run --config a.toml --memory 1GiB", false),
            ("run --to 10.0.0.11:80 --listen 80", false),
            ("run --to 10.0.0.11:80 --preset ez-platform", true),
            ("run --to 10.0.0.11:80 --preset ez", false),
            ("run --config a.toml --preset ez-platform", false),
            ("check", false),
            ("check --config a.toml", true),
            ("check --config a.toml --explain", true),
            ("schema", true),
            ("demo", true),
            ("demo --listen 127.0.0.1:0 --admin 127.0.0.1:0", true),
            ("demo --listen localhost", false),
            ("purge", false),
            ("purge --tag a --tag b --url /c --to 127.0.0.1:80", true),
            ("purge --soft --url /c", false),
            ("purge --soft --tag c", true),
            ("status", true),
            ("status --admin http://127.0.0.1:6082/", true),
            ("status --admin https://127.0.0.1:6082", false),
            ("log", true),
            ("log status>=500 --json --limit 3", true),
            ("log --limit 0", false),
            ("why", false),
            ("why http://a/b", true),
            (
                "why /b --host a --method HEAD -H Accept:x -H Cookie:y --json --admin 127.0.0.1:1 --token t",
                true,
            ),
        ] {
            let parsed = Arguments::try_parse_from(["clearcoat"].into_iter().chain(line.split(' ')));
            assert_eq!(parsed.is_ok(), good, "{line}: {:?}", parsed.err().map(|error| error.to_string()));
        }
    }
}
