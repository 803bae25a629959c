//! A record as a line for people: columns, in colour on a terminal.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Deserialize;

/// The parts of a record that are shown. An edge of another version may lack some.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown {
    time: String,
    client: Option<String>,
    method: Option<String>,
    host: Option<String>,
    target: Option<String>,
    status: u16,
    bytes: u64,
    duration_us: u64,
    result: String,
    node: Option<String>,
}

/// Ends a colour.
const RESET: &str = "\u{1b}[0m";

/// The line of a record, with its end. Whatever could steer a terminal is taken out of what clients said.
///
/// # Errors
///
/// If it is no record.
pub(super) fn line(record: &str, colours: bool) -> anyhow::Result<String> {
    let shown: Shown = serde_json::from_str(record).context("reading a record of the edge")?;
    // Of 2026-11-22T16:25:53.042Z the time of the day, which is UTC.
    let time = shown.time.split_once('T').map_or(&*shown.time, |(_, time)| time.trim_end_matches('Z'));
    let status_colour = match shown.status {
        500.. => "\u{1b}[31m",
        400..=499 => "\u{1b}[33m",
        300..=399 => "\u{1b}[36m",
        _ => "\u{1b}[32m",
    };
    let result_colour = match &*shown.result {
        "hit" | "grace" => "\u{1b}[32m",
        "unavailable" | "refused" | "client_gone" => "\u{1b}[31m",
        _ => "",
    };
    let mut line = String::new();
    let mut cell = |text: &str, width: usize, right: bool, colour: &str| {
        let text: String = text.chars().filter(|character| !character.is_control()).collect();
        let pad = " ".repeat(width.saturating_sub(text.chars().count()));
        let (before, after) = if right { (&*pad, "") } else { ("", &*pad) };
        let coloured = colours && !colour.is_empty();
        let (begin, end) = if coloured { (colour, RESET) } else { ("", "") };
        let _ = write!(line, "{before}{begin}{text}{end}{after}  ");
    };
    cell(time, 12, false, "\u{1b}[2m");
    cell(shown.client.as_deref().unwrap_or("-"), 15, false, "");
    cell(&shown.status.to_string(), 3, false, status_colour);
    cell(&shown.result, 11, false, result_colour);
    cell(&took(shown.duration_us), 8, true, "");
    cell(&size(shown.bytes), 8, true, "");
    cell(shown.method.as_deref().unwrap_or("-"), 4, false, "");
    let url = format!("{}{}", shown.host.unwrap_or_default(), shown.target.unwrap_or_default());
    cell(&url, 0, false, "");
    if let Some(node) = shown.node {
        cell(&format!("<- {node}"), 0, false, "\u{1b}[2m");
    }
    Ok(format!("{}\n", line.trim_end()))
}

fn took(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..100_000 => format!("{:.1} ms", micros as f64 / 1e3),
        100_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const RECORD: &str = r#"{"time":"2026-11-22T16:25:53.042Z","client":"192.0.2.1","method":"GET","host":"www.example.com","target":"/a\u001b[31m","version":"HTTP/1.1","status":503,"bytes":2048,"duration_us":1234,"result":"unavailable","node":"10.0.0.11:80","referer":null}"#;

    #[test]
    fn a_record_is_a_line() {
        assert_eq!(
            line(RECORD, false).unwrap(),
            "16:25:53.042  192.0.2.1        503  unavailable    1.2 ms   2.0 KiB  GET   www.example.com/a[31m  <- 10.0.0.11:80\n"
        );
    }

    #[test]
    fn colours_are_ours_alone() {
        let text = line(RECORD, true).unwrap();
        assert!(text.contains("\u{1b}[31m503\u{1b}[0m") && text.contains("/a[31m"), "{text:?}");
        assert_eq!(text.matches('\u{1b}').count(), 8, "{text:?}");
    }

    #[test]
    fn another_version_may_say_less() {
        assert!(line("{}", false).unwrap().contains("  -  "));
        line("nonsense", false).unwrap_err();
    }

    #[test]
    fn numbers_are_short() {
        let times = [17, 1_500, 99_999, 123_456, 2_345_678].map(took);
        assert_eq!(times, ["17 us", "1.5 ms", "100.0 ms", "123 ms", "2.35 s"]);
        assert_eq!([0, 1_536, 3 << 20].map(size), ["0 B", "1.5 KiB", "3.0 MiB"]);
    }
}
