//! Bodies on their way: at once, whole, and never half in the cache.

use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup};

/// A body in which every byte depends on its place, so that a shifted or doubled piece shows.
fn patterned(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut body = Vec::with_capacity(length + 8);
    while body.len() < length {
        // Xorshift (Marsaglia, 2003): long period, no table.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(length);
    body
}

#[tokio::test]
async fn the_first_bytes_come_before_the_last_are_there() {
    for (path, page) in [
        ("/length", Page::text("first half, second half").fresh_for(60)),
        ("/chunked", Page::text("first half, second half").fresh_for(60).chunked()),
        ("/uncacheable", Page::text("first half, second half").no_store()),
    ] {
        let node = Node::start().await;
        let gate = Gate::closed();
        node.serve(path, page.held_in_body(10, &gate));
        let proxy = Proxy::before(&node).await;
        let mut visitors = Vec::new();
        for _ in 0..3 {
            let mut visitor = proxy.connect().await;
            visitor.send(Request::get(path).to_bytes()).await.unwrap();
            let mut head = visitor.head("GET").await.unwrap();
            assert_eq!(visitor.piece(&mut head).await.unwrap(), "first half", "{path}");
            visitors.push((visitor, head));
        }
        gate.open();
        for (mut visitor, head) in visitors {
            assert_eq!(visitor.rest(head).await.unwrap().text(), ", second half", "{path}");
        }
    }
}

#[tokio::test]
async fn a_large_body_arrives_byte_for_byte() {
    let node = Node::start().await;
    let body = patterned(50 << 20);
    node.serve("/film", Page::text(body.clone()).fresh_for(60));
    node.serve("/film-chunked", Page::text(body.clone()).fresh_for(60).chunked());
    node.serve("/film-passed", Page::text(body.clone()).no_store());
    let proxy = Setup::before(&node).cache("memory = \"256MiB\"\nmax_entry = \"64MiB\"").start().await;
    for path in ["/film", "/film", "/film-chunked", "/film-chunked", "/film-passed"] {
        let answer = proxy.get(path).await.expect_status(200);
        assert_eq!(answer.body.len(), body.len(), "{path}");
        assert!(answer.body == body, "{path}: the bytes differ");
    }
    assert_eq!((node.count("/film"), node.count("/film-chunked")), (1, 1));
}

#[tokio::test]
async fn a_large_upload_arrives_byte_for_byte() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo());
    let proxy = Proxy::before(&node).await;
    let body = patterned(8 << 20);
    for request in [Request::post("/echo", body.clone()), Request::post("/echo", body.clone()).chunked()] {
        let answer = proxy.ask(&request).await.expect_status(200);
        assert!(node.last("/echo").body == body, "what the node got differs");
        assert!(answer.body == body, "what came back differs");
    }
}

#[tokio::test]
async fn a_truncated_body_is_never_stored() {
    let node = Node::start().await;
    let whole = "the whole body";
    let cut = [
        ("/length", Page::text(whole).fresh_for(60).cut_after(5)),
        ("/chunked", Page::text(whole).fresh_for(60).chunked().cut_after(5)),
        ("/last-chunk", Page::text(whole).fresh_for(60).chunked().cut_after(whole.len())),
    ];
    for (path, page) in &cut {
        node.serve(path, page.clone());
    }
    let proxy = Setup::before(&node).pool("passive = { errors = 1000 }").start().await;
    for (path, _) in cut {
        // Part of the body may be on its way already: then the visitor must see that it was cut.
        let answer = proxy.try_ask(&Request::get(path)).await;
        assert!(
            answer.as_ref().map_or(true, |answer| answer.status >= 500),
            "{path}: taken for whole: {}",
            answer.unwrap()
        );
        node.serve(path, Page::text(whole).fresh_for(60));
        let next = proxy.get(path).await.expect_status(200);
        assert_eq!((next.served(), next.text().as_str()), (Served::Miss, whole), "{path}");
    }
}

#[tokio::test]
async fn a_body_cut_in_mid_stream_is_never_stored() {
    // Too large to be held back until it is whole: the visitor has its head by then.
    let whole = patterned(300_000);
    let page = Page::text(whole.clone()).fresh_for(60);
    let old_head =
        format!("HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n", whole.len());
    let old = [old_head.as_bytes(), &whole[..200_000]].concat();
    let bad_chunk = [
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n30D40\r\n",
        &whole[..200_000],
        b"\r\nno size\r\n",
    ]
    .concat();
    let cut = [
        ("/length", page.clone().cut_after(200_000)),
        ("/last-byte", page.clone().cut_after(whole.len() - 1)),
        ("/length-reset", page.clone().reset_after(200_000)),
        ("/chunked", page.clone().chunked().cut_after(200_000)),
        ("/last-chunk", page.clone().chunked().cut_after(whole.len())),
        ("/bad-chunk", Page::text("").raw(bad_chunk)),
        ("/until-close", page.clone().until_close().reset_after(200_000)),
        ("/old", Page::text("").raw(old)),
    ];
    let node = Node::start().await;
    for (path, page) in &cut {
        node.serve(path, page.clone());
    }
    let proxy = Setup::before(&node).pool("passive = { errors = 1000 }").start().await;
    for (path, _) in cut {
        let answer = proxy.try_ask(&Request::get(path)).await;
        assert!(answer.is_err(), "{path}: taken for whole: {}", answer.unwrap());
        node.serve(path, page.clone());
        let next = proxy.get(path).await.expect_status(200);
        assert_eq!(next.served(), Served::Miss, "{path}");
        assert!(next.body == whole, "{path}: the bytes differ");
    }
}

