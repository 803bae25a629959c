//! What filters let through, and what is told of those that cannot be read.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::record::{Asked, Ended, Version};
use super::*;
use crate::admin::RequestResult;

fn usual() -> Record<'static> {
    Record {
        asked: Asked {
            client: Some(IpAddr::from([192, 168, 0, 7])),
            method: b"GET",
            target: b"/api/a?b=\"c\\d\"",
            version: Version::Http2,
            host: b"www.example.com",
            user_agent: b"Mozilla/5.0 (X11)\xff",
            ..Asked::default()
        },
        ended: Ended {
            result: RequestResult::Miss,
            status: 503,
            sent_bytes: 1500,
            took: Duration::from_micros(51_999),
            node: Some("10.0.0.11:80"),
        },
    }
}

#[track_caller]
fn check(filter: &str, expected: bool) {
    let read = Filter::read(filter).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.wants(&usual()), expected, "{filter}");
}

#[test]
fn records_are_wanted_or_not() {
    for (filter, expected) in [
        ("", true),
        ("  ", true),
        ("status>=500", true),
        ("status >= 504", false),
        ("status==503 && path~\"^/api\"", true),
        ("status!=503", false),
        ("status<503 || status>503", false),
        ("status<=503", true),
        ("!status", false),
        ("!(status==503 && method==POST)", true),
        ("!!method", true),
        ("method==GET", true),
        ("method==get", false),
        ("host==\"www.example.com\"", true),
        ("host~example", true),
        ("host!~example", false),
        ("path==/api/a", true),
        ("query~'^b='", true),
        (r#"query=="b=\"c\\d\"""#, false),
        (r#"query=='b="c\d"'"#, true),
        (r#"query~"\"c\\d\"""#, true),
        ("target~b", true),
        ("version==HTTP/2.0", true),
        ("bytes==1500", true),
        ("bytes>1KiB", true),
        ("bytes>2kB", false),
        ("duration>50ms", true),
        ("duration>1m30s", false),
        ("duration<52ms && duration>=51999us && duration!=52ms", true),
        ("result==miss", true),
        ("result~'^(hit|grace)$'", false),
        ("node==10.0.0.11:80", true),
        ("node", true),
        ("referer", false),
        ("referer==\"\"", true),
        ("request_id || user_agent", true),
        ("user_agent~'(?i)mozilla'", true),
        ("client==192.168.0.0/16", true),
        ("client==192.168.0.7", true),
        ("client!=192.168.0.7", false),
        ("client==\"::1\"", false),
        ("client", true),
        // && binds closer than ||.
        ("status==503 || status==1 && status==2", true),
        ("(status==503 || status==1) && status==2", false),
    ] {
        check(filter, expected);
    }
}

#[test]
fn an_address_is_the_same_over_either_socket() {
    let mut record = usual();
    record.asked.client = Some("::ffff:10.1.2.3".parse().unwrap());
    assert!(Filter::read("client==10.0.0.0/8").unwrap().wants(&record));
    record.asked.client = None;
    assert!(Filter::read("client!=10.0.0.0/8 && !client").unwrap().wants(&record));
}

#[test]
fn a_client_that_left_is_a_499() {
    let mut record = usual();
    record.ended.status = 0;
    assert!(Filter::read("status==499").unwrap().wants(&record));
}

#[test]
fn mistakes_have_a_place_and_a_hint() {
    for (filter, position, words) in [
        ("stauts>=500", 1, "did you mean status?"),
        ("ö && a", 1, "the fields are client"),
        ("path~ö && zzz", 11, "the fields are client"),
        ("status=500", 7, "write =="),
        ("status>=5OO", 9, "\"5OO\" is not a number"),
        ("status>=", 9, "write a number"),
        ("status~5", 7, "write ==, !=, <"),
        ("bytes>1K", 7, "write 1KiB (1024)"),
        ("duration>50", 10, "write 50s or 50ms"),
        ("duration>5.5us", 10, "with us"),
        ("method>GET", 7, "write ==, !=, ~ or !~"),
        ("method==", 9, "write a word"),
        ("client~10", 7, "client==10.0.0.0/8"),
        ("client==localhost", 9, "localhost"),
        ("path~\"(\"", 6, "unclosed group"),
        ("path~\"a{99999}{99999}\"", 6, "the expression"),
        ("path~\"a", 6, "end it with \""),
        ("(status==1", 1, "write ) at the end"),
        ("status==1)", 10, "take it out"),
        ("status==1 method", 11, "write && or || between them"),
        ("(status==1 method)", 12, "write && or || between them"),
        ("status==1 &&", 13, "a condition is missing at the end"),
        ("&& status", 1, "a condition is missing here"),
        ("()", 2, "a condition is missing here"),
        ("status & method", 8, "write &&"),
        ("status | method", 8, "write ||"),
        ("== 5", 1, "a field is missing"),
        ("\"a\"==5", 1, "write a field"),
    ] {
        let told = Filter::read(filter).unwrap_err().to_string();
        assert!(told.contains(words), "{filter}: {told}");
        assert!(told.contains(&format!("at position {position}: ")), "{filter}: {told}");
        let (shown, mark) = (told.lines().nth(1).unwrap(), told.lines().nth(2).unwrap());
        assert_eq!(shown.trim_start(), filter);
        assert_eq!(mark.chars().take_while(|character| *character == ' ').count(), position + 3, "{told}");
    }
}

#[test]
fn nothing_is_without_a_bound() {
    for (filter, words) in [
        ("!".repeat(MOST_BYTES - 1), "within each other"),
        ("(".repeat(MOST_BYTES - 1), "within each other"),
        (vec!["path~a"; 17].join("||"), "at most 16"),
        (" ".repeat(MOST_BYTES + 1), "at most 2048 bytes"),
        (format!("path~'{}a{}'", "(".repeat(60), ")".repeat(60)), "the expression"),
        ("path~'(a{100}){100}'".to_owned(), "the expression is too large"),
    ] {
        let told = Filter::read(&filter).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
        assert!(told.len() < 1000, "a long filter is not repeated whole: {told}");
    }
    let many = vec!["!(status==1)"; 140].join("&&");
    Filter::read(&many).unwrap();
}

proptest! {
    #[test]
    fn any_text_is_a_filter_or_not(
        text in r#"([ -~ö]|&&|\|\||==|!~|>=|status|path|client|\(|\)|"|'|!|5|50ms|10.0.0.0/8){0,40}"#
    ) {
        match Filter::read(&text) {
            Ok(filter) => { filter.wants(&usual()); }
            Err(error) => prop_assert!(error.to_string().contains("^ ")),
        }
    }
}
