//! Parts of pages that are not in memory yet.

use bytes::Bytes;
use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup, wait};

const MIB: usize = 1 << 20;

/// A body in which every four bytes tell their place.
fn film(length: usize) -> Bytes {
    let mut body: Vec<u8> = (0..length.div_ceil(4) as u32).flat_map(u32::to_be_bytes).collect();
    body.truncate(length);
    body.into()
}

/// What a web server answers: a part to whoever asks for one, and else the whole, as `whole` says.
fn with_parts(body: &Bytes, whole: Page) -> Page {
    let body = body.clone();
    Page::composed(move |request| {
        let Some(range) = request.header("range") else { return whole.clone() };
        let (first, last) = range.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')).unwrap();
        let part = match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => first..last + 1,
            (Ok(first), Err(_)) => first..body.len(),
            (Err(_), Ok(count)) => body.len() - count..body.len(),
            (Err(_), Err(_)) => panic!("a range without numbers: {range}"),
        };
        let told = format!("bytes {}-{}/{}", part.start, part.end - 1, body.len());
        Page::text(body.slice(part)).status(206).fresh_for(60).header("Content-Range", &told)
    })
}

fn part(path: &str, range: &str) -> Request {
    Request::get(path).header("Range", range)
}

/// How often the whole of a page was asked for, and how often a part.
fn asked(node: &Node, path: &str) -> (usize, usize) {
    let requests = node.requests();
    let (parts, wholes): (Vec<_>, Vec<_>) = requests
        .iter()
        .filter(|request| request.path() == path)
        .partition(|request| request.header("range").is_some());
    (wholes.len(), parts.len())
}

#[tokio::test]
async fn parts_of_a_cold_page_are_cut_from_it() {
    let text = "0123456789abcdef";
    for (number, (range, status, told, expected)) in [
        ("bytes=2-4", 206, Some("bytes 2-4/16"), "234"),
        ("bytes=0-", 206, Some("bytes 0-15/16"), text),
        ("bytes=10-", 206, Some("bytes 10-15/16"), "abcdef"),
        ("bytes=-3", 206, Some("bytes 13-15/16"), "def"),
        ("bytes=-300", 206, Some("bytes 0-15/16"), text),
        ("bytes=16-", 416, Some("bytes */16"), ""),
        ("bytes=-0", 416, Some("bytes */16"), ""),
        ("lines=1-2", 200, None, text),
        ("bytes=4-2", 200, None, text),
    ]
    .into_iter()
    .enumerate()
    {
        for chunked in [false, true] {
            let node = Node::start().await;
            let path = format!("/{number}");
            let page = Page::text(text).fresh_for(60).header("ETag", "\"1\"");
            node.serve(&path, if chunked { page.chunked() } else { page });
            let proxy = Proxy::before(&node).await;
            for served in [Served::Miss, Served::Hit] {
                let answer = proxy.ask(&part(&path, range)).await;
                let seen = (answer.status, answer.header("content-range"), answer.text());
                assert_eq!(
                    seen,
                    (status, told, expected.to_owned()),
                    "{range}, chunked: {chunked}: {answer}"
                );
                assert_eq!(answer.served(), served, "{range}, chunked: {chunked}: {answer}");
            }
            assert_eq!(asked(&node, &path), (1, 0), "{range}: the whole was fetched, once");
        }
    }
}

#[tokio::test]
async fn several_parts_of_a_cold_page_come_in_one_answer() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let body = film(300_000);
    node.serve("/page", Page::text(body.clone()).fresh_for(60).held_in_body(200_000, &gate));
    node.serve("/large", Page::text(film(2 * MIB)).fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let crowd = proxy.crowd(1, &part("/page", "bytes=0-3,299996-299999"));
    gate.reached(1).await;
    gate.open();
    for answer in
        [crowd.answers().await.remove(0), proxy.ask(&part("/page", "bytes=0-3,299996-299999")).await]
    {
        assert_eq!(answer.status, 206, "{answer}");
        let boundary = answer.header("content-type").unwrap().split_once("boundary=").unwrap().1.to_owned();
        let parts = answer.body.windows(boundary.len()).filter(|bytes| *bytes == boundary.as_bytes()).count();
        assert_eq!(parts, 3, "two parts and the end");
        assert!(answer.body.windows(4).any(|bytes| bytes == &body[299_996..]));
    }
    // Of a large one it would take too long to wait for the end.
    assert_eq!(proxy.ask(&part("/large", "bytes=0-3,9-10")).await.status, 200);
}

