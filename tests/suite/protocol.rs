//! What PHP clients put on the wire, byte by byte, and what becomes of the pages they mean: FOSHttpCache 2 and 3,
//! ezplatform-http-cache 0.8 to 2, the kernels before them. The lines stand in the order and the case in which these clients
//! send them.

use bytes::Bytes;
use clearcoat_tests::client::Connection;
use clearcoat_tests::{Answer, Node, Page, Proxy, Request, Served, Setup, wait};

const HOST: &str = "www.example.com";

/// The pages, each with what it is known by.
const PAGES: [&str; 6] = ["/a", "/a?b=1", "/list.json", "/typeless", "/untagged", "/news/1"];

async fn application() -> Node {
    let node = Node::start().await;
    let page = |tags: &str| {
        Page::numbered("page").cache_control("s-maxage=600, stale-while-revalidate=600").header("xkey", tags)
    };
    let html = |tags: &str| {
        page(tags).header("Content-Type", "text/html; charset=UTF-8").header("X-Location-Id", "42")
    };
    node.serve("/a", html("c1 l2 ez-all"));
    node.serve("/a?b=1", html("c11 l3 ez-all"));
    node.serve(
        "/list.json",
        page("a.b c3 ez-all").header("Content-Type", "application/json").header("X-Location-Id", "420"),
    );
    node.serve("/typeless", page("c1 ez-all"));
    node.serve("/untagged", Page::numbered("page").fresh_for(600).header("Content-Type", "text/html"));
    node.serve("/news/1", html("C1 ez-all"));
    node
}

async fn before(node: &Node, preset: &str) -> Proxy {
    let hash = Page::text("").header("Content-Type", "application/vnd.fos.user-context-hash");
    let hash = hash.header("X-User-Context-Hash", "all").header("X-User-Hash", "all");
    node.serve("/_fos_user_context_hash", hash.fresh_for(600));
    Setup::before(node).site(&format!("preset = \"{preset}\"")).start().await
}

fn page(target: &str) -> Request {
    Request::get(target).host(HOST)
}

async fn is_there(proxy: &Proxy, target: &str) -> bool {
    proxy.ask(&page(target)).await.served() == Served::Hit
}

/// Sends what a client sent, over a connection of its own that ends with it.
async fn say(proxy: &Proxy, text: &str) -> Answer {
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(text.replace('\n', "\r\n")).await.unwrap();
    let method = text.split(' ').next().unwrap();
    let answer = connection.answer(method).await.unwrap();
    connection.closed().await.unwrap();
    answer
}

/// What `text` makes of the pages: those that are named are gone or stale, all others as they were.
async fn check(preset: &str, text: &str, reason: &str, gone: &[&str]) {
    let node = application().await;
    let proxy = before(&node, preset).await;
    for target in PAGES {
        proxy.ask(&page(target)).await.expect_status(200);
        assert!(is_there(&proxy, target).await, "{target}");
    }
    let answer = say(&proxy, text).await.expect_status(200);
    assert_eq!(answer.reason, reason, "{text}{answer}");
    for target in PAGES {
        // Of what is stale the old page is shown once more.
        let answer = proxy.ask(&page(target)).await;
        let is_gone = answer.served() == Served::Miss || answer.text() != "page 1" || is_stale(&answer);
        assert_eq!(is_gone, gone.contains(&target), "{target} after {text}{answer}");
    }
}

fn is_stale(answer: &Answer) -> bool {
    answer.header("cache-status").is_some_and(|status| status.contains("ttl=-"))
}

#[tokio::test]
async fn fos_purges_urls() {
    let lines = "Host: www.example.com\nUser-Agent: GuzzleHttp/7\nConnection: Close\n\n";
    for preset in ["symfony", "http", "ez-platform"] {
        check(preset, &format!("PURGE /a HTTP/1.1\n{lines}"), "Purged", &["/a"]).await;
        check(preset, &format!("PURGE /a?b=1 HTTP/1.1\n{lines}"), "Purged", &["/a?b=1"]).await;
        check(preset, &format!("PURGE /nowhere HTTP/1.1\n{lines}"), "Purged", &[]).await;
        // Whatever else is in it narrows nothing; the host in capitals is the same here.
        let narrow =
            "PURGE /a HTTP/1.1\nHost: WWW.example.com\nAccept: text/html\nCookie: a=b\nConnection: Close\n\n";
        check(preset, narrow, "Purged", &["/a"]).await;
        let other = "PURGE /a HTTP/1.1\nHost: example.com\nConnection: Close\n\n";
        check(preset, other, "Purged", &[]).await;
    }
}

