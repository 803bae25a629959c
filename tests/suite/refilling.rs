//! Refreshes after a purge of many pages: few at a time, what is asked for most first, visitors before all of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clearcoat_tests::{Gate, Node, Page, Request, Setup, wait};

#[tokio::test]
async fn few_at_a_time_and_the_hottest_first() {
    const PAGES: usize = 40;
    let node = Node::start().await;
    let gate = Gate::closed();
    for number in 0..PAGES {
        node.serve(
            &format!("/{number}"),
            Page::text("old").cache_control("max-age=60, stale-while-revalidate=600").tags("all"),
        );
    }
    let proxy = Setup::before(&node).pool("refill_concurrency = 2").start().await;
    for number in 0..PAGES {
        proxy.get(&format!("/{number}")).await.expect_status(200);
    }
    for number in 0..PAGES {
        let page = Page::text("new").cache_control("max-age=60, stale-while-revalidate=600").tags("all");
        node.serve(&format!("/{number}"), page.held_before_head(&gate));
    }
    node.forget();
    proxy.ask(&Request::new("PURGEKEYS", "/").header("xkey-softpurge", "all")).await.expect_status(200);
    // The first two have the places. Of the others, each is asked for as often as its number says.
    for number in [0, 1].into_iter().chain((2..PAGES).flat_map(|number| vec![number; number])) {
        assert_eq!(proxy.get(&format!("/{number}")).await.text(), "old");
    }
    gate.reached(2).await;
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("clearcoat_cache_refreshing", &[]), 2.0);
    assert_eq!(metrics.sum("clearcoat_cache_refreshes_waiting", &[]), (PAGES - 2) as f64);
    gate.open();
    wait::until_true("all are new", || node.requests().len() == PAGES).await;
    let order: Vec<usize> =
        node.requests().iter().map(|request| request.path()[1..].parse().unwrap()).collect();
    let mut first = order[..2].to_vec();
    first.sort_unstable();
    assert_eq!(first, [0, 1]);
    // Two work side by side, so neighbours may have changed places on the way to the node.
    for (place, number) in order[2..].iter().enumerate() {
        let expected = PAGES - 1 - place;
        assert!(number.abs_diff(expected) <= 2, "{order:?}");
    }
    wait::until("nothing waits", async || {
        let metrics = proxy.metrics().await;
        (metrics.sum("clearcoat_cache_refreshing", &[]) == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_nodes_never_have_more_than_the_budget() {
    const PAGES: usize = 300;
    let node = Node::start().await;
    let most = AtomicUsize::new(0);
    let fresh = |text: &str| {
        Page::text(text.to_owned()).cache_control("max-age=60, stale-while-revalidate=600").tags("all")
    };
    for number in 0..PAGES {
        node.serve(&format!("/{number}"), fresh("old"));
    }
    let proxy = Setup::before(&node).pool("refill_concurrency = 5").start().await;
    for number in 0..PAGES {
        proxy.get(&format!("/{number}")).await.expect_status(200);
    }
    for number in 0..PAGES {
        node.serve(&format!("/{number}"), fresh("new").after(Duration::from_millis(5)));
    }
    proxy.ask(&Request::new("PURGEKEYS", "/").header("xkey-softpurge", "all")).await.expect_status(200);
    let watched = async {
        for _ in 0..200 {
            let in_flight = proxy.metrics().await.sum("clearcoat_cache_fetching", &[]) as usize;
            most.fetch_max(in_flight, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let asked = async {
        let mut served: HashMap<String, usize> = HashMap::new();
        for _ in 0..4 {
            for number in 0..PAGES {
                let answer = proxy.get(&format!("/{number}")).await.expect_status(200);
                *served.entry(answer.text()).or_default() += 1;
            }
        }
        served
    };
    let ((), served) = tokio::join!(watched, asked);
    assert!((1..=5).contains(&most.load(Ordering::Relaxed)), "{most:?} at a time");
    assert!(served.contains_key("old") && served.contains_key("new"), "{served:?}");
    wait::until("all are new", async || {
        for number in 0..PAGES {
            if proxy.get(&format!("/{number}")).await.text() != "new" {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_purge_has_taken_meanwhile_is_not_fetched() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let page = || Page::text("page").cache_control("max-age=60, stale-while-revalidate=600").tags("all");
    for path in ["/a", "/b", "/c"] {
        node.serve(path, page());
    }
    let proxy = Setup::before(&node).pool("refill_concurrency = 1").start().await;
    proxy.warm(["/a", "/b", "/c"]).await;
    node.serve("/a", page().held_before_head(&gate));
    node.forget();
    proxy.ask(&Request::new("PURGEKEYS", "/").header("xkey-softpurge", "all")).await.expect_status(200);
    proxy.get("/a").await;
    gate.reached(1).await;
    proxy.get("/b").await;
    proxy.get("/c").await;
    proxy.purge_url("/b").await;
    gate.open();
    wait::until_true("/c is fetched", || node.count("/c") == 1).await;
    wait::until("nothing waits", async || {
        (proxy.metrics().await.sum("clearcoat_cache_refreshing", &[]) == 0.0).then_some(())
    })
    .await;
    assert_eq!(node.count("/b"), 0);
}

#[tokio::test]
async fn visitors_who_wait_go_first() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let page = |text: &str| {
        Page::text(text.to_owned()).cache_control("max-age=60, stale-while-revalidate=600").tags("all")
    };
    for path in ["/a", "/b"] {
        node.serve(path, page("old"));
    }
    // The node works on one request at a time.
    let proxy = Setup::new(std::iter::empty::<&Node>())
        .node_with(&node, "max_connections = 1")
        .pool("refill_concurrency = 1")
        .start()
        .await;
    proxy.warm(["/a", "/b"]).await;
    node.serve("/slow", page("slow").held_before_head(&gate));
    node.serve("/waiting", page("waiting"));
    node.forget();
    proxy.ask(&Request::new("PURGEKEYS", "/").header("xkey-softpurge", "all")).await.expect_status(200);
    let slow = proxy.crowd(1, &Request::get("/slow"));
    gate.reached(1).await;
    // A visitor queues, and then a refresh is wanted.
    let waiting = proxy.crowd(1, &Request::get("/waiting"));
    wait::until("a visitor waits", async || {
        (proxy.metrics().await.sum("clearcoat_pool_queued", &[]) == 1.0).then_some(())
    })
    .await;
    assert_eq!(proxy.get("/a").await.text(), "old");
    gate.open();
    for answer in slow.answers().await.into_iter().chain(waiting.answers().await) {
        answer.expect_status(200);
    }
    wait::until_true("the refresh", || node.count("/a") == 1).await;
    let order: Vec<String> = node.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(order, ["/slow", "/waiting", "/a"]);
}
