//! Nodes that die, hang, lie or come back, while visitors go on asking.

use std::time::Duration;

use clearcoat_tests::process::Signal;
use clearcoat_tests::real::Nginx;
use clearcoat_tests::{Address, Gate, Load, Node, Page, Proxy, Request, Setup, wait};

/// Probes every 100 ms; two failures take a node out, one success brings it back.
const QUICK_PROBES: &str = r#"health = { type = "http", path = "/-/health", interval = "100ms", timeout = "500ms", fall = 2, rise = 1 }"#;

/// A node that failed requests is tried again soon, as often as it fails: these tests end one many times.
const SHORT_EJECTIONS: &str =
    r#"passive = { errors = 5, eject = "200ms", eject_max = "200ms", max_ejected_percent = 50 }"#;

/// A node that failed requests stays out for as long as a test takes.
const LONG_EJECTIONS: &str =
    r#"passive = { errors = 5, eject = "60s", eject_max = "60s", max_ejected_percent = 50 }"#;

/// A node that hangs is given up soon.
const SHORT_WAITS: &str = r#"timeouts = { connect = "500ms", first_byte = "1s", between_bytes = "1s" }"#;

/// Requests decide alone.
const NO_PROBES: &str = r#"health = { type = "off" }"#;

/// Whether the proxy holds a node for usable.
async fn is_up(proxy: &Proxy, node: &impl Address) -> bool {
    proxy.metrics().await.sum("clearcoat_node_up", &[("node", &node.address().to_string())]) == 1.0
}

async fn until_up(proxy: &Proxy, node: &impl Address, up: bool) {
    let what = format!("{} to be {}", node.address(), if up { "up" } else { "down" });
    wait::until(&what, async || (is_up(proxy, node).await == up).then_some(())).await;
}

/// Waits until every node gave a good probe.
async fn until_all_up<A: Address>(proxy: &Proxy, nodes: &[&A]) {
    for node in nodes {
        until_up(proxy, *node, true).await;
    }
}

/// Two nodes that both have this page.
async fn both_with(path: &str, page: &Page) -> (Node, Node) {
    let (one, two) = (Node::named("one").await, Node::named("two").await);
    for node in [&one, &two] {
        node.serve(path, page.clone());
    }
    (one, two)
}

/// A proxy that probes these nodes, all of them up, with more keys of their pool.
async fn watched<A: Address>(nodes: &[&A], keys: &[&str]) -> Proxy {
    let setup = Setup::new(nodes.iter().copied()).pool(QUICK_PROBES);
    let proxy = keys.iter().fold(setup, |setup, key| setup.pool(key)).start().await;
    until_all_up(&proxy, nodes).await;
    proxy
}

/// A proxy that asks the nodes in turns and ejects them by what becomes of requests alone.
async fn in_turns(nodes: [&Node; 2], ejections: &str) -> Proxy {
    let balance = r#"balance = "round-robin""#;
    Setup::new(nodes).pool(NO_PROBES).pool(ejections).pool(balance).start().await
}

/// Asks often enough that every node in use would be met.
async fn ask_around(proxy: &Proxy, path: &str, count: usize) {
    let mut visitor = proxy.connect().await;
    for _ in 0..count {
        visitor.get(path).await.expect_status(200);
    }
}

#[tokio::test]
async fn killing_a_web_server_under_load_costs_nobody_a_page() {
    let (mut one, mut two) = (Nginx::start("web1").await, Nginx::start("web2").await);
    let proxy = watched(&[&one, &two], &[SHORT_EJECTIONS]).await;
    // New URLs all the time: each is a miss that has to reach a node. And pages for one visitor only.
    let cacheable = (0..2_000).map(|number| (Request::get(&format!("/cached/{number}")), None));
    let private = (0..2_000).map(|number| (Request::get(&format!("/uncached/{number}")), None));
    let load = Load::start(proxy.address(), 16, cacheable.chain(private));
    load.go_on(300).await;
    one.kill();
    load.go_on(500).await;
    until_up(&proxy, &one, false).await;
    one.start_again().await;
    until_up(&proxy, &one, true).await;
    load.go_on(300).await;
    two.kill();
    load.go_on(500).await;
    two.start_again().await;
    until_up(&proxy, &two, true).await;
    load.go_on(300).await;
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
}

