//! A visitor is led to his own page under the name of a file that is the same for all, so that it is left in the cache
//! (web cache deception).

use clearcoat_tests::{Node, Page, Proxy, Request, Served, Setup};

/// Rules as operators write them for static files.
const RULES: &str = r#"
    [[site.route]]
    path = "*.css"
    ttl = "1h"
    [[site.route]]
    path = "/static/*"
    ttl = "1h"
    [[site.route]]
    path = "/guessed/*"
    default_ttl = "1h"
"#;

/// Whatever is asked for, the visitor's own account is the answer.
fn account() -> Page {
    Page::written(|request| format!("account of {}", request.header("cookie").unwrap_or("nobody")))
        .header("Content-Type", "text/html; charset=utf-8")
}

/// Whether the page of one visitor is shown to another.
async fn leaks(proxy: &Proxy, target: &str) -> bool {
    let victim = proxy.ask(&Request::get(target).header("Cookie", "sid=alice")).await.expect_status(200);
    assert_eq!(victim.text(), "account of sid=alice", "{target}");
    let other = proxy.ask(&Request::get(target).header("Cookie", "sid=mallory")).await;
    assert_eq!(other.text() == "account of sid=alice", other.served() == Served::Hit, "{target}: {other}");
    other.served() == Served::Hit
}

#[tokio::test]
async fn a_page_under_the_name_of_a_file_is_not_stored_on_the_operators_word() {
    let node = Node::start().await;
    node.serve_everything(account());
    let proxy = Setup::before(&node).site(RULES).start().await;
    let targets = [
        "/account/x.css",
        "/account;x.css",
        "/account%3bx.css",
        "/account%2fx.css",
        "/account%2Fx.css",
        "/account%5cx.css",
        "/account\\x.css",
        "/account%00x.css",
        "/account%00.css",
        "/account%0ax.css",
        "/account%23x.css",
        "/account%3fx.css",
        "/account//x.css",
        "/account/.css",
        "/account.css?x=1",
        "/static/../account",
        "/static/..%2faccount",
        "/static/%2e%2e/account",
        "/static/%2e%2e%2faccount",
        "/static/..;/account",
        "/static/..%5caccount",
        "/static/..%2faccount%2fx.js",
        "/static/account.js",
        "/guessed/account.png",
        "/guessed/..%2f..%2faccount",
        "/guessed/account;x.woff2",
    ];
    for target in targets {
        assert!(!leaks(&proxy, target).await, "{target}");
    }
    let refused = proxy.get("/account/x.css").await;
    assert_eq!(refused.cache_parameter("detail").as_deref(), Some("deception-guard"), "{refused}");
    let fired = proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", "deception")]);
    assert_eq!(fired, (2 * targets.len() + 1) as f64);
}

#[tokio::test]
async fn files_are_stored_as_the_operator_says() {
    let node = Node::start().await;
    for (path, content_type) in [
        ("/a.css", "text/css"),
        ("/static/a.js", "application/javascript; charset=utf-8"),
        ("/static/a.jpg", "image/webp"),
        ("/static/a.woff2", "font/woff2"),
        ("/static/page", "text/html"),
        ("/guessed/a.pdf", "application/pdf"),
    ] {
        node.serve(path, Page::numbered(path).header("Content-Type", content_type));
    }
    let proxy = Setup::before(&node).site(RULES).start().await;
    proxy
        .warm([
            "/a.css",
            "/static/a.js",
            "/static/a.jpg",
            "/static/a.woff2",
            "/static/page",
            "/guessed/a.pdf",
        ])
        .await;
}

#[tokio::test]
async fn an_answer_that_says_itself_that_it_may_be_shared_is_believed() {
    let node = Node::start().await;
    node.serve("/guessed/report.js", account().fresh_for(60));
    let proxy = Setup::before(&node).site(RULES).start().await;
    assert!(leaks(&proxy, "/guessed/report.js").await);
    // Its word is not heard where the operator's goes before it.
    node.serve("/report.css", account().fresh_for(60));
    assert!(!leaks(&proxy, "/report.css").await);
}

#[tokio::test]
async fn a_missing_file_is_remembered_although_the_error_is_a_page() {
    let node = Node::start().await;
    node.serve("/guessed/none.png", account().status(404));
    let proxy = Setup::before(&node).site(RULES).start().await;
    proxy.get("/guessed/none.png").await.expect_status(404);
    assert_eq!(proxy.get("/guessed/none.png").await.served(), Served::Hit);
}

#[tokio::test]
async fn the_guard_can_be_sent_away() {
    let node = Node::start().await;
    node.serve_everything(account());
    let proxy = Setup::before(&node).site(&format!("deception_guard = false\n{RULES}")).start().await;
    assert!(leaks(&proxy, "/account/x.css").await);
}