#[tokio::test]
async fn fos_bans() {
    let ban = |conditions: &str| {
        format!(
            "BAN /base/ HTTP/1.1\nHost: www.example.com\nAuthorization: Basic dXNlcjpwdw==\nUser-Agent: GuzzleHttp/7\n\
             {conditions}Connection: Close\n\n"
        )
    };
    let typed = ["/a", "/a?b=1", "/list.json", "/untagged", "/news/1"];
    let all = "X-Host: .*\nX-Url: .*\nX-Content-Type: .*\n";
    // A page without a type outlives a ban by type.
    check("symfony", &ban(all), "Banned", &typed).await;
    let of = |host: &str, url: &str, kind: &str| {
        ban(&format!("X-Host: {host}\nX-Url: {url}\nX-Content-Type: {kind}\n"))
    };
    for (host, url, kind, gone) in [
        // A list of hosts, as FOSHttpCache writes it.
        ("^(www.example.com|other.example.com)$", ".*", ".*", &typed[..]),
        ("^(other.example.com)$", ".*", ".*", &[]),
        (".*", "^/news/", ".*", &["/news/1"]),
        (".*", "^/a$", ".*", &["/a"]),
        (".*", "^/a", "text/html", &["/a", "/a?b=1"]),
        (".*", ".*", "json", &["/list.json"]),
        // What only PCRE reads: case, look-ahead, a reference back.
        (".*", "(?i)^/NEWS/", ".*", &["/news/1"]),
        (".*", "^/NEWS/", ".*", &[]),
        (".*", r"^/a(?!\?)", ".*", &["/a"]),
        (".*", r"^/n(e)ws/1$|(x)\1", ".*", &["/news/1"]),
    ] {
        check("symfony", &of(host, url, kind), "Banned", gone).await;
    }
}

#[tokio::test]
async fn fos_invalidates_tags_by_bans() {
    let node = Node::start().await;
    let page = |tags: &str| {
        Page::numbered("page").fresh_for(600).header("Content-Type", "text/html").header("X-Cache-Tags", tags)
    };
    // All that preg_quote() puts a backslash before.
    let special = r". + * ? [ ^ ] $ ( ) { } = ! < > | : - #";
    let marks: Vec<&str> = special.split(' ').collect();
    for (number, mark) in marks.iter().enumerate() {
        node.serve(&format!("/{number}"), page(&format!("other,a{mark}b,c")));
    }
    let proxy = before(&node, "symfony").await;
    let ask = |number: usize| Request::get(&format!("/{number}")).host(HOST);
    for number in 0..marks.len() {
        proxy.ask(&ask(number)).await.expect_status(200);
    }
    for (number, mark) in marks.iter().enumerate() {
        let text = format!(
            "BAN / HTTP/1.1\nHost: www.example.com\nUser-Agent: GuzzleHttp/7\nX-Host: .*\nX-Url: .*\nX-Content-Type: .*\n\
             X-Cache-Tags: (^|,)(none|a\\{mark}b)(,|$)\nConnection: Close\n\n"
        );
        say(&proxy, &text).await.expect_status(200);
        for other in 0..marks.len() {
            let there = proxy.ask(&ask(other)).await.served() == Served::Hit;
            assert_eq!(there, other != number, "{other} after a ban of a{mark}b");
        }
    }
}

