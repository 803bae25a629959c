//! A record as a line.

use std::net::IpAddr;

use super::date::Date;
use super::record::{
    Asked, Ended, MAX_HOST, MAX_METHOD, MAX_REFERER, MAX_REQUEST_ID, MAX_TARGET, MAX_USER_AGENT, Record,
};
use super::text::{push_escaped, push_json, room};
use crate::front::visitor::write_address;

/// How a record is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Format {
    /// The Combined Log Format of Apache, byte for byte as nginx writes it:
    /// `CLIENT - - [DATE] "METHOD TARGET VERSION" STATUS BYTES "REFERER" "USER-AGENT"`.
    #[default]
    Combined,
    /// A JSON object.
    Json,
}

/// Written for an answer that was never begun because the client had left; nginx's word for it.
const CLIENT_CLOSED: u16 = 499;

/// Bytes of a line beside the values that clients choose, and the node's name.
const FIXED: usize = 512;

/// Bytes of a node's name that are written.
const MAX_NODE: usize = 255;

/// Bytes that a line takes at most.
pub(super) fn most_bytes(record: &Record<'_>) -> usize {
    let Record { asked, ended } = record;
    FIXED
        + room(asked.method.len(), MAX_METHOD)
        + room(asked.target.len(), MAX_TARGET)
        + room(asked.host.len(), MAX_HOST)
        + room(asked.referer.len(), MAX_REFERER)
        + room(asked.user_agent.len(), MAX_USER_AGENT)
        + room(asked.request_id.len(), MAX_REQUEST_ID)
        + room(ended.node.map_or(0, str::len), MAX_NODE)
}

/// Bytes that no line exceeds.
pub(super) const MAX_LINE: usize = FIXED
    + room(usize::MAX, MAX_METHOD)
    + room(usize::MAX, MAX_TARGET)
    + room(usize::MAX, MAX_HOST)
    + room(usize::MAX, MAX_REFERER)
    + room(usize::MAX, MAX_USER_AGENT)
    + room(usize::MAX, MAX_REQUEST_ID)
    + room(usize::MAX, MAX_NODE);

/// Appends the line with its end. `wall_micros` is when the request was over, in microseconds since 1970, and `date`
/// the date of it.
pub(crate) fn push(output: &mut Vec<u8>, format: Format, record: &Record<'_>, date: &Date, wall_micros: u64) {
    match format {
        Format::Combined => push_combined(output, record, date),
        Format::Json => push_json_line(output, record, date, wall_micros),
    }
}

fn push_combined(output: &mut Vec<u8>, record: &Record<'_>, date: &Date) {
    let Record { asked, ended } = record;
    match asked.client {
        Some(client) => push_address(output, client),
        None => output.push(b'-'),
    }
    output.extend_from_slice(b" - - [");
    output.extend_from_slice(&date.common);
    output.extend_from_slice(b"] \"");
    if !asked.method.is_empty() {
        push_escaped(output, asked.method, MAX_METHOD);
        output.push(b' ');
    }
    push_escaped(output, asked.target, MAX_TARGET);
    if !asked.method.is_empty() {
        output.push(b' ');
        output.extend_from_slice(asked.version.as_str().as_bytes());
    }
    output.extend_from_slice(b"\" ");
    push_number(output, u64::from(shown_status(ended)));
    output.push(b' ');
    push_number(output, ended.sent_bytes);
    output.extend_from_slice(b" \"");
    push_escaped(output, asked.referer, MAX_REFERER);
    output.extend_from_slice(b"\" \"");
    push_escaped(output, asked.user_agent, MAX_USER_AGENT);
    output.extend_from_slice(b"\"\n");
}

