//! `log`: the requests of a running edge, while they are answered.

mod columns;

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write as _};
use std::num::NonZeroU64;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::Trouble;
use super::admin::AdminArguments;
use super::client::encoded;
use crate::access::filter::Filter;

/// The edge sends something at least every 15 seconds; it is gone when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(45);

/// Bytes of a line at most; no record is as long.
const MOST_LINE: u64 = 1 << 20;

/// Show requests of a running edge while they are answered.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters compare fields: client, method, host, target, path, query, version, status, bytes, duration, result,
node, referer, user_agent, request_id. By == and !=; numbers by < <= > >= too; texts by ~ and !~, which take
an expression. Conditions go together by && || ! and parentheses.

  clearcoat log 'status>=500 && path~\"^/api\"'
  clearcoat log 'duration>50ms && result!=hit && client!=10.0.0.0/8'")]
pub(super) struct Arguments {
    /// Which requests are shown, such as 'status>=500 && path~"^/api"'. Without it: all.
    #[arg(value_name = "FILTER", default_value = "", hide_default_value = true)]
    filter: String,
    /// The records as they come, a JSON object a line.
    #[arg(long)]
    json: bool,
    /// End after so many.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<NonZeroU64>,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Prints records until there were enough, or nobody reads them any more.
pub(super) fn command(arguments: &Arguments) -> Result<(), Trouble> {
    // The edge would say the same; but this is known without asking it.
    Filter::read(&arguments.filter).map_err(|unreadable| Trouble::Usage(unreadable.to_string()))?;
    let target = format!("/api/log?filter={}", encoded(&arguments.filter));
    let mut records = arguments.admin.listen(&target, SILENCE)?;
    let colours = !arguments.json
        && io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut left = arguments.limit.map(NonZeroU64::get);
    let mut line = String::new();
    while left != Some(0) {
        line.clear();
        let taken = (&mut records).take(MOST_LINE).read_line(&mut line).context("reading the log")?;
        if taken == 0 {
            return Err(anyhow!("the edge has ended the log").into());
        }
        let record = line.trim();
        if record.is_empty() {
            continue;
        }
        if let Some(dropped) = dropped(record) {
            // Not among the records: they may be read by a program.
            let _ = writeln!(io::stderr(), "{dropped} records were dropped here: they came too fast");
            continue;
        }
        let shown = if arguments.json { format!("{record}\n") } else { columns::line(record, colours)? };
        let mut out = io::stdout().lock();
        match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(anyhow::Error::from(error).into()),
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// How many records the edge says it could not send.
fn dropped(record: &str) -> Option<u64> {
    record.strip_prefix("{\"dropped\":")?.strip_suffix('}')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_told_from_records() {
        assert_eq!(dropped("{\"dropped\":12}"), Some(12));
        assert_eq!(dropped("{\"time\":\"2026\"}"), None);
    }
}
