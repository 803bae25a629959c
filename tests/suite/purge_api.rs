//! Purging from the admin listener, and what it tells of tags, bans and purges.

use clearcoat_tests::client::USUAL_HOST;
use clearcoat_tests::{Node, Page, Proxy, Request, Served, client, proxy, purge};
use serde_json::{Value, json};

async fn order(proxy: &Proxy, order: Value) -> Value {
    let body = order.to_string();
    let request =
        Request::post("/api/purge", body).host("localhost").header("Content-Type", "application/json");
    let answer = client::ask(proxy.admin_address(), &request).await.expect_status(200);
    serde_json::from_str(&answer.text()).unwrap()
}

async fn told(proxy: &Proxy, target: &str) -> Value {
    serde_json::from_str(&proxy.admin(target).await.expect_status(200).text()).unwrap()
}

async fn html(node: &Node, pages: &[(&str, &str)]) {
    for (path, tags) in pages {
        node.serve(path, Page::numbered(path).fresh_for(60).header("Content-Type", "text/html").tags(tags));
    }
}

#[tokio::test]
async fn everything_that_can_be_named_is_purged() {
    let node = Node::start().await;
    let pages = ["/tagged", "/named", "/news/1", "/other"];
    html(&node, &[("/tagged", "l42"), ("/named", ""), ("/news/1", ""), ("/other", "l7")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(pages).await;
    let url = format!("http://{USUAL_HOST}/named");
    let all = json!({ "tags": ["l42"], "urls": [url], "ban": { "url": "^/news/", "content_type": "html" } });

    let mut dry = all.clone();
    dry["dry_run"] = json!(true);
    assert_eq!(order(&proxy, dry).await["would"], 3);
    for path in pages {
        assert_eq!(proxy.get(path).await.served(), Served::Hit, "{path}");
    }

    let done = order(&proxy, all).await;
    assert_eq!((&done["purged"], &done["softened"], &done["id"]), (&json!(2), &json!(0), &json!(1)));
    for path in pages {
        let expected = if path == "/other" { Served::Hit } else { Served::Miss };
        assert_eq!(proxy.get(path).await.served(), expected, "{path}");
    }
    assert_eq!(order(&proxy, json!({ "all": true })).await["purged"], 4);
    assert_eq!(proxy.get("/other").await.served(), Served::Miss);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_whole() {
    let node = Node::start().await;
    html(&node, &[("/a", "l42")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    for (body, reason) in [
        ("{}", "nothing is named"),
        ("{", "cannot be read"),
        (r#"{"tag": ["a"]}"#, "unknown field"),
        (r#"{"tags": ["l42"], "ban": {"url": "("}}"#, "url"),
        (r#"{"tags": ["l42"], "urls": ["/a"]}"#, "no URL"),
        (r#"{"tags": ["l 42"]}"#, "space"),
    ] {
        let request = Request::post("/api/purge", body).host("localhost");
        let answer = client::ask(proxy.admin_address(), &request).await.expect_status(400);
        assert!(answer.text().contains(reason), "{body}: {answer}");
    }
    assert_eq!(proxy.get("/a").await.served(), Served::Hit);
}

#[tokio::test]
async fn who_purged_what_is_told() {
    let node = Node::start().await;
    html(&node, &[("/a", "l42 ez-all"), ("/b", "ez-all")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a", "/b"]).await;
    let tags = told(&proxy, &format!("/api/tags?url=http://{USUAL_HOST}/a")).await;
    assert_eq!(tags[0]["tags"], json!(["l42", "ez-all"]));
    let urls = told(&proxy, "/api/urls?tag=ez-all").await;
    let expected = ["/a", "/b"].map(|path| format!("http://{USUAL_HOST}{path}"));
    assert_eq!(urls, json!({ "entries": 2, "urls": expected }));

    proxy.purge_tags("l42").await;
    purge::done(proxy.address(), &purge::url("/b")).await;
    order(&proxy, json!({ "tags": ["ez-all"], "soft": true })).await;
    let purges = told(&proxy, "/api/purges").await;
    let lines: Vec<_> = purges
        .as_array()
        .unwrap()
        .iter()
        .map(|purge| {
            let text = |name: &str| purge[name].as_str().unwrap().to_owned();
            format!("{} {} {} {}: {}", purge["id"], text("by"), text("method"), purge["purged"], text("what"))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "3 admin API 0: soft tags ez-all".to_owned(),
            format!("2 127.0.0.1 PURGE 1: {USUAL_HOST}/b"),
            "1 127.0.0.1 PURGEKEYS 1: tags l42".to_owned(),
        ]
    );
    let admin = format!("http://{}", proxy.admin_address());
    let output = proxy::run_command(&["purges", "--admin", &admin]).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.lines().count() == 4 && shown.contains("PURGEKEYS"), "{shown}");
    let output = proxy::run_command(&["urls", "nobody-has-it", "--admin", &admin]).await;
    assert!(String::from_utf8(output.stdout).unwrap().contains("0 pages"));
}

#[tokio::test]
async fn the_command_line_bans() {
    let node = Node::start().await;
    for path in ["/news/1", "/news/2", "/about"] {
        node.serve(path, Page::numbered(path).fresh_for(60));
    }
    let proxy = Proxy::before(&node).await;
    let to = proxy.address().to_string();
    for (arguments, gone) in [
        (&["--matching", "^/news/"][..], ["/news/1", "/news/2"].as_slice()),
        (&["--matching", "/1$", "--matching", "about"], &["/news/1", "/about"]),
        (&["--matching", "^/news/", "--on-host", "elsewhere"], &[]),
    ] {
        proxy.warm(["/news/1", "/news/2", "/about"]).await;
        let output = proxy::run_command(&[&["purge", "--to", &to], arguments].concat()).await;
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && shown.starts_with("Banned: "), "{arguments:?}: {shown}");
        for path in ["/news/1", "/news/2", "/about"] {
            let is_gone = proxy.get(path).await.served() != Served::Hit;
            assert_eq!(is_gone, gone.contains(&path), "{path} after {arguments:?}");
        }
    }
    let output = proxy::run_command(&["purge", "--to", &to, "--matching", "("]).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("parenthes"), "{told}");
}
