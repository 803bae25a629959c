//! Bodies on their way are part of the memory budget, however slow nodes and visitors are.

use clearcoat_tests::{Connection, Gate, Node, Page, Proxy, Request, Served, Setup, wait};

const MIB: usize = 1 << 20;

async fn sum(proxy: &Proxy, name: &str) -> f64 {
    proxy.metrics().await.sum(name, &[])
}

/// Visitors who have begun to read a page and then pause.
async fn slow_visitors(proxy: &Proxy, count: usize, path: &str) -> Vec<Connection> {
    let mut visitors = Vec::new();
    for _ in 0..count {
        let mut visitor = Connection::open_narrow(proxy.address()).await;
        visitor.send(Request::get(path).to_bytes()).await.unwrap();
        let mut head = visitor.head("GET").await.unwrap();
        assert_eq!(head.status(), 200);
        assert!(!visitor.piece(&mut head).await.unwrap().is_empty());
        visitors.push(visitor);
    }
    visitors
}

#[tokio::test]
async fn slow_visitors_of_large_private_pages_take_a_buffer_each() {
    const VISITORS: usize = 200;
    let node = Node::start().await;
    node.serve("/private", Page::text("x".repeat(16 * MIB)).no_store());
    node.serve("/hot", Page::text("x".repeat(10_000)).fresh_for(600));
    let proxy = Setup::before(&node).cache("memory = \"64MiB\"").start().await;
    proxy.warm(["/hot"]).await;
    let before = proxy.resident_bytes();
    let visitors = slow_visitors(&proxy, VISITORS, "/private").await;
    // Nothing moves any more: each visitor's buffers are full.
    let mut last = 0.0;
    wait::until("the bodies to stand still", async || {
        let held = sum(&proxy, "clearcoat_cache_fill_bytes").await;
        let still = held == last && held > 0.0;
        last = held;
        still.then_some(())
    })
    .await;
    let held = sum(&proxy, "clearcoat_cache_fill_bytes").await as usize;
    assert!(held < 24 * MIB, "{held} bytes for {VISITORS} visitors");
    // Beside that: the buffer of each connection to the node, and what the allocator keeps.
    let growth = proxy.resident_bytes().saturating_sub(before) as usize;
    assert!(growth < 80 * MIB, "{} MiB for {VISITORS} visitors of 16 MiB each", growth / MIB);
    assert_eq!(proxy.get("/hot").await.served(), Served::Hit, "they do not push out what is stored");
    drop(visitors);
    wait::until("the memory to come back", async || {
        (sum(&proxy, "clearcoat_cache_fill_bytes").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bodies_on_their_way_and_stored_pages_share_one_budget() {
    const PAGES: usize = 12;
    let node = Node::start().await;
    let gate = Gate::closed();
    let body = "x".repeat(3 * MIB);
    let page = Page::text(body.clone()).fresh_for(600);
    for number in 0..PAGES {
        node.serve(&format!("/large/{number}"), page.clone().held_in_body(2 * MIB, &gate));
        node.serve(&format!("/stored/{number}"), Page::text("x".repeat(MIB)).fresh_for(600));
    }
    let proxy = Setup::before(&node).cache("memory = \"16MiB\"\nmax_entry = \"4MiB\"").start().await;
    for number in 0..PAGES {
        proxy.get(&format!("/stored/{number}")).await.expect_status(200);
    }
    let budget = sum(&proxy, "clearcoat_cache_budget_bytes").await;
    let stored_before = sum(&proxy, "clearcoat_cache_bytes").await;
    assert!(stored_before > budget / 2.0, "{stored_before} of {budget}");
    let mut crowds = Vec::new();
    for number in 0..PAGES {
        crowds.push(proxy.crowd(2, &Request::get(&format!("/large/{number}"))));
        gate.reached(number + 1).await;
        let metrics = proxy.metrics().await;
        let [stored, fills, fixed] = ["bytes", "fill_bytes", "fixed_bytes"]
            .map(|name| metrics.sum(&format!("clearcoat_cache_{name}"), &[]));
        // Each fill may be a piece beyond; windows are in it too.
        assert!(
            stored + fills + fixed <= budget + MIB as f64,
            "{number}: {stored} + {fills} + {fixed} > {budget}"
        );
    }
    // Twelve times two MiB do not fit into sixteen: some are let through, after all that is stored has given way.
    wait::until("some to be let through", async || {
        let metrics = proxy.metrics().await;
        (metrics.sum("clearcoat_limits_total", &[("limit", "fill_memory")]) > 0.0).then_some(())
    })
    .await;
    assert!(sum(&proxy, "clearcoat_cache_bytes").await < stored_before / 2.0);
    gate.open();
    for crowd in crowds {
        for answer in crowd.answers().await {
            assert_eq!((answer.status, answer.body.len()), (200, body.len()));
        }
    }
    assert_eq!(sum(&proxy, "clearcoat_cache_fill_bytes").await, 0.0);
    // The room is there again.
    proxy.warm(["/stored/1", "/stored/2", "/large/1"]).await;
}

#[tokio::test]
async fn slow_readers_of_a_purged_film_do_not_keep_it_from_others() {
    const READERS: usize = 40;
    let (old, new) = ("o".repeat(48 * MIB), "n".repeat(48 * MIB));
    for filling in [true, false] {
        let node = Node::start().await;
        let gate = Gate::closed();
        let page = Page::text(old.clone()).fresh_for(600);
        node.serve("/film", if filling { page.held_in_body(32 * MIB, &gate) } else { page });
        let proxy = Setup::before(&node).cache("memory = \"256MiB\"\nmax_entry = \"64MiB\"").start().await;
        if !filling {
            proxy.warm(["/film"]).await;
        }
        let readers = slow_visitors(&proxy, READERS, "/film").await;
        if filling {
            wait::until("the film to come", async || {
                (sum(&proxy, "clearcoat_cache_fill_bytes").await >= 32.0 * MIB as f64).then_some(())
            })
            .await;
        }
        proxy.purge_url("/film").await;
        node.serve("/film", Page::text(new.clone()).fresh_for(600));
        let answer = proxy.get("/film").await;
        assert!(answer.body == new, "filling: {filling}: the new film, at once");
        assert_eq!(proxy.get("/film").await.served(), Served::Hit, "filling: {filling}");
        assert_eq!(node.count("/film"), 2, "filling: {filling}");
        // With both films in memory; then the readers of the old one leave.
        let with_both = proxy.resident_bytes();
        drop(readers);
        wait::until(&format!("the old film to be let go, filling: {filling}"), async || {
            let fills = sum(&proxy, "clearcoat_cache_fill_bytes").await;
            let freed = with_both.saturating_sub(proxy.resident_bytes()) as usize;
            (fills == 0.0 && freed > 24 * MIB).then_some(())
        })
        .await;
    }
}
