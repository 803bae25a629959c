//! `reload`, `rollback` and `configurations`: the configuration of a running edge.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use serde::Deserialize;

use super::admin::AdminArguments;
use super::client::Answer;
use super::table::Table;
use super::{Trouble, print};

/// Let a running edge read its configuration again; what is wrong with it is told, and the one before goes on.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArguments {
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Put an earlier configuration of a running edge into force again.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArguments {
    /// Its number, as `clearcoat configurations` shows it [default: the one before the present one]
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Show the last configurations of a running edge, and how they differ.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigurationsArguments {
    /// Print the configuration of this number as TOML, every default filled in, without secrets.
    #[arg(long, value_name = "NUMBER", conflicts_with = "diff")]
    show: Option<u64>,
    /// Print what is different since the configuration of this number.
    #[arg(long, value_name = "NUMBER")]
    diff: Option<u64>,
    /// Print the list as JSON.
    #[arg(long, conflicts_with_all = ["show", "diff"])]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Deserialize)]
struct Change {
    number: u64,
    changed: bool,
    restart: Vec<String>,
    diff: String,
}

#[derive(Deserialize)]
struct Mistakes {
    mistakes: Vec<Mistake>,
}

#[derive(Deserialize)]
struct Mistake {
    text: String,
}

#[derive(Deserialize)]
struct Configuration {
    number: u64,
    at: u64,
    by: String,
    in_force: bool,
    refused: Vec<String>,
    restart: Vec<String>,
}

/// Exit code 2 and every mistake if it is refused.
pub(super) fn reload(arguments: &ReloadArguments) -> Result<(), Trouble> {
    outcome(arguments.admin.ask("POST", "/api/reload")?, arguments.json)
}

/// The same.
pub(super) fn roll_back(arguments: &RollbackArguments) -> Result<(), Trouble> {
    let target = match arguments.to {
        Some(number) => format!("/api/rollback?number={number}"),
        None => "/api/rollback".to_owned(),
    };
    outcome(arguments.admin.ask("POST", &target)?, arguments.json)
}

fn outcome(answer: Answer, json: bool) -> Result<(), Trouble> {
    let Answer { status, reason, body } = answer;
    let text = String::from_utf8_lossy(&body);
    match status {
        200 if json => Ok(print(&text)?),
        200 => Ok(print(&told(&read(&body)?))?),
        422 if json => Err(Trouble::Usage(text.trim_end().to_owned())),
        422 => {
            let Mistakes { mistakes } = read(&body)?;
            let lines: Vec<_> = mistakes.into_iter().map(|mistake| mistake.text).collect();
            Err(Trouble::Usage(format!(
                "{}\nnothing was changed: the configuration before goes on",
                lines.join("\n")
            )))
        }
        409 => Err(anyhow!("{}", text.trim()).into()),
        _ => Err(anyhow!("the edge answered {status} {reason}: {}", text.trim()).into()),
    }
}

fn told(change: &Change) -> String {
    let Change { number, changed, restart, diff } = change;
    let mut text = match (changed, diff.is_empty()) {
        (false, _) => format!("configuration {number} is in force; it says the same as before\n"),
        (true, true) => format!("configuration {number} is in force; only secrets are different\n"),
        (true, false) => format!("configuration {number} is in force\n{diff}"),
    };
    if !restart.is_empty() {
        text.push_str(&format!("these hold from the next start on: {}\n", restart.join(", ")));
    }
    text
}

/// The list, or one of them.
pub(super) fn configurations(arguments: &ConfigurationsArguments) -> Result<(), Trouble> {
    let target = match (arguments.show, arguments.diff) {
        (Some(number), _) => format!("/api/configuration?number={number}"),
        (None, Some(number)) => format!("/api/configuration/diff?from={number}"),
        (None, None) => "/api/configurations".to_owned(),
    };
    let body = arguments.admin.get(&target)?;
    if arguments.json || arguments.show.is_some() || arguments.diff.is_some() {
        return Ok(print(&String::from_utf8_lossy(&body))?);
    }
    let known: Vec<Configuration> = read(&body)?;
    let mut table = Table::new(&["NUMBER", "WHEN", "BY", "WHAT CAME OF IT"]);
    for Configuration { number, at, by, in_force, refused, restart } in known {
        let mut became = match (in_force, refused.first()) {
            (true, _) => "in force".to_owned(),
            (false, Some(first)) => format!("refused: {first}"),
            (false, None) => "was in force".to_owned(),
        };
        if refused.len() > 1 {
            became.push_str(&format!(" (and {} more)", refused.len() - 1));
        }
        if !restart.is_empty() {
            became.push_str(&format!("; from the next start on: {}", restart.join(", ")));
        }
        table.row([number.to_string(), time(at), by, became]);
    }
    Ok(print(&table.text())?)
}

fn time(seconds: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    at.map(httpdate::fmt_http_date).unwrap_or_default()
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the edge's answer cannot be read: is it of another version?")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, reason: "So".into(), body: body.into() }
    }

    #[test]
    fn mistakes_are_told_a_line_each() {
        let body = r#"{"mistakes": [{"text": "a.toml:1:2: x: bad; do y"}, {"text": "a.toml:3:1: z"}]}"#;
        let trouble = outcome(answer(422, body), false).unwrap_err();
        let text = trouble.to_string();
        assert!(matches!(trouble, Trouble::Usage(_)), "{text}");
        assert!(text.starts_with("a.toml:1:2: x: bad; do y\na.toml:3:1: z\nnothing was changed"), "{text}");
        let trouble = outcome(answer(409, "no file\n"), false).unwrap_err();
        assert!(matches!(trouble, Trouble::Failed(_)) && trouble.to_string() == "no file");
    }

    #[test]
    fn what_changed_is_told() {
        let change = |changed, restart: &[&str], diff: &str| Change {
            number: 3,
            changed,
            restart: restart.iter().map(|key| (*key).to_owned()).collect(),
            diff: diff.to_owned(),
        };
        assert!(told(&change(false, &[], "")).contains("the same"));
        assert!(told(&change(true, &[], "")).contains("only secrets"));
        let text = told(&change(true, &["threads", "log"], "-a\n+b\n"));
        assert!(
            text.contains("in force\n-a\n+b\n") && text.contains("next start on: threads, log"),
            "{text}"
        );
    }
}
