//! Setting up the log: one line per event on standard error, for people or as JSON.
//!
//! Pingora logs through the `log` crate; its records pass through the same filter and format. It reports every client
//! that breaks off as an error of its own, so it is heard from `warn` upwards only and never below our own level. Its
//! connectors are not heard at all: what they say of a failed connection is in our own line with the node, and that a
//! kept-alive connection was gone is nothing to tell.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _};
use std::panic;
use std::thread;

use anyhow::{Context as _, anyhow};
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The environment variable whose directives replace the level, in the syntax of `tracing_subscriber::EnvFilter`:
/// `RUST_LOG=info,clearcoat::pool=debug`.
const FILTER_VARIABLE: &str = "RUST_LOG";

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Format {
    /// For people, in colour on a terminal.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

/// From where on events are logged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Level {
    /// What needs somebody.
    Error,
    /// What somebody should know.
    Warn,
    /// What happens rarely: starts, nodes that come and go.
    #[default]
    Info,
    /// What happens per request.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The filter for this level. The `h2` crate warns of every frame that it did not expect, and any client can send a
    /// million of them; what matters of it is counted and logged by us.
    const fn directives(self) -> &'static str {
        match self {
            Self::Error => "error,pingora_core::connectors=off,h2=off",
            Self::Warn => "warn,pingora_core::connectors=off,h2=off",
            Self::Info => "info,pingora=warn,pingora_core::connectors=off,h2=off",
            Self::Debug => "debug,pingora=warn,pingora_core::connectors=off,h2=off,hickory=warn",
            Self::Trace => "trace,pingora=warn,pingora_core::connectors=off,hickory=warn",
        }
    }
}

/// Begins logging to standard error, and makes panics part of the log. To be called once, before threads start.
///
/// # Errors
///
/// If `RUST_LOG` cannot be read, or if logging has begun already.
pub(crate) fn begin(format: Format, level: Level) -> anyhow::Result<()> {
    let filter = filter(std::env::var(FILTER_VARIABLE).ok().as_deref(), level)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    // `try_init` also routes the records of the `log` crate here.
    let begun = match format {
        Format::Pretty => registry.with(layer.with_ansi(io::stderr().is_terminal())).try_init(),
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    begun.context("setting up the log")?;
    log_panics();
    Ok(())
}

fn filter(variable: Option<&str>, level: Level) -> anyhow::Result<EnvFilter> {
    match variable {
        Some(directives) if !directives.trim().is_empty() => EnvFilter::try_new(directives)
            .map_err(|error| anyhow!("{FILTER_VARIABLE}={directives:?} cannot be read: {error}")),
        Some(_) | None => EnvFilter::try_new(level.directives()).context("reading a filter of our own"),
    }
}

/// A panic ends the task in which it happens and nothing else; it must not go unseen among JSON lines.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("a panic without a message");
        let backtrace = Backtrace::capture();
        let thread = thread.name().unwrap_or("unnamed");
        match backtrace.status() {
            BacktraceStatus::Captured => error!(thread, place, %backtrace, "panic: {what}"),
            _ => error!(thread, place, "panic: {what}"),
        }
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_level_is_a_filter() {
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
            let filter = filter(None, level).unwrap();
            assert!(filter.max_level_hint().is_some(), "{level:?}");
        }
    }

    #[test]
    fn the_variable_wins_and_its_mistakes_are_told() {
        let text = |variable, level| filter(variable, level).unwrap().to_string();
        assert_eq!(text(Some("clearcoat::pool=debug"), Level::Info), "clearcoat::pool=debug");
        assert_eq!(text(Some(" "), Level::Error), text(None, Level::Error));
        let mistake = filter(Some("clearcoat=loud"), Level::Info).unwrap_err().to_string();
        assert!(mistake.contains("RUST_LOG"), "{mistake}");
    }
}
