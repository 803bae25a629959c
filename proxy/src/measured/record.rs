//! A request that is over, and its line in the access log. Not here: the memory in which lines wait, and their writer.

use std::time::Duration;

use super::{Request, VISITOR};
use crate::access::date::Date;
use crate::access::{self, Asked, Ended, Record, Version, line};
use crate::admin::RequestResult;

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
        let head = &request.0;
        let mut asked = Asked {
            client: Some(VISITOR),
            method: head.method.as_str().as_bytes(),
            target: head.target,
            version: if head.version_11 { Version::Http11 } else { Version::Http10 },
            host: head.host,
            ..Asked::default()
        };
        for header in head.headers {
            asked.header(header.name, header.value);
        }
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