#[tokio::test]
async fn what_a_node_sends_beyond_a_body_reaches_nobody() {
    let poison = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 6\r\n\r\npoison";
    let small = "the whole body".as_bytes().to_vec();
    for (body, chunked) in [(small.clone(), false), (patterned(200_000), false), (small, true)] {
        let node = Node::start().await;
        let page = Page::text(body.clone()).fresh_for(60).followed_by(poison);
        node.serve("/long", if chunked { page.chunked() } else { page });
        node.serve_everything(Page::text("the next page").fresh_for(60));
        let proxy = Proxy::before(&node).await;
        let answer = proxy.get("/long").await.expect_status(200);
        assert!(answer.body == body, "{answer}");
        for number in 0..5 {
            let next = proxy.get(&format!("/next/{number}")).await.expect_status(200);
            assert_eq!(next.text(), "the next page");
        }
        let again = proxy.get("/long").await;
        assert_eq!((again.served(), again.body == body), (Served::Hit, true));
    }
}

#[tokio::test]
async fn whoever_has_read_a_page_to_its_end_finds_it_stored() {
    let node = Node::start().await;
    let body = patterned(300_000);
    let proxy = Setup::before(&node).cache("memory = \"64MiB\"").start().await;
    for number in 0..40 {
        let path = format!("/{number}");
        let page = Page::text(body.clone()).fresh_for(60);
        node.serve(&path, if number % 2 == 0 { page } else { page.chunked() });
        let mut visitor = proxy.connect().await;
        assert_eq!(visitor.get(&path).await.served(), Served::Miss, "{path}");
        assert_eq!(visitor.get(&path).await.served(), Served::Hit, "{path}");
    }
}

#[tokio::test]
async fn waiters_of_a_truncated_body_see_that_it_was_cut() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve(
        "/a",
        Page::text("x".repeat(100_000)).fresh_for(60).held_in_body(50_000, &gate).cut_after(50_000),
    );
    let proxy = Proxy::before(&node).await;
    let mut visitors = Vec::new();
    for _ in 0..5 {
        let mut visitor = proxy.connect().await;
        visitor.send(Request::get("/a").to_bytes()).await.unwrap();
        visitors.push((visitor.head("GET").await.unwrap(), visitor));
    }
    gate.open();
    for (head, mut visitor) in visitors {
        let error = visitor.rest(head).await.expect_err("half a body is no body");
        assert!(!format!("{error:#}").contains("in time"), "cut at once, not after a timeout: {error:#}");
    }
    assert_eq!(node.count("/a"), 1);
}

#[tokio::test]
async fn a_body_ended_by_close_is_served_whole() {
    let node = Node::start().await;
    node.serve("/old-style", Page::text("until the end").fresh_for(60).until_close());
    let proxy = Proxy::before(&node).await;
    let mut visitor = proxy.connect().await;
    for _ in 0..3 {
        // Its own framing makes the visitor's connection last.
        assert_eq!(visitor.get("/old-style").await.expect_status(200).text(), "until the end");
    }
}

#[tokio::test]
async fn chunks_with_extensions_and_trailers_are_read() {
    let node = Node::start().await;
    let raw = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
               3;name=value\r\nabc\r\n0004\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n";
    node.serve("/raw", Page::text("").raw(raw));
    let proxy = Proxy::before(&node).await;
    for _ in 0..2 {
        assert_eq!(proxy.get("/raw").await.expect_status(200).text(), "abcdefg");
    }
    assert_eq!(node.count("/raw"), 1);
}

#[tokio::test]
async fn a_garbled_answer_is_an_error_and_not_stored() {
    let answers = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        "\r\n",
    ];
    let node = Node::start().await;
    for (number, raw) in answers.iter().enumerate() {
        node.serve(&format!("/{number}"), Page::text("").raw(*raw));
    }
    let proxy = Setup::before(&node).pool("passive = { errors = 1000 }").start().await;
    for (number, raw) in answers.iter().enumerate() {
        let path = format!("/{number}");
        let answer = proxy.try_ask(&Request::get(&path)).await;
        assert!(
            answer.as_ref().map_or(true, |answer| answer.status >= 500),
            "{raw:?} became {}",
            answer.unwrap()
        );
        node.serve(&path, Page::text("well again").fresh_for(60));
        assert_eq!(proxy.get(&path).await.expect_status(200).text(), "well again", "{raw:?}");
    }
}