#[tokio::test]
async fn a_condition_on_a_range_is_held_against_the_new_answer() {
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (number, (condition, status)) in [
        ("\"1\"", 206),
        ("\"2\"", 200),
        ("W/\"1\"", 200),
        (modified, 206),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 200),
    ]
    .into_iter()
    .enumerate()
    {
        let node = Node::start().await;
        let page = Page::text("0123456789").fresh_for(60).header("ETag", "\"1\"");
        node.serve_everything(page.header("Last-Modified", modified));
        let proxy = Proxy::before(&node).await;
        let request = part(&format!("/{number}"), "bytes=2-4").header("If-Range", condition);
        for _ in 0..2 {
            let answer = proxy.ask(&request).await;
            assert_eq!(answer.status, status, "{condition}: {answer}");
        }
    }
    // The client has the page: then it is not sent a part of it.
    let node = Node::start().await;
    node.serve("/", Page::text("0123456789").fresh_for(60).header("ETag", "\"1\""));
    let proxy = Proxy::before(&node).await;
    for _ in 0..2 {
        let answer = proxy.ask(&part("/", "bytes=2-4").header("If-None-Match", "\"1\"")).await;
        assert_eq!(answer.status, 304, "{answer}");
    }
}

#[tokio::test]
async fn the_end_of_a_film_does_not_wait_for_its_beginning() {
    let body = film(20 * MIB);
    // Kept, with others who watch it from the start; kept, with nobody else; too large to be kept.
    for (case, max_entry, watched, why) in [
        ("watched by others", "32MiB", true, "partial"),
        ("nobody else", "32MiB", false, "partial"),
        ("not kept", "1MiB", false, "uri-miss"),
    ] {
        let node = Node::start().await;
        let gate = Gate::closed();
        let whole = Page::text(body.clone()).fresh_for(60).held_in_body(MIB, &gate);
        node.serve("/film", with_parts(&body, whole));
        let cache = format!("memory = \"128MiB\"\nmax_entry = \"{max_entry}\"");
        let proxy = Setup::before(&node).cache(&cache).start().await;
        let watching = watched.then(|| proxy.crowd(2, &Request::get("/film")));
        if watched {
            gate.reached(1).await;
        }
        // The gate is closed: whoever waited for what lies before would wait for ever.
        for (range, expected) in [
            ("bytes=-1000", 20 * MIB - 1000..20 * MIB),
            ("bytes=20000000-", 20_000_000..20 * MIB),
            ("bytes=9000000-9000999", 9_000_000..9_001_000),
        ] {
            let answer = proxy.ask(&part("/film", range).header("X-Original-URL", "/other")).await;
            assert_eq!(answer.status, 206, "{case}, {range}: {answer}");
            assert!(answer.body == body[expected], "{case}, {range}: other bytes");
            let status = answer.header("cache-status").unwrap();
            assert!(status.contains(&format!("fwd={why}")) && !status.contains("stored"), "{case}: {status}");
            let request = node.last("/film");
            assert_eq!((request.header("range"), request.header("x-original-url")), (Some(range), None));
        }
        gate.open();
        if max_entry == "1MiB" {
            assert_eq!(asked(&node, "/film"), (1, 3), "{case}: the whole was tried once");
        }
        if let Some(watching) = watching {
            assert!(watching.answers().await.iter().all(|answer| answer.body == body), "{case}");
            assert_eq!(asked(&node, "/film"), (1, 3), "{case}");
            let again = proxy.ask(&part("/film", "bytes=-1000")).await;
            assert_eq!((again.status, again.served()), (206, Served::Hit), "{case}");
        }
        // What nobody watched was not fetched to its end either.
        wait::until(&format!("nothing to be left over: {case}"), async || {
            let metrics = proxy.metrics().await;
            (metrics.sum("clearcoat_cache_fill_bytes", &[]) == 0.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_near_comes_from_the_body_on_its_way() {
    let body = film(8 * MIB);
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve(
        "/film",
        with_parts(&body, Page::text(body.clone()).fresh_for(60).held_in_body(2 * MIB, &gate)),
    );
    let proxy = Setup::before(&node).cache("max_entry = \"16MiB\"").start().await;
    let watching = proxy.crowd(1, &Request::get("/film"));
    gate.reached(1).await;
    wait::until("two MiB to come", async || {
        let bytes = proxy.metrics().await.sum("clearcoat_cache_fill_bytes", &[]);
        (bytes >= 2.0 * MIB as f64).then_some(())
    })
    .await;
    // There already.
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=65535-65536", 65_535..65_537),
        ("bytes=1000000-1999999", 1_000_000..2_000_000),
    ] {
        let answer = proxy.ask(&part("/film", range)).await;
        assert_eq!((answer.status, answer.served()), (206, Served::Collapsed), "{range}: {answer}");
        assert!(answer.body == body[expected], "{range}: other bytes");
    }
    // Begun, near, and the whole as a range: they wait for the gate.
    let ranges = [
        ("bytes=0-", 0..8 * MIB),
        ("bytes=2000000-2999999", 2_000_000..3_000_000),
        ("bytes=3000000-", 3_000_000..8 * MIB),
    ];
    let waiting: Vec<_> = ranges.iter().map(|(range, _)| proxy.crowd(1, &part("/film", range))).collect();
    wait::until("them to wait", async || {
        let inside = proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]);
        (inside == 4.0).then_some(())
    })
    .await;
    gate.open();
    for ((range, expected), answers) in ranges.into_iter().zip(waiting) {
        let answer = answers.answers().await.remove(0);
        assert_eq!(answer.status, 206, "{range}: {answer}");
        assert!(answer.body == body[expected], "{range}: other bytes");
    }
    assert!(watching.answers().await[0].body == body);
    assert_eq!(asked(&node, "/film"), (1, 0));
}

#[tokio::test]
async fn a_crowd_with_ranges_shares_one_fetch() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let body = film(100_000);
    node.serve("/page", Page::text(body.clone()).fresh_for(60).held_before_head(&gate));
    let proxy = Proxy::before(&node).await;
    let crowds: Vec<_> = (0..40)
        .map(|number| proxy.crowd(1, &part("/page", &format!("bytes={}-{}", number * 2000, number * 2500))))
        .collect();
    gate.reached(1).await;
    wait::until("them to wait", async || {
        let inside = proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]);
        (inside == 40.0).then_some(())
    })
    .await;
    gate.open();
    for (number, crowd) in crowds.into_iter().enumerate() {
        let answer = crowd.answers().await.remove(0);
        assert_eq!(answer.status, 206, "{answer}");
        assert!(answer.body == body[number * 2000..=number * 2500], "{number}");
    }
    assert_eq!(asked(&node, "/page"), (1, 0));
}