#[tokio::test]
async fn fos_and_ez_3_invalidate_tags_by_keys() {
    let purge = |header: &str, tags: &str| {
        format!(
            "PURGEKEYS /base/ HTTP/1.1\nHost: 127.0.0.1:6081\nUser-Agent: GuzzleHttp/7\n{header}: {tags}\nConnection: Close\n\n"
        )
    };
    for preset in ["symfony", "ez-platform"] {
        for (header, tags, reason, gone) in [
            // Keys are compared whole, and with their case.
            ("xkey-softpurge", "c1 none", "Purged 0 objects, expired 2 objects", &["/a", "/typeless"][..]),
            ("xkey-purge", "c1", "Purged 2 objects, expired 0 objects", &["/a", "/typeless"]),
            ("xkey-purge", "C1", "Purged 1 objects, expired 0 objects", &["/news/1"]),
            (
                "xkey-purge",
                "l2 l3 a.b",
                "Purged 3 objects, expired 0 objects",
                &["/a", "/a?b=1", "/list.json"],
            ),
            ("xkey-purge", "c", "Purged 0 objects, expired 0 objects", &[]),
            ("xkey-purge", "", "Purged 0 objects, expired 0 objects", &[]),
            (
                "xkey-softpurge",
                "ez-all",
                "Purged 0 objects, expired 5 objects",
                &["/a", "/a?b=1", "/list.json", "/typeless", "/news/1"],
            ),
        ] {
            check(preset, &purge(header, tags), reason, gone).await;
        }
    }
}

#[tokio::test]
async fn fos_refreshes() {
    let node = application().await;
    let proxy = before(&node, "symfony").await;
    proxy.ask(&page("/a")).await.expect_status(200);
    let refresh = "GET /a HTTP/1.1\nHost: www.example.com\nUser-Agent: GuzzleHttp/7\nCache-Control: no-cache\nConnection: Close\n\n";
    assert_eq!(say(&proxy, refresh).await.expect_status(200).text(), "page 2");
    let next = proxy.ask(&page("/a")).await;
    assert_eq!((next.text().as_str(), next.served()), ("page 2", Served::Hit), "{next}");
    // eZ Platform's VCL knows nothing of it.
    let proxy = before(&node, "ez-platform").await;
    proxy.ask(&page("/a")).await.expect_status(200);
    assert_eq!(say(&proxy, refresh).await.served(), Served::Hit);
}

#[tokio::test]
async fn ez_2_and_1_purge_in_their_ways() {
    let lines = "Host: 127.0.0.1:6081\nUser-Agent: GuzzleHttp/6.3.3 curl/7.58.0 PHP/7.1\n";
    for (preset, request, reason, gone) in [
        // ezplatform-http-cache 0.9 and 1.0; 0.8 the same with one tag a request.
        (
            "ez-platform-2",
            "PURGE / HTTP/1.1\n@key: c1 l3\n",
            "Invalidated 3 objects",
            &["/a", "/a?b=1", "/typeless"][..],
        ),
        (
            "ez-platform-1",
            "PURGE / HTTP/1.1\n@key: ez-all\n",
            "Invalidated 5 objects",
            &["/a", "/a?b=1", "/list.json", "/typeless", "/news/1"],
        ),
        // The kernel of eZ Platform 1, and that of 2014.11, whose expression is not anchored.
        (
            "ez-platform-1",
            "BAN / HTTP/1.1\n@X-Host: .*\nX-Url: .*\nX-Content-Type: .*\nX-Location-Id: ^(1|42|3)$\n",
            "Banned",
            &["/a", "/a?b=1", "/news/1"],
        ),
        (
            "ez-platform-1",
            "BAN / HTTP/1.1\n@X-Location-Id: (1|42|3)\n",
            "Banned",
            &["/a", "/a?b=1", "/list.json", "/news/1"],
        ),
        (
            "ez-platform-1",
            "BAN / HTTP/1.1\n@X-Location-Id: .*\n",
            "Banned",
            &["/a", "/a?b=1", "/list.json", "/news/1"],
        ),
        // The kernels up to 5.3.
        ("ez-platform-1", "PURGE / HTTP/1.1\n@X-Location-Id: 42\n", "Banned", &["/a", "/a?b=1", "/news/1"]),
        ("ez-platform-1", "PURGE / HTTP/1.1\n@X-Group-Location-Id: 1; 420; 3\n", "Banned", &["/list.json"]),
        (
            "ez-platform-1",
            "PURGE / HTTP/1.1\n@X-Location-Id: *\n",
            "Banned",
            &["/a", "/a?b=1", "/list.json", "/news/1"],
        ),
    ] {
        let text = format!("{}Connection: Close\n\n", request.replace('@', lines));
        check(preset, &text, reason, gone).await;
    }
}