#[tokio::test]
async fn a_web_server_that_stops_gracefully_costs_nobody_a_page() {
    let (mut one, two) = (Nginx::start("web1").await, Nginx::start("web2").await);
    let proxy = watched(&[&one, &two], &[SHORT_EJECTIONS]).await;
    let pages = (0..500).map(|number| (Request::get(&format!("/uncached/{number}")), None));
    let load = Load::start(proxy.address(), 16, pages);
    for _ in 0..3 {
        load.go_on(200).await;
        one.stop_gracefully().await;
        load.go_on(300).await;
        one.start_again().await;
        until_up(&proxy, &one, true).await;
    }
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
}

#[tokio::test]
async fn a_dead_node_gets_no_traffic_and_comes_back() {
    let (mut one, two) = both_with("/a", &Page::text("a").no_store()).await;
    let proxy = watched(&[&one, &two], &[]).await;
    one.stop().await;
    until_up(&proxy, &one, false).await;
    let name = one.address().to_string();
    let sent = async || proxy.metrics().await.sum("clearcoat_node_requests_total", &[("node", &name)]);
    let before = sent().await;
    ask_around(&proxy, "/a", 100).await;
    assert_eq!(sent().await, before, "nothing is sent to a node known to be down");
    assert_eq!(two.count("/a"), 100);
    assert!(proxy.log().contains("node is down") && proxy.log().contains(&name), "it is in the log");
    one.start_again().await;
    until_up(&proxy, &one, true).await;
    wait::until("the node to be used again", async || {
        ask_around(&proxy, "/a", 10).await;
        (one.count("/a") > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_failing_health_page_takes_a_node_out() {
    let (one, two) = both_with("/a", &Page::text("a").no_store()).await;
    let proxy = watched(&[&one, &two], &[]).await;
    one.serve("/-/health", Page::text("the disk is full").status(503));
    until_up(&proxy, &one, false).await;
    one.forget();
    ask_around(&proxy, "/a", 50).await;
    assert_eq!(one.count("/a"), 0);
    one.serve("/-/health", Page::text("well again"));
    until_up(&proxy, &one, true).await;
}

#[tokio::test]
async fn the_text_of_a_health_page_counts() {
    let (one, two) = both_with("/status", &Page::text("status: ready")).await;
    let probes = r#"health = { type = "http", path = "/status", interval = "100ms", timeout = "500ms", fall = 1, rise = 1, body = "status: (ready|busy)" }"#;
    let proxy = Setup::new([&one, &two]).pool(probes).start().await;
    until_all_up(&proxy, &[&one, &two]).await;
    one.serve("/status", Page::text("status: leaving"));
    until_up(&proxy, &one, false).await;
    assert!(is_up(&proxy, &two).await);
}

#[tokio::test]
async fn a_hanging_node_is_noticed_by_its_probes() {
    let (one, two) = both_with("/a", &Page::text("a").no_store()).await;
    let proxy = watched(&[&one, &two], &[SHORT_EJECTIONS, SHORT_WAITS]).await;
    one.freeze();
    until_up(&proxy, &one, false).await;
    let asked = one.count("/a");
    ask_around(&proxy, "/a", 50).await;
    assert_eq!(one.count("/a"), asked);
    one.thaw();
    until_up(&proxy, &one, true).await;
}

#[tokio::test]
async fn a_request_stuck_at_a_hanging_node_is_asked_elsewhere() {
    let (one, two) = (Node::named("one").await, Node::named("two").await);
    for node in [&one, &two] {
        node.serve_everything(Page::text("a").fresh_for(60));
    }
    let proxy = Setup::new([&one, &two])
        .pool(NO_PROBES)
        .pool(r#"timeouts = { connect = "500ms", first_byte = "500ms" }"#)
        .start()
        .await;
    one.freeze();
    for number in 0..10 {
        proxy.get(&format!("/{number}")).await.expect_status(200);
    }
    let sent = one.total();
    assert!(
        sent <= 6,
        "{sent} of 10 requests went to a node that hangs: it should have been ejected after 5"
    );
}

#[tokio::test]
async fn faulty_nodes_are_ejected_by_their_faults() {
    let faults: [(&str, Page); 4] = [
        ("reset before the head", Page::text("").reset_before_head()),
        ("close before the head", Page::text("").close_before_head()),
        ("garbage", Page::text("").raw("\0\0\0\0\r\n\r\n")),
        ("status 500", Page::text("broken").status(500).no_store()),
    ];
    for (fault, page) in faults {
        let (bad, good) = (Node::named("bad").await, Node::named("good").await);
        bad.serve_everything(page);
        good.serve_everything(Page::text("a").no_store());
        let proxy = in_turns([&bad, &good], LONG_EJECTIONS).await;
        let mut broken = 0;
        for number in 0..60 {
            let answer = proxy.get(&format!("/{number}")).await;
            broken += usize::from(answer.status != 200);
        }
        // A node's own error page goes to its visitor; anything less than an answer is asked again elsewhere.
        assert!(broken <= if fault == "status 500" { 5 } else { 0 }, "{fault}: {broken} visitors saw it");
        assert!(bad.total() <= 6, "{fault}: {} requests before it was ejected", bad.total());
        let metrics = proxy.metrics().await;
        let name = bad.address().to_string();
        assert_eq!(metrics.sum("clearcoat_node_ejections_total", &[("node", &name)]), 1.0, "{fault}");
        assert!(metrics.sum("clearcoat_node_failures_total", &[("node", &name)]) >= 5.0, "{fault}");
        assert_eq!(metrics.sum("clearcoat_node_up", &[("node", &name)]), 0.0, "{fault}");
        assert!(proxy.log().contains("node is ejected"), "{fault}: it is in the log");
    }
}

#[tokio::test]
async fn a_node_that_resets_after_the_head_is_ejected() {
    let (bad, good) = (Node::named("bad").await, Node::named("good").await);
    bad.serve_everything(Page::text("abc").no_store().reset_after_head());
    good.serve_everything(Page::text("abc").no_store());
    let proxy = in_turns([&bad, &good], LONG_EJECTIONS).await;
    let mut cut = 0;
    for number in 0..60 {
        // The head may have reached the visitor: then the break must show as one.
        match proxy.try_ask(&Request::get(&format!("/{number}"))).await {
            Ok(answer) if answer.status == 200 => assert_eq!(answer.text(), "abc"),
            Ok(_) | Err(_) => cut += 1,
        }
    }
    assert!(cut <= 5 && bad.total() <= 6, "{cut} visitors saw it, {} requests went there", bad.total());
}

#[tokio::test]
async fn an_ejected_node_comes_back_after_its_time() {
    let (bad, good) = (Node::named("bad").await, Node::named("good").await);
    bad.serve_everything(Page::text("").close_before_head());
    good.serve_everything(Page::text("a").no_store());
    let ejections = r#"passive = { errors = 2, eject = "1s", eject_max = "2s", max_ejected_percent = 50 }"#;
    let proxy = in_turns([&bad, &good], ejections).await;
    ask_around(&proxy, "/a", 20).await;
    until_up(&proxy, &bad, false).await;
    bad.serve_everything(Page::text("a").no_store());
    bad.forget();
    wait::until("the node to be used again", async || {
        ask_around(&proxy, "/a", 4).await;
        (bad.total() > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_any_node_visitors_are_told() {
    let (mut one, mut two) = both_with("/cached", &Page::text("cached").fresh_for(60)).await;
    let proxy = watched(&[&one, &two], &[]).await;
    proxy.warm(["/cached"]).await;
    one.stop().await;
    two.stop().await;
    until_up(&proxy, &one, false).await;
    until_up(&proxy, &two, false).await;
    for request in [Request::get("/a"), Request::head("/a"), Request::post("/a", "x")] {
        let answer = proxy.ask(&request).await;
        assert!((502..=503).contains(&answer.status), "{answer}");
        assert!(answer.header("cache-status").is_some(), "{answer}");
    }
    // What is in memory needs no node.
    assert_eq!(proxy.get("/cached").await.expect_status(200).text(), "cached");
    two.start_again().await;
    until_up(&proxy, &two, true).await;
    assert_eq!(proxy.get("/cached?fresh").await.status, 200);
}

#[tokio::test]
async fn if_every_health_page_fails_traffic_goes_on() {
    let (one, two) = both_with("/a", &Page::text("a").no_store()).await;
    let proxy = watched(&[&one, &two], &[]).await;
    for node in [&one, &two] {
        node.serve("/-/health", Page::text("").status(500));
    }
    until_up(&proxy, &one, false).await;
    until_up(&proxy, &two, false).await;
    ask_around(&proxy, "/a", 20).await;
    assert!(one.count("/a") > 0 && two.count("/a") > 0, "spread over all of them");
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    for page in [
        Page::text("").reset_before_head(),
        Page::text("").close_before_head(),
        Page::text("x").reset_after_head(),
    ] {
        let (one, two) = (Node::named("one").await, Node::named("two").await);
        for node in [&one, &two] {
            node.serve("/order", page.clone());
            node.serve("/warm-up", Page::text("x").no_store());
        }
        let proxy = Setup::new([&one, &two]).pool(NO_PROBES).start().await;
        // Reused connections are where proxies are tempted to try again.
        ask_around(&proxy, "/warm-up", 6).await;
        for body in ["small".to_owned(), "x".repeat(200_000)] {
            let before = one.count("/order") + two.count("/order");
            let answer = proxy.try_ask(&Request::post("/order", body)).await;
            assert!(answer.map_or(true, |answer| answer.status >= 500 || answer.body.is_empty()));
            assert_eq!(one.count("/order") + two.count("/order"), before + 1, "one order, one delivery");
        }
    }
}

#[tokio::test]
async fn a_post_to_a_refused_connection_is_sent_elsewhere() {
    let (mut one, two) = (Node::named("one").await, Node::named("two").await);
    two.serve("/order", Page::echo());
    let proxy = Setup::new([&one, &two]).pool(NO_PROBES).pool("passive = { errors = 1000 }").start().await;
    one.stop().await;
    for number in 0..10 {
        let body = format!("order {number}");
        let answer = proxy.ask(&Request::post("/order", body.clone())).await.expect_status(200);
        assert_eq!(answer.text(), body);
    }
    assert_eq!(two.count("/order"), 10);
}

#[tokio::test]
async fn backups_serve_only_when_nobody_else_can() {
    let (mut one, spare) = (Node::named("one").await, Node::named("spare").await);
    for node in [&one, &spare] {
        node.serve("/a", Page::text("a").no_store());
    }
    let proxy = Setup::before(&one).node_with(&spare, "backup = true").pool(QUICK_PROBES).start().await;
    until_all_up(&proxy, &[&one]).await;
    ask_around(&proxy, "/a", 50).await;
    assert_eq!(spare.count("/a"), 0);
    one.stop().await;
    until_up(&proxy, &one, false).await;
    ask_around(&proxy, "/a", 20).await;
    assert!(spare.count("/a") >= 20);
    one.start_again().await;
    until_up(&proxy, &one, true).await;
    spare.forget();
    ask_around(&proxy, "/a", 20).await;
    assert_eq!(spare.count("/a"), 0);
}

#[tokio::test]
async fn a_full_node_queues_and_a_full_queue_refuses() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/a", Page::text("a").no_store().held_before_head(&gate));
    let proxy = Setup::new::<Node>([])
        .node_with(&node, "max_connections = 4")
        .pool(NO_PROBES)
        .pool(r#"queue = { length = 8, timeout = "20s" }"#)
        .site("[[site.route]]\npath = \"/*\"\ncache = \"pass\"")
        .start()
        .await;
    let mut crowd = proxy.crowd(40, &Request::get("/a"));
    gate.reached(4).await;
    // 4 are at the node, 8 wait, 28 are told at once.
    for _ in 0..28 {
        assert_eq!(wait::soon("a refusal", crowd.next()).await.unwrap().status, 503);
    }
    assert_eq!(node.busy(), 4);
    gate.open();
    for answer in crowd.answers().await {
        assert_eq!(answer.status, 200, "{answer}");
    }
    assert_eq!((node.count("/a"), node.peak()), (12, 4));
}

#[tokio::test]
async fn waiting_in_the_queue_has_an_end() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve_everything(Page::text("a").no_store().held_before_head(&gate));
    let proxy = Setup::new::<Node>([])
        .node_with(&node, "max_connections = 1")
        .pool(NO_PROBES)
        .pool(r#"queue = { length = 8, timeout = "500ms" }"#)
        .start()
        .await;
    let first = proxy.crowd(1, &Request::get("/1"));
    gate.reached(1).await;
    assert_eq!(proxy.get("/2").await.status, 503);
    gate.open();
    assert!(first.answers().await.iter().all(|answer| answer.status == 200));
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let (one, two, three) = (Node::named("one").await, Node::named("two").await, Node::named("three").await);
    for node in [&one, &two, &three] {
        node.serve_everything(Page::text("").close_before_head());
    }
    let proxy = Setup::new([&one, &two, &three])
        .pool(NO_PROBES)
        .pool("passive = { errors = 100000 }")
        .pool("retry = { attempts = 3, budget_percent = 20, min_per_second = 1 }")
        .start()
        .await;
    let asked = 600;
    let started = std::time::Instant::now();
    let pages = (0..asked).map(|number| Request::get(&format!("/{number}")));
    let mut visitor = proxy.connect().await;
    for request in pages {
        match visitor.try_ask(&request).await {
            Ok(answer) => {
                assert!(answer.status >= 500, "{answer}");
                if answer.closes() {
                    visitor = proxy.connect().await;
                }
            }
            Err(_) => visitor = proxy.connect().await,
        }
    }
    let arrived = one.total() + two.total() + three.total();
    let allowed = asked + asked / 5 + usize::try_from(started.elapsed().as_secs()).unwrap() + 20;
    assert!(arrived <= allowed, "{arrived} requests at the nodes for {asked} of visitors");
    assert!(arrived > asked, "some were tried again");
}

#[tokio::test]
async fn a_node_that_stalls_in_mid_body_does_not_hold_its_visitors_forever() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/a", Page::text("x".repeat(1_000)).fresh_for(60).held_in_body(500, &gate));
    let proxy = Setup::before(&node).pool(r#"timeouts = { between_bytes = "500ms" }"#).start().await;
    let error = proxy.try_ask(&Request::get("/a")).await.expect_err("half a body");
    assert!(
        format!("{error:#}").contains("cut short") || format!("{error:#}").contains("reset"),
        "{error:#}"
    );
    gate.open();
    node.serve("/a", Page::text("whole").fresh_for(60));
    assert_eq!(proxy.get("/a").await.expect_status(200).text(), "whole");
}

#[tokio::test]
async fn a_node_on_a_unix_socket_is_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nunix")
                .await;
        }
    });
    let proxy =
        Setup::new::<Node>([]).node_at(&format!("unix:{}", path.display())).pool(NO_PROBES).start().await;
    assert_eq!(proxy.get("/a").await.expect_status(200).text(), "unix");
}

#[tokio::test]
async fn a_suspended_process_is_like_a_hanging_node() {
    let (mut one, two) = (Nginx::start("web1").await, Nginx::start("web2").await);
    let proxy = watched(&[&one, &two], &[SHORT_EJECTIONS, SHORT_WAITS]).await;
    let pages = (0..500).map(|number| (Request::get(&format!("/cached/{number}?s")), None));
    let load = Load::start(proxy.address(), 8, pages);
    load.go_on(100).await;
    one.signal(Signal::Stop);
    until_up(&proxy, &one, false).await;
    load.go_on(100).await;
    one.signal(Signal::Continue);
    until_up(&proxy, &one, true).await;
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
    assert!(report.slowest < Duration::from_secs(10), "{report}");
}
