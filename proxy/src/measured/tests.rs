#![allow(clippy::unwrap_used)]

use std::time::Duration;

use clearcoat_cache::{Entry, EntryParts, Lifetime, Moment, Scheme, VariantKey};

use super::*;

const CONFIGURATION: &str = r#"
    listen = [{ address = "127.0.0.1:8080" }]
    [pools.web]
    nodes = ["127.0.0.1:1"]
    [[site]]
    hosts = ["www.example.com"]
    pool = "web"
    [[site.route]]
    path = "/admin/*"
    cache = "pass"
"#;

const HEAD: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\n\r\n";

#[test]
fn a_request_goes_all_the_way_of_a_hit() {
    let edge = Edge::new(CONFIGURATION).unwrap();
    let mut room = Room::new();
    let request = Request::read(HEAD, &mut room).unwrap();
    assert_eq!(request.target(), b"/a?b");
    assert_eq!(edge.route(b"www.example.com", b"/a?b"), Some(false));
    assert_eq!(edge.route(b"www.example.com", b"/admin/a"), Some(true));
    assert_eq!(edge.route(b"elsewhere.example", b"/a"), None);
    assert!(edge.decide(&request).is_none(), "nothing is stored");

    let store = edge.store();
    let entry = Entry::new(EntryParts {
        key: store.secret().key(Scheme::Https, b"www.example.com", b"/a?b"),
        variant: VariantKey::NONE,
        url: "http://www.example.com/a?b".into(),
        status: 200,
        head: "HTTP/1.1 200 OK\r\nX: y\r\n".into(),
        body: "body".into(),
        tags: [].into(),
        stored: Moment::from_millis(0),
        lifetime: Lifetime { ttl: Duration::from_secs(86_400), ..Lifetime::default() },
    });
    store.commit(&store.begin_fill(), entry, None, Moment::from_millis(0));
    let mut output = Vec::new();
    assert_eq!(edge.decide(&request).unwrap().write_head(&mut output), 200);
    let output = String::from_utf8(output).unwrap();
    assert!(output.starts_with("HTTP/1.1 200 OK\r\nX: y\r\nAge: "), "{output}");
    assert!(output.contains("Cache-Status: clearcoat; hit; ttl="), "{output}");
    assert!(output.ends_with("\r\n\r\n"), "{output}");
}

#[test]
fn what_is_no_head_is_none() {
    assert!(Request::read(&HEAD[..HEAD.len() - 1], &mut Room::new()).is_none());
    assert!(Request::read(b"GET / HTTP/1.1\r\n\r\n", &mut Room::default()).is_none());
}

#[test]
fn lines_tell_of_the_request() {
    let mut room = Room::new();
    let request = Request::read(HEAD, &mut room).unwrap();
    let line = |format| {
        let mut output = Vec::new();
        LogLine::of_hit(&request, 1024, format).write(&mut output);
        String::from_utf8(output).unwrap()
    };
    assert_eq!(
        line(Format::Combined),
        "203.0.113.7 - - [22/Nov/2026:00:00:00 +0000] \"GET /a?b HTTP/1.1\" 200 1024 \"-\" \"curl/8.5.0\"\n"
    );
    assert!(line(Format::Json).contains("\"duration_us\":17,\"result\":\"hit\""));
}

#[test]
fn pages_have_parts() {
    assert_eq!(Page::read(b"<p>text</p>").parts(), 1);
    assert_eq!(Page::read(b"a<esi:include src=\"/b\"/>c").parts(), 3);
}