#[tokio::test]
async fn parts_of_what_is_not_for_sharing_are_the_nodes_own() {
    let node = Node::start().await;
    let body = film(8 * MIB);
    node.serve("/mine", with_parts(&body, Page::text(body.clone()).no_store()));
    let proxy = Proxy::before(&node).await;
    // Not known yet: the beginning is cut from the answer that is there, and what is far is asked for.
    assert!(proxy.ask(&part("/mine", "bytes=10-19")).await.expect_status(206).body == body[10..20]);
    assert_eq!(asked(&node, "/mine"), (1, 0));
    // Known: the node is asked for just that.
    for range in [10..20, 7_000_000..7_000_010] {
        let request = part("/mine", &format!("bytes={}-{}", range.start, range.end - 1));
        let answer = proxy.ask(&request).await.expect_status(206);
        assert!(answer.body == body[range.clone()], "{range:?}");
        assert_eq!(answer.served(), Served::Miss);
    }
    assert_eq!(asked(&node, "/mine"), (1, 2));
    // A node that does not know of ranges sends the whole, and is not asked twice.
    node.serve("/plain", Page::text(body.clone()).no_store());
    for _ in 0..2 {
        let answer = proxy.ask(&part("/plain", "bytes=7000000-7000009")).await.expect_status(200);
        assert!(answer.body == body);
    }
    assert_eq!(asked(&node, "/plain"), (1, 2), "once for the whole, and for the part each time");
}

#[tokio::test]
async fn a_range_of_a_body_of_unknown_length_is_the_whole_or_the_nodes_own() {
    let node = Node::start().await;
    let body = film(4 * MIB);
    let proxy = Setup::before(&node).cache("max_entry = \"8MiB\"").start().await;
    for (path, range, status) in
        [("/near", "bytes=5-9", 200), ("/far", "bytes=4000000-4000009", 206), ("/end", "bytes=-10", 206)]
    {
        let gate = Gate::closed();
        let whole = Page::text(body.clone()).chunked().fresh_for(60).held_in_body(MIB, &gate);
        node.serve(path, with_parts(&body, whole));
        let watching = proxy.crowd(1, &Request::get(path));
        gate.reached(1).await;
        let asking = proxy.crowd(1, &part(path, range));
        wait::until("the part to be asked for", async || {
            let (_, parts) = asked(&node, path);
            let inside = proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]);
            (inside == 2.0 || parts > 0).then_some(())
        })
        .await;
        if status == 206 {
            assert_eq!(asking.answers().await[0].status, 206, "{path}");
            gate.open();
        } else {
            gate.open();
            assert!(asking.answers().await[0].body == body, "{path}");
        }
        assert!(watching.answers().await[0].body == body, "{path}");
        assert_eq!(proxy.ask(&part(path, range)).await.expect_status(206).served(), Served::Hit, "{path}");
    }
}