fn push_json_line(output: &mut Vec<u8>, record: &Record<'_>, date: &Date, wall_micros: u64) {
    let Record { asked, ended } = record;
    let Asked { client, method, target, version, host, referer, user_agent, request_id, .. } = *asked;
    output.extend_from_slice(b"{\"time\":\"");
    output.extend_from_slice(&date.iso);
    let thousandths = wall_micros / 1000 % 1000;
    let digit = |place: u64| b'0' + (thousandths / place % 10) as u8;
    output.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
    output.extend_from_slice(b"\",\"client\":");
    match client {
        Some(client) => {
            output.push(b'"');
            push_address(output, client);
            output.push(b'"');
        }
        None => output.extend_from_slice(b"null"),
    }
    output.extend_from_slice(b",\"method\":");
    push_json(output, method, MAX_METHOD);
    output.extend_from_slice(b",\"host\":");
    push_json(output, host, MAX_HOST);
    output.extend_from_slice(b",\"target\":");
    push_json(output, target, MAX_TARGET);
    output.extend_from_slice(b",\"version\":");
    // Of a head that could not be read nothing is known.
    push_json(output, if method.is_empty() { b"" } else { version.as_str().as_bytes() }, MAX_METHOD);
    output.extend_from_slice(b",\"status\":");
    push_number(output, u64::from(shown_status(ended)));
    output.extend_from_slice(b",\"bytes\":");
    push_number(output, ended.sent_bytes);
    output.extend_from_slice(b",\"duration_us\":");
    push_number(output, u64::try_from(ended.took.as_micros()).unwrap_or(u64::MAX));
    output.extend_from_slice(b",\"result\":\"");
    output.extend_from_slice(ended.result.label().as_bytes());
    output.extend_from_slice(b"\",\"node\":");
    push_json(output, ended.node.unwrap_or_default().as_bytes(), MAX_NODE);
    output.extend_from_slice(b",\"referer\":");
    push_json(output, referer, MAX_REFERER);
    output.extend_from_slice(b",\"user_agent\":");
    push_json(output, user_agent, MAX_USER_AGENT);
    output.extend_from_slice(b",\"request_id\":");
    request_id.with(|id| push_json(output, id, MAX_REQUEST_ID));
    output.extend_from_slice(b"}\n");
}

/// Written for `status`.
pub(super) const fn shown_status(ended: &Ended<'_>) -> u16 {
    if ended.status == 0 { CLIENT_CLOSED } else { ended.status }
}

