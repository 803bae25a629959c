//! `/api/log`: the records of requests, while they are made.
//!
//! One JSON object a line, or events where `Accept` asks for them (Server-Sent Events, HTML Living Standard section 9.2). A
//! `filter` says which records, in the language of [`crate::access::filter`].

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::http1::{Answer, Live, Request};
use super::nodes::decode;
use super::view::Observed;
use crate::access::filter::Filter;
use crate::access::tail::{Batch, Reader};

pub(super) const PATH: &str = "/api/log";

/// After so long without a record something is sent all the same: those on the way keep the connection, and a reader that
/// is gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);

/// How long records are gathered, so that a busy edge sends large pieces.
const GATHERING: Duration = Duration::from_millis(20);

/// How a record looks on its way.
#[derive(Clone, Copy, Debug)]
enum Form {
    Lines,
    Events,
}

/// One who reads, until the connection ends.
struct Tailing {
    reader: Reader,
    form: Form,
    begun: bool,
}

impl fmt::Debug for Tailing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tailing").field("form", &self.form).finish_non_exhaustive()
    }
}

/// The answer to a request for the log.
pub(super) fn answer(request: &Request, observed: &dyn Observed) -> Answer {
    let query = request.query.as_deref().unwrap_or_default();
    let filter = query.split('&').find_map(|pair| pair.strip_prefix("filter="));
    let filter = decode(&filter.unwrap_or_default().replace('+', " "));
    let filter = match Filter::read(&filter) {
        Ok(filter) => filter,
        Err(unreadable) => return Answer::text(400, unreadable.to_string()),
    };
    let form = if wants_events(request) { Form::Events } else { Form::Lines };
    let answer = Answer::new(200, form.media_type(), Bytes::new());
    if request.method == "HEAD" {
        return answer;
    }
    match observed.listen(filter) {
        Ok(reader) => answer.live(Tailing { reader, form, begun: false }),
        Err(crowded) => Answer::text(503, crowded.to_string()),
    }
}

fn wants_events(request: &Request) -> bool {
    let accept = request.field("accept").unwrap_or_default();
    accept.split(',').any(|range| {
        range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
    })
}

#[async_trait]
impl Live for Tailing {
    async fn next(&mut self) -> Bytes {
        if !std::mem::replace(&mut self.begun, true) {
            // Whoever waits for the begin of the answer learns that it listens.
            return Bytes::from_static(self.form.silence());
        }
        tokio::time::sleep(GATHERING).await;
        match tokio::time::timeout(SILENCE, self.reader.next()).await {
            Ok(batch) => self.form.written(batch).into(),
            Err(_) => Bytes::from_static(self.form.silence()),
        }
    }
}

impl Form {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    /// What means nothing.
    const fn silence(self) -> &'static [u8] {
        match self {
            Self::Lines => b"\n",
            Self::Events => b":\n\n",
        }
    }

    fn written(self, batch: Batch) -> Vec<u8> {
        let Batch { lines, dropped } = batch;
        let mut written = match self {
            Self::Lines => lines,
            Self::Events => {
                let mut events = Vec::with_capacity(lines.len() + lines.len() / 16);
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    events.extend_from_slice(b"data: ");
                    events.extend_from_slice(line);
                    events.push(b'\n');
                }
                events
            }
        };
        if dropped > 0 {
            let told = match self {
                Self::Lines => format!("{{\"dropped\":{dropped}}}\n"),
                Self::Events => format!("event: dropped\ndata: {{\"dropped\":{dropped}}}\n\n"),
            };
            written.extend_from_slice(told.as_bytes());
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_way() {
        let batch = || Batch { lines: b"{\"a\":1}\n{\"a\":2}\n".to_vec(), dropped: 3 };
        let text = |form: Form| String::from_utf8_lossy(&form.written(batch())).into_owned();
        assert_eq!(text(Form::Lines), "{\"a\":1}\n{\"a\":2}\n{\"dropped\":3}\n");
        assert_eq!(
            text(Form::Events),
            "data: {\"a\":1}\n\ndata: {\"a\":2}\n\nevent: dropped\ndata: {\"dropped\":3}\n\n"
        );
    }

    #[test]
    fn events_are_for_those_who_ask_for_them() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.9", true),
            ("*/*", false),
            ("text/event-streams", false),
        ] {
            let fields = vec![("accept".to_owned(), accept.to_owned())];
            assert_eq!(wants_events(&Request { fields, ..Request::default() }), expected, "{accept}");
        }
    }
}
