//! Which records are wanted: `status>=500 && path~"^/api"`.
//!
//! The language, for `clearcoat log` and `/api/log`; both read it here, so what one takes the other does not refuse.
//!
//! ```text
//! either     = both *( "||" both )
//! both       = single *( "&&" single )
//! single     = "!" single / "(" either ")" / field [ comparison value ]
//! comparison = "==" / "!=" / "<" / "<=" / ">" / ">=" / "~" / "!~"
//! value      = a word, or a text in quotes
//! ```
//!
//! A field alone asks whether there is anything in it. Whoever may read the log writes filters, and they are tested by
//! the threads that serve visitors; so all of it is bounded: the text, what stands within each other, the expressions
//! and what they take. The expressions are those of the `regex` crate, whose time is linear in what they are tested
//! against, and that is bounded too.

mod parse;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use clearcoat_conf::{Invalid, LogField};
use ipnet::IpNet;
use regex::bytes::Regex;

use super::line::shown_status;
use super::record::Record;

/// The most bytes of a filter.
pub(crate) const MOST_BYTES: usize = 2048;

/// A filter that was read.
#[derive(Debug)]
pub(crate) struct Filter(Rule);

/// A part of a filter. They stand within each other no deeper than the parser lets them.
#[derive(Debug)]
enum Rule {
    /// Whatever it is.
    Any,
    /// All of them hold.
    All(Vec<Rule>),
    /// One of them holds.
    Either(Vec<Rule>),
    Not(Box<Rule>),
    /// There is something in the field.
    Present(LogField),
    /// The text is just this.
    Is(LogField, Box<[u8]>),
    /// The expression matches somewhere in the text.
    Matches(LogField, Regex),
    /// The number compares like this.
    Number(LogField, Order, u64),
    /// The address is in the network.
    Within(IpNet),
}

/// How numbers compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Equal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Why a text is no filter, and where it ceases to be one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unreadable {
    /// The text as far as it is shown, on one line.
    shown: String,
    /// Characters before the place.
    before: usize,
    pub(crate) what: Invalid,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, before, what } = self;
        writeln!(out, "the filter cannot be read at position {}: {}", before + 1, what.problem())?;
        writeln!(out, "    {shown}")?;
        writeln!(out, "    {:before$}^ {}", "", what.hint())
    }
}

impl std::error::Error for Unreadable {}

impl Filter {
    /// Reads a filter; an empty one lets everything through.
    ///
    /// # Errors
    ///
    /// [`Unreadable`], with the place and what to write there.
    pub(crate) fn read(text: &str) -> Result<Self, Unreadable> {
        parse::filter(text).map(Self).map_err(|(at, what)| Unreadable::at(text, at, what))
    }

    /// Whether a record is wanted. Allocates nothing.
    pub(crate) fn wants(&self, record: &Record<'_>) -> bool {
        self.0.holds(record)
    }
}

impl Unreadable {
    /// A place in bytes of the text.
    fn at(text: &str, at: usize, what: Invalid) -> Self {
        /// A longer text is not repeated whole: so many characters before the place, and behind it.
        const AROUND: usize = 60;
        let before = text.get(..at).map_or(0, |before| before.chars().count());
        let skipped = before.saturating_sub(AROUND);
        let one_line = |character: char| if character.is_control() { ' ' } else { character };
        let shown = text.chars().skip(skipped).take(2 * AROUND).map(one_line).collect();
        Self { shown, before: before - skipped, what }
    }
}

impl Rule {
    fn holds(&self, record: &Record<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::All(rules) => rules.iter().all(|rule| rule.holds(record)),
            Self::Either(rules) => rules.iter().any(|rule| rule.holds(record)),
            Self::Not(rule) => !rule.holds(record),
            Self::Present(LogField::Client) => record.asked.client.is_some(),
            Self::Present(field) => {
                number(*field, record).is_some_and(|number| number > 0)
                    || text(*field, record, |text| !text.is_empty())
            }
            Self::Is(field, wanted) => text(*field, record, |text| *text == **wanted),
            Self::Matches(field, expression) => text(*field, record, |text| expression.is_match(text)),
            Self::Number(field, order, wanted) => {
                number(*field, record).is_some_and(|number| order.holds(number, *wanted))
            }
            Self::Within(net) => record.asked.client.is_some_and(|client| is_within(net, client)),
        }
    }
}

/// An IPv4 address that came in over a socket for both versions is the same address.
fn is_within(net: &IpNet, client: IpAddr) -> bool {
    net.contains(&client.to_canonical())
}

impl Order {
    const fn holds(self, number: u64, wanted: u64) -> bool {
        match self {
            Self::Equal => number == wanted,
            Self::Less => number < wanted,
            Self::AtMost => number <= wanted,
            Self::More => number > wanted,
            Self::AtLeast => number >= wanted,
        }
    }
}

/// Asks something of what a field of text holds; of others nothing.
fn text(field: LogField, record: &Record<'_>, ask: impl FnOnce(&[u8]) -> bool) -> bool {
    let Record { asked, ended } = record;
    let bytes = match field {
        LogField::Method => asked.method,
        LogField::Host => asked.host,
        LogField::Target => asked.target,
        LogField::Path => split_target(asked.target).0,
        LogField::Query => split_target(asked.target).1,
        LogField::Version if asked.method.is_empty() => b"",
        LogField::Version => asked.version.as_str().as_bytes(),
        LogField::Result => ended.result.label().as_bytes(),
        LogField::Node => ended.node.unwrap_or_default().as_bytes(),
        LogField::Referer => asked.referer,
        LogField::UserAgent => asked.user_agent,
        LogField::RequestId => return asked.request_id.with(ask),
        LogField::Client | LogField::Status | LogField::Bytes | LogField::Duration => b"",
    };
    ask(bytes)
}

/// What a field of numbers holds.
fn number(field: LogField, record: &Record<'_>) -> Option<u64> {
    let ended = &record.ended;
    match field {
        LogField::Status => Some(shown_status(ended).into()),
        LogField::Bytes => Some(ended.sent_bytes),
        LogField::Duration => Some(micros(ended.took)),
        _ => None,
    }
}

/// Path and query of a target.
pub(super) fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, b""),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
