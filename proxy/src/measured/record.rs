//! A request that is over, and its line in the access log. Not here: the memory in which lines wait, and their writer.

use std::time::Duration;

use clearcoat_cache::Scheme;

use super::{Request, VISITOR};
use crate::access::date::Date;
use crate::access::filter::Filter;
use crate::access::{self, Asked, Ended, Record, line};
use crate::admin::RequestResult;
use crate::front::request_id::RequestIds;
use crate::front::visitor::Visitor;
use crate::listen::recorded;

/// Whether a filter wants the record of a GET of `target`, or why it is none.
///
/// # Errors
///
/// What is told of the mistake: the text in the second line, a mark below it in the third.
pub fn log_filter(filter: &str, target: &[u8]) -> Result<bool, String> {
    let filter = Filter::read(filter).map_err(|unreadable| unreadable.to_string())?;
    let asked = Asked { client: Some(VISITOR), method: b"GET", target, ..Asked::default() };
    let took = Duration::from_micros(17);
    let ended = Ended { result: RequestResult::Hit, status: 200, sent_bytes: 1, took, node: None };
    Ok(filter.wants(&Record { asked, ended }))
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// As Apache and nginx write it.
    Combined,
    /// A JSON object.
    Json,
}

/// The record of a hit.
#[derive(Debug)]
pub struct LogLine<'b> {
    record: Record<'b>,
    date: Date,
    wall_micros: u64,
    format: access::Format,
}

impl<'b> LogLine<'b> {
    /// The record of a request that was answered from memory with a body of so many bytes.
    pub fn of_hit(request: &Request<'b, '_>, body_bytes: u64, format: Format) -> Self {
        let visitor = Visitor { address: Some(VISITOR), ..Visitor::unknown(Scheme::Http) };
        let asked = recorded::head(&request.0, visitor, &RequestIds::default());
        let took = Duration::from_micros(17);
        let ended =
            Ended { result: RequestResult::Hit, status: 200, sent_bytes: body_bytes, took, node: None };
        // 2026-11-22; the date of a line is made once a second and not with each.
        let wall_micros = 1_795_305_600_000_000;
        let format = match format {
            Format::Combined => access::Format::Combined,
            Format::Json => access::Format::Json,
        };
        Self { record: Record { asked, ended }, date: Date::of(wall_micros), wall_micros, format }
    }

    /// Appends the line.
    pub fn write(&self, output: &mut Vec<u8>) {
        line::push(output, self.format, &self.record, &self.date, self.wall_micros);
    }
}