#[tokio::test]
async fn long_lists_come_in_whole() {
    let node = application().await;
    let proxy = before(&node, "ez-platform").await;
    // The client cuts lists at 7,500 characters, which may be four bytes each; one tag may be longer than that.
    let many = format!("{} l2", vec!["ü-1234567"; 5_000].join(" "));
    for tags in [format!("{} l2", "x".repeat(7_500)), many] {
        proxy.ask(&page("/a")).await;
        assert!(is_there(&proxy, "/a").await);
        let mut connection = Connection::open(proxy.address()).await;
        let head = format!(
            "PURGEKEYS / HTTP/1.1\r\nHost: {HOST}\r\nxkey-purge: {tags}\r\nConnection: Close\r\n\r\n"
        );
        connection.send(head).await.unwrap();
        let answer = connection.answer("PURGEKEYS").await.unwrap();
        let is_too_long = tags.starts_with("xxx");
        // A tag beyond 4 KiB is none that a page could carry; what is beyond the limit on heads is refused, never cut.
        assert_eq!(answer.status, if is_too_long { 400 } else { 200 }, "{answer}");
        assert_eq!(is_there(&proxy, "/a").await, is_too_long);
    }
    let tags = vec!["x".repeat(1_000); 100].join(" ");
    let answer = proxy.ask(&Request::new("PURGEKEYS", "/").header("xkey-purge", &tags)).await;
    assert_eq!(answer.status, 431, "{answer}");
}

#[tokio::test]
async fn pages_bring_their_tags_in_as_many_lines_as_they_like() {
    let node = Node::start().await;
    let line =
        |name: &str| (0..4_000).map(|number| format!("{name}{number:03}")).collect::<Vec<_>>().join(" ");
    let lines = [line("a"), line("b"), line("c")];
    assert!(lines.iter().all(|line| line.len() > 16_000));
    let mut page =
        Page::text("page").fresh_for(600).header("X-HashTwo", "hashed").header("XKey", "comma,separated");
    for line in &lines {
        page = page.header("xkey", line);
    }
    for number in 0..100 {
        page = page.header(&format!("X-Other-{number}"), "1");
    }
    node.serve("/a", page);
    let proxy = before(&node, "ez-platform").await;
    for tag in ["a000", "b1234", "c3999", "hashed", "comma", "separated"] {
        proxy.warm(["/a"]).await;
        proxy.purge_tags(tag).await;
        assert_ne!(proxy.get("/a").await.served(), Served::Hit, "{tag}");
    }
}

#[tokio::test]
async fn a_flush_opens_all_its_connections_at_once() {
    let node = application().await;
    let proxy = before(&node, "ez-platform").await;
    proxy.ask(&page("/a")).await;
    let request =
        Request::new("PURGEKEYS", "/").header("xkey-softpurge", "l2 c9").header("Connection", "Close");
    let crowd = proxy.crowd(400, &request);
    for answer in crowd.answers().await {
        answer.expect_status(200);
    }
    wait::until("the new page", async || (proxy.ask(&page("/a")).await.text() == "page 2").then_some(()))
        .await;
}

#[tokio::test]
async fn refusals_have_the_statuses_that_clients_expect() {
    let node = application().await;
    let proxy = before(&node, "symfony").await;
    for method in ["PURGE", "PURGEKEYS", "BAN"] {
        // A stranger learns nothing but that, whatever else is wrong with the request.
        let mut stranger = Connection::open_from([127, 0, 0, 66].into(), proxy.address()).await;
        let answer = stranger.ask(&Request::new(method, "/").header("X-Forwarded-For", "127.0.0.1")).await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (405, "Method not allowed"),
            "{method}: {answer}"
        );
    }
    let answer = proxy.ask(&Request::new("PURGEKEYS", "/")).await;
    assert_eq!((answer.status, answer.body.is_empty()), (400, false), "{answer}");
    assert_eq!(answer.body.slice(..7), Bytes::from_static(b"Neither"));
}
