//! What a node compressed for everybody, for those who cannot read it: decoded once, or fetched again where that cannot be.

use std::io::Write as _;

use clearcoat_tests::purge::Counts;
use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup};

use crate::coded::{BROWSER, compressing, decoded, forms_made, get, html};

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_node_that_compresses_for_everybody_is_read_by_everybody() {
    let node = Node::start().await;
    let coded = |coding: &str| {
        Page::text(gzipped(&html(1)))
            .header("Content-Type", "text/html")
            .header("Content-Encoding", coding)
            .header("ETag", "\"v1\"")
            .fresh_for(600)
            .tags("l1")
    };
    node.serve("/a", coded("gzip"));
    // Whether pages are compressed here or not.
    for proxy in [Proxy::before(&node).await, compressing(&node).await] {
        node.forget();
        let first = proxy.ask(&get("/a", "gzip")).await;
        assert_eq!(first.header("content-encoding"), Some("gzip"), "{first}");
        for accepted in ["", "br", "gzip;q=0", "identity"] {
            let answer = proxy.ask(&get("/a", accepted)).await.expect_status(200);
            assert_eq!((answer.served(), answer.header("content-encoding")), (Served::Hit, None), "{answer}");
            assert_eq!((answer.text(), answer.header("etag")), (html(1), Some("W/\"v1\"")), "{accepted}");
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{answer}");
        }
        let known = get("/a", "").header("If-None-Match", "W/\"v1\"");
        assert_eq!(proxy.ask(&known).await.expect_status(304).header("etag"), Some("W/\"v1\""));
        let head = proxy.ask(&Request::head("/a")).await;
        assert_eq!(head.header("content-length"), Some(&*html(1).len().to_string()), "{head}");
        for accepted in ["gzip", BROWSER] {
            let answer = proxy.ask(&get("/a", accepted)).await;
            assert_eq!((answer.header("content-encoding"), decoded(&answer)), (Some("gzip"), html(1)));
            assert_eq!(answer.header("etag"), Some("\"v1\""), "{answer}");
        }
        assert_eq!(node.count("/a"), 1);
        assert_eq!(forms_made(&proxy, "identity").await, 1.0, "decoded once");
        assert_eq!(proxy.purge_tags("l1").await, Counts { purged: 1, expired: 0 });
        assert_eq!(proxy.metrics().await.sum("clearcoat_cache_bytes", &[]), 0.0);
    }
}

#[tokio::test]
async fn a_node_that_compresses_for_those_who_cannot_read_it_is_translated_at_once() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let coded = |text: &str| Page::text(gzipped(text)).header("Content-Encoding", "gzip").fresh_for(600);
    node.serve("/whole", coded(&html(1)));
    node.serve("/streamed", coded(&html(2)).chunked().held_in_body(100, &gate));
    node.serve("/mine", coded(&html(3)).no_store());
    let proxy = Proxy::before(&node).await;
    let streamed = proxy.crowd(3, &get("/streamed", "identity"));
    gate.reached(1).await;
    gate.open();
    let whole = proxy.ask(&get("/whole", "")).await;
    assert_eq!((whole.served(), whole.header("content-encoding")), (Served::Miss, None), "{whole}");
    assert_eq!(whole.text(), html(1));
    for answer in streamed.answers().await {
        assert_eq!((answer.header("content-encoding"), answer.text()), (None, html(2)), "{answer}");
    }
    assert_eq!(decoded(&proxy.ask(&get("/streamed", "gzip")).await), html(2));
    // What is not stored is between the node and this client.
    let mine = proxy.ask(&get("/mine", "")).await;
    assert_eq!((mine.header("content-encoding"), decoded(&mine)), (Some("gzip"), html(3)), "{mine}");
}

#[tokio::test]
async fn what_cannot_be_decoded_is_fetched_for_the_one_who_cannot_read_it() {
    let node = Node::start().await;
    // Plain for those who take nothing else; it says nothing of that.
    let speaks = |coding: &'static str, body: Vec<u8>| {
        Page::composed(move |request| {
            let page = Page::text("plain").header("Content-Type", "text/html").fresh_for(600);
            match request.header("accept-encoding") {
                Some(_) => Page::text(body.clone()).header("Content-Encoding", coding).fresh_for(600),
                None => page,
            }
        })
    };
    let bomb = gzipped(&"x".repeat(3 << 20));
    node.serve("/unknown", speaks("compress", b"??".to_vec()));
    node.serve("/twice", speaks("gzip, br", b"??".to_vec()));
    node.serve("/broken", speaks("gzip", b"no gzip at all".to_vec()));
    node.serve("/cut", speaks("gzip", gzipped(&html(1))[..500].to_vec()));
    node.serve("/large", speaks("gzip", gzipped(&"x".repeat(100_000))));
    node.serve("/bomb", speaks("gzip", bomb));
    let keys = "[cache.compress]\nmin_size = \"10B\"\nmax_size = \"64KiB\"";
    let proxy = Setup::before(&node).more(keys).start().await;
    for path in ["/unknown", "/twice", "/broken", "/cut", "/bomb"] {
        let coded = proxy.ask(&get(path, "gzip")).await;
        assert!(coded.header("content-encoding").is_some() && coded.was_stored(), "{path}: {coded}");
        let plain = proxy.ask(&get(path, "")).await.expect_status(200);
        assert_eq!((plain.header("content-encoding"), plain.text()), (None, "plain".to_owned()), "{path}");
        assert_eq!(plain.served(), Served::Miss, "{path}: {plain}");
        assert_eq!(node.count(path), 2, "{path}");
    }
    // Within the bounds after all.
    proxy.ask(&get("/large", "gzip")).await;
    assert_eq!(proxy.ask(&get("/large", "")).await.text().len(), 100_000);
    assert_eq!(node.count("/large"), 1);
}

#[tokio::test]
async fn who_waits_for_a_page_in_a_coding_it_cannot_read_is_not_given_it() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    node.serve(
        "/a",
        Page::composed(move |request| match request.header("accept-encoding") {
            Some(_) => Page::text(gzipped(&html(1)))
                .header("Content-Encoding", "gzip")
                .fresh_for(600)
                .held_before_head(&held),
            None => Page::text(html(1)).fresh_for(600),
        }),
    );
    let proxy = Proxy::before(&node).await;
    let leader = proxy.crowd(1, &get("/a", "gzip"));
    gate.reached(1).await;
    let plain = proxy.crowd(3, &get("/a", ""));
    let coded = proxy.crowd(3, &get("/a", "gzip"));
    gate.open();
    for answer in plain.answers().await {
        assert_eq!((answer.header("content-encoding"), answer.text()), (None, html(1)), "{answer}");
    }
    for answer in coded.answers().await.into_iter().chain(leader.answers().await) {
        assert_eq!(decoded(&answer), html(1), "{answer}");
    }
}