fn push_number(output: &mut Vec<u8>, number: u64) {
    output.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_address(output: &mut Vec<u8>, address: IpAddr) {
    write_address(address, |piece| output.extend_from_slice(piece));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::record::Version;
    use super::*;
    use crate::admin::RequestResult;
    use crate::front::request_id::RequestId;

    const WALL_MICROS: u64 = 1_795_364_753_042_999;

    fn usual() -> Record<'static> {
        Record {
            asked: Asked {
                client: Some(IpAddr::from([192, 168, 0, 7])),
                method: b"GET",
                target: b"/a?b=c",
                version: Version::Http11,
                host: b"www.example.com",
                referer: b"http://www.example.com/",
                user_agent: b"Mozilla/5.0 (X11)",
                ..Asked::default()
            },
            ended: Ended {
                result: RequestResult::Hit,
                status: 200,
                sent_bytes: 1024,
                took: Duration::from_micros(37),
                node: None,
            },
        }
    }

    fn line(format: Format, record: &Record<'_>) -> String {
        let mut output = Vec::new();
        push(&mut output, format, record, &Date::of(WALL_MICROS), WALL_MICROS);
        assert!(output.len() <= most_bytes(record), "{} bytes", output.len());
        assert!(most_bytes(record) <= MAX_LINE);
        String::from_utf8(output).expect("always text")
    }

    #[test]
    fn combined_lines() {
        let usual = usual();
        let asked = usual.asked;
        let ended = usual.ended;
        for (asked, ended, expected) in [
            (
                asked,
                ended,
                r#"192.168.0.7 - - [22/Nov/2026:16:25:53 +0000] "GET /a?b=c HTTP/1.1" 200 1024 "http://www.example.com/" "Mozilla/5.0 (X11)""#,
            ),
            (
                Asked {
                    client: Some("2001:db8::7".parse().expect("an address")),
                    method: b"PURGEKEYS",
                    version: Version::Http2,
                    referer: b"",
                    user_agent: b"evil\" 200 0 \"\r\n1.1.1.1 - - ",
                    ..asked
                },
                Ended { status: 405, sent_bytes: 0, ..ended },
                r#"2001:db8::7 - - [22/Nov/2026:16:25:53 +0000] "PURGEKEYS /a?b=c HTTP/2.0" 405 0 "-" "evil\x22 200 0 \x22\x0D\x0A1.1.1.1 - - ""#,
            ),
            (
                Asked {
                    client: Some("::ffff:10.0.0.1".parse().expect("an address")),
                    version: Version::Http10,
                    user_agent: b"",
                    ..asked
                },
                Ended { result: RequestResult::ClientGone, status: 0, sent_bytes: 0, ..ended },
                r#"10.0.0.1 - - [22/Nov/2026:16:25:53 +0000] "GET /a?b=c HTTP/1.0" 499 0 "http://www.example.com/" "-""#,
            ),
            (
                Asked { target: b"\x16\x03\x01\x02", ..Asked::default() },
                Ended { result: RequestResult::Refused, status: 400, sent_bytes: 12, ..ended },
                r#"- - - [22/Nov/2026:16:25:53 +0000] "\x16\x03\x01\x02" 400 12 "-" "-""#,
            ),
            (
                Asked::default(),
                Ended { result: RequestResult::Refused, status: 408, sent_bytes: 0, ..ended },
                r#"- - - [22/Nov/2026:16:25:53 +0000] "-" 408 0 "-" "-""#,
            ),
        ] {
            assert_eq!(line(Format::Combined, &Record { asked, ended }), format!("{expected}\n"));
        }
    }

    #[test]
    fn json_lines() {
        let usual = usual();
        assert_eq!(
            line(Format::Json, &usual),
            concat!(
                r#"{"time":"2026-11-22T16:25:53.042Z","client":"192.168.0.7","method":"GET","#,
                r#""host":"www.example.com","target":"/a?b=c","version":"HTTP/1.1","status":200,"bytes":1024,"#,
                r#""duration_us":37,"result":"hit","node":null,"referer":"http://www.example.com/","#,
                r#""user_agent":"Mozilla/5.0 (X11)","request_id":null}"#,
                "\n"
            )
        );
        let asked = Asked {
            user_agent: b"a\"\xff\n",
            request_id: RequestId::Said(b"7f"),
            ..Asked { method: b"", ..usual.asked }
        };
        let ended = Ended { node: Some("10.0.0.11:80"), status: 0, took: Duration::MAX, ..usual.ended };
        let text = line(Format::Json, &Record { asked, ended });
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for (key, expected) in [
            ("method", serde_json::Value::Null),
            ("version", serde_json::Value::Null),
            ("user_agent", "a\"\u{fffd}\n".into()),
            ("request_id", "7f".into()),
            ("node", "10.0.0.11:80".into()),
            ("status", 499.into()),
            ("duration_us", u64::MAX.into()),
        ] {
            assert_eq!(read[key], expected, "{key} in {text}");
        }
    }

    #[test]
    fn the_longest_line_is_bounded() {
        let nasty = vec![0xff; 100_000];
        let asked = Asked {
            client: Some("1111:2222:3333:4444:5555:6666:7777:8888".parse().expect("an address")),
            method: &nasty,
            target: &nasty,
            version: Version::Http11,
            host: &nasty,
            referer: &nasty,
            user_agent: &nasty,
            request_id: RequestId::Said(&nasty),
            ..Asked::default()
        };
        let node = "\u{1}".repeat(1000);
        let ended = Ended {
            result: RequestResult::Uncacheable,
            status: 999,
            sent_bytes: u64::MAX,
            took: Duration::MAX,
            node: Some(&node),
        };
        for format in [Format::Combined, Format::Json] {
            let text = line(format, &Record { asked, ended });
            assert!(text.len() <= MAX_LINE, "{format:?}: {} bytes", text.len());
            assert_eq!(text.matches('\n').count(), 1);
            assert!(text.contains("..."));
        }
    }
}
