//! Memory stays within its budget, whatever is asked for.

use clearcoat_tests::{Load, Node, Page, Proxy, Request, Setup};

const MIB: u64 = 1 << 20;

/// Asks for so many different pages.
async fn ask_for(proxy: &Proxy, prefix: &str, count: usize) {
    let pages: Vec<_> =
        (0..count).map(|number| (Request::get(&format!("/{prefix}/{number}")), None)).collect();
    let load = Load::once(proxy.address(), 8, pages);
    let report = load.finish().await;
    assert_eq!(report.failures(), 0, "{report}");
}

/// Floods the cache with new URLs, round by round with bodies of another size, and checks the process's resident memory
/// against its budget.
async fn flood(budget_mib: u64, rounds: &[(usize, usize)]) {
    let node = Node::start().await;
    let proxy = Setup::before(&node).cache(&format!("memory = \"{budget_mib}MiB\"")).start().await;
    let at_start = proxy.resident_bytes();
    let mut after = Vec::new();
    for (round, &(body_bytes, pages)) in rounds.iter().enumerate() {
        node.serve_everything(Page::text("x".repeat(body_bytes)).fresh_for(600).tags("c1 l2 ez-all"));
        ask_for(&proxy, &format!("flood-{round}"), pages).await;
        node.forget();
        after.push(proxy.resident_bytes().saturating_sub(at_start) / MIB);
    }
    let metrics = proxy.metrics().await;
    let gauge = |name: &str| metrics.sum(name, &[]);
    let (counted, budget) = (gauge("clearcoat_cache_bytes"), gauge("clearcoat_cache_budget_bytes"));
    assert!(
        budget > 0.0 && counted <= budget,
        "{counted} bytes of {budget} are in use by the proxy's own account"
    );
    let capacity = gauge("clearcoat_cache_capacity_bytes");
    assert!(capacity >= budget / 2.0 && capacity <= budget, "{capacity} of {budget}");
    // What is counted is allocated, and little else is.
    let allocated = gauge("clearcoat_process_allocated_bytes");
    assert!(
        allocated >= counted * 0.9 && allocated <= counted * 1.05 + (24 * MIB) as f64,
        "{counted} bytes by its own account, {allocated} by the allocator's"
    );
    assert!(gauge("clearcoat_cache_evictions_total") > 0.0, "the flood was larger than the budget");
    // Beyond the budget what the allocator cannot use again, and a flat 24 MiB for connections and threads.
    let allowed = budget_mib + budget_mib * 15 / 100 + 24;
    assert!(after.iter().all(|mib| *mib <= allowed), "growth {after:?} MiB, allowed {allowed} MiB");
}

#[tokio::test]
async fn endless_new_pages_stay_within_the_budget() {
    flood(64, &[(30_000, 2_500); 3]).await;
}

#[tokio::test]
async fn endless_small_pages_stay_within_the_budget() {
    // Heads, index and tags weigh more here than bodies.
    flood(8, &[(200, 5_000); 3]).await;
}

#[tokio::test]
async fn pages_of_another_size_stay_within_the_budget() {
    // Memory that held one size has to serve the next.
    flood(
        64,
        &[(300, 2_000), (400_000, 300), (2_000, 3_000), (100_000, 800), (9_000, 3_000), (60_000, 1_200)],
    )
    .await;
}

#[tokio::test]
async fn endless_uncacheable_pages_cost_nothing() {
    let node = Node::start().await;
    node.serve_everything(Page::text("mine").no_store());
    let proxy = Proxy::before(&node).await;
    ask_for(&proxy, "warm-up", 1_000).await;
    let before = proxy.resident_bytes();
    for round in 0..3 {
        ask_for(&proxy, &format!("mine-{round}"), 4_000).await;
        node.forget();
    }
    let growth = proxy.resident_bytes().saturating_sub(before) / MIB;
    assert!(growth <= 24, "{growth} MiB for nothing that is kept");
}

#[tokio::test]
async fn waiters_that_leave_are_forgotten() {
    let node = Node::start().await;
    let gate = clearcoat_tests::Gate::closed();
    node.serve("/slow", Page::text("slow").fresh_for(60).held_before_head(&gate));
    let mut proxy = Proxy::before(&node).await;
    let crowd = proxy.crowd(300, &Request::get("/slow"));
    gate.reached(1).await;
    drop(crowd);
    clearcoat_tests::wait::until("300 visitors to be let go", async || {
        (proxy.process().open_files()? < 100).then_some(())
    })
    .await;
    gate.open();
}
