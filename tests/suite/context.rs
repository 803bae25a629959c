//! The user context: pages are shared by visitors with the same rights, and never by others.

use clearcoat_tests::node::Recorded;
use clearcoat_tests::{Answer, Gate, Node, Page, Proxy, Request, Served, Setup, wait};

const HASH_PATH: &str = "/_fos_user_context_hash";
const HASH_TYPE: &str = "application/vnd.fos.user-context-hash";
const HASH: &str = "X-User-Context-Hash";

/// A site as eZ Platform's configuration for Varnish has it.
const SITE: &str = r#"
    keep_cookies = ["eZSESSID*"]
    hide_headers = ["X-User-Context-Hash", "x-lang"]
    grace = "1h"
    grace_for_sessions = false
    user_context = { except = ["*.css", "*.js"], authorized = false, rewrite_cache_control = true }
"#;

/// The rights of whoever sends this: one of five groups by the number in the session, or none.
fn rights(request: &Recorded) -> String {
    let session =
        request.header("cookie").and_then(|line| line.strip_prefix("eZSESSID=")?.parse::<usize>().ok());
    session.map_or("anonymous".to_owned(), |number| format!("group-{}", number % 5))
}

/// The answer of the hash URL.
fn hash_page() -> Page {
    Page::composed(|request| {
        assert_eq!(request.header("accept"), Some(HASH_TYPE));
        Page::text("")
            .header("Content-Type", HASH_TYPE)
            .header(HASH, &rights(request))
            .cache_control("public, max-age=600")
            .header("Vary", "Cookie, Authorization")
            .tags("ez-user-context-hash")
    })
}

/// A page that says for whom it was made, from the cookies, which must agree with the hash.
fn page(cache_control: &'static str) -> Page {
    Page::composed(move |request| {
        let hash = request.header(HASH).unwrap_or("none").to_owned();
        Page::text(format!("{} for {hash}, {} asked {}", request.path(), rights(request), request.number))
            .cache_control(cache_control)
            .header("Vary", "x-user-context-hash, Accept-Encoding")
            .header("X-Lang", "eng-GB")
            .header("ETag", &format!("\"{hash}\""))
            .tags("page")
    })
}

async fn application() -> Node {
    let node = Node::start().await;
    node.serve(HASH_PATH, hash_page());
    node.serve_everything(page("public, s-maxage=86400"));
    node
}

async fn before(node: &Node) -> Proxy {
    Setup::before(node).site(SITE).start().await
}

fn with_session(request: Request, number: usize) -> Request {
    request.header("Cookie", &format!("_ga=1; eZSESSID={number}"))
}

fn get(target: &str, session: usize) -> Request {
    with_session(Request::get(target), session)
}

#[tokio::test]
async fn pages_are_shared_by_visitors_with_the_same_rights_and_by_nobody_else() {
    let node = application().await;
    let proxy = before(&node).await;
    // What a page varies on is known from its first answer; until that is there, two of one group may both be asked for it.
    proxy.ask(&get("/page", 0)).await;
    // Everybody at once, then everybody again: whatever is collapsed, joined or found, it is for the right group.
    for round in 0..2 {
        let mut crowds = Vec::new();
        for session in 0..60 {
            crowds.push((format!("group-{}", session % 5), proxy.crowd(3, &get("/page", session))));
        }
        crowds.push(("anonymous".to_owned(), proxy.crowd(20, &Request::get("/page"))));
        for (group, crowd) in crowds {
            for answer in crowd.answers().await {
                let expected = format!("/page for {group}, {group} asked ");
                assert!(
                    answer.status == 200 && answer.text().starts_with(&expected),
                    "round {round}: {answer}"
                );
            }
        }
    }
    // One page a group, one question a session and one for all who have none.
    assert_eq!(node.count("/page"), 6);
    assert_eq!(node.count(HASH_PATH), 61);
    let told = node.last(HASH_PATH);
    assert_eq!((told.method.as_str(), told.header("host")), ("GET", node.last("/page").header("host")));
    for recorded in node.requests().iter().filter(|recorded| recorded.path() == HASH_PATH) {
        let cookie = recorded.header("cookie").unwrap_or("eZSESSID=");
        assert!(
            cookie.starts_with("eZSESSID=") && !cookie.contains("_ga"),
            "only what is kept goes on: {cookie}"
        );
    }
}

#[tokio::test]
async fn what_is_known_costs_no_question() {
    let node = application().await;
    let proxy = before(&node).await;
    let first = proxy.ask(&get("/a", 1)).await;
    assert_eq!((first.served(), node.count(HASH_PATH)), (Served::Miss, 1), "{first}");
    for (request, served, body) in [
        (get("/a", 1), Served::Hit, "/a for group-1, group-1 asked 1"),
        (get("/a", 6), Served::Hit, "/a for group-1, group-1 asked 1"),
        (get("/a", 2), Served::Miss, "/a for group-2, group-2 asked 2"),
        (Request::get("/a"), Served::Miss, "/a for anonymous, anonymous asked 3"),
        (
            Request::get("/a").header("Cookie", "_ga=3; other=1"),
            Served::Hit,
            "/a for anonymous, anonymous asked 3",
        ),
    ] {
        let answer = proxy.ask(&request).await;
        assert_eq!((answer.served(), answer.text().as_str()), (served, body), "{answer}");
    }
    assert_eq!(node.count(HASH_PATH), 4);
    // HEAD is answered from what GET stored, and fills it.
    let head = proxy.ask(&with_session(Request::head("/a"), 1)).await;
    assert_eq!((head.served(), head.text().as_str()), (Served::Hit, ""), "{head}");
    let head = proxy.ask(&with_session(Request::head("/b"), 8)).await;
    assert_eq!((head.status, head.text().as_str()), (200, ""), "{head}");
    assert_eq!((node.count_of("GET", HASH_PATH), node.count_of("HEAD", HASH_PATH)), (5, 0));
    assert_eq!(proxy.ask(&get("/b", 8)).await.served(), Served::Hit);
    // Conditions and ranges are about the page, also where the hash has to be asked for first.
    for session in [1, 11] {
        let known = proxy.ask(&get("/a", session).header("If-None-Match", "\"group-1\"")).await;
        assert_eq!(known.status, 304, "{known}");
        let part = proxy.ask(&get("/a", session + 20).header("Range", "bytes=0-1")).await;
        assert_eq!((part.status, part.text().as_str()), (206, "/a"), "{part}");
    }
    // What needs no hash goes without, and what is not for the cache too.
    let questions = node.count(HASH_PATH);
    assert_eq!(proxy.ask(&get("/style.css", 50)).await.text(), "/style.css for none, group-0 asked 1");
    let posted = proxy.ask(&with_session(Request::post("/form", "x"), 51)).await;
    assert!(posted.text().starts_with("/form for none"), "{posted}");
    assert_eq!(node.count(HASH_PATH), questions);
}

#[tokio::test]
async fn accept_is_the_visitors_own_for_the_page() {
    let node = application().await;
    node.serve(
        "/accept",
        Page::written(|request| format!("{:?}", request.headers("accept"))).header("Vary", HASH).no_store(),
    );
    let proxy = before(&node).await;
    assert_eq!(proxy.ask(&get("/accept", 1).header("Accept", "text/html")).await.text(), r#"["text/html"]"#);
    assert_eq!(proxy.ask(&get("/accept", 2)).await.text(), "[]");
}

#[tokio::test]
async fn one_question_for_all_who_are_the_same() {
    let node = application().await;
    let gate = Gate::closed();
    let held = gate.clone();
    node.serve(
        HASH_PATH,
        Page::composed(move |request| {
            let page = Page::text("").header("Content-Type", HASH_TYPE).header(HASH, &rights(request));
            page.fresh_for(600).header("Vary", "Cookie, Authorization").held_before_head(&held)
        }),
    );
    let proxy = before(&node).await;
    let anonymous = proxy.crowd(30, &Request::get("/page"));
    let editor = proxy.crowd(10, &get("/page", 3));
    gate.reached(2).await;
    wait::until("all wait", async || {
        (proxy.metrics().await.sum("clearcoat_requests_waiting", &[]) >= 38.0).then_some(())
    })
    .await;
    gate.open();
    for (crowd, group) in [(anonymous, "anonymous"), (editor, "group-3")] {
        for answer in crowd.answers().await {
            assert!(answer.text().starts_with(&format!("/page for {group}")), "{answer}");
        }
    }
    assert_eq!((node.count(HASH_PATH), node.count("/page")), (2, 2));
}

#[tokio::test]
async fn a_hash_that_may_not_be_kept_is_asked_for_each_time() {
    let node = application().await;
    let not_kept = Page::composed(|request| {
        let page = Page::text("").header("Content-Type", HASH_TYPE).header(HASH, &rights(request));
        page.cache_control("max-age=0, no-cache, private")
    });
    node.serve(HASH_PATH, not_kept);
    let proxy = before(&node).await;
    for (number, served) in [(1, Served::Miss), (2, Served::Hit), (3, Served::Hit)] {
        let answer = proxy.ask(&get("/a", 1)).await;
        assert_eq!((answer.served(), answer.text().as_str()), (served, "/a for group-1, group-1 asked 1"));
        assert_eq!(node.count(HASH_PATH), number);
    }
    // Without a word about it, too: the lifetime that the operator gives pages is none for rights.
    let proxy = Setup::before(&node).site(SITE).site("default_ttl = \"2m\"").start().await;
    node.serve(
        HASH_PATH,
        Page::composed(|request| {
            Page::text("").header("Content-Type", HASH_TYPE).header(HASH, &rights(request))
        }),
    );
    node.forget();
    for number in 1..=2 {
        proxy.ask(&get("/a", 1)).await;
        assert_eq!(node.count(HASH_PATH), number);
    }
}

#[tokio::test]
async fn a_hash_that_cannot_be_had() {
    let node = application().await;
    let proxy = before(&node).await;
    let cases: [(&str, Page, u16, &str); 7] = [
        (
            "an error",
            Page::text("broken").status(500).fresh_for(600),
            503,
            "the user context cannot be had\n",
        ),
        ("no service", Page::text("broken").status(503), 503, "the user context cannot be had\n"),
        ("not found", Page::text("no such page").status(404).no_store(), 404, "no such page"),
        ("a login", Page::text("log in").status(302).header("Location", "/login").no_store(), 302, "log in"),
        (
            "another type",
            Page::text("a page").header("Content-Type", "text/html").header(HASH, "x").no_store(),
            200,
            "a page",
        ),
        (
            "an empty hash",
            Page::text("").header("Content-Type", HASH_TYPE).header(HASH, "").no_store(),
            200,
            "/p for , group-1 asked 1",
        ),
        (
            "no hash",
            Page::text("").header("Content-Type", HASH_TYPE).no_store(),
            200,
            "/p for , group-1 asked 1",
        ),
    ];
    for (session, (what, answered, status, body)) in cases.into_iter().enumerate() {
        node.serve(HASH_PATH, answered);
        node.forget();
        for number in 1..=2 {
            let answer = proxy.ask(&get("/p", session * 5 + 1)).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, body), "{what}: {answer}");
            assert_eq!(answer.header(HASH), None, "{what}: {answer}");
            assert!(node.count(HASH_PATH) >= number, "{what}: nothing of it is kept");
        }
        proxy.purge_url("/p").await;
    }
    // One of these that says so is kept, for the one whom it was told.
    node.forget();
    node.serve(HASH_PATH, Page::numbered("gone").status(410).fresh_for(600).header("Vary", "Cookie"));
    for (session, body) in [(101, "gone 1"), (101, "gone 1"), (102, "gone 2")] {
        let answer = proxy.ask(&get("/p", session)).await;
        assert_eq!((answer.status, answer.text().as_str()), (410, body), "{answer}");
    }
    // What was an answer of another type does not stay when a hash can be had again.
    node.serve(HASH_PATH, hash_page());
    proxy.purge_url(HASH_PATH).await;
    assert!(proxy.ask(&get("/p", 101)).await.text().starts_with("/p for group-1"));
}

#[tokio::test]
async fn nobody_outside_says_who_they_are() {
    let node = application().await;
    let proxy = Setup::before(&node)
        .site(SITE)
        .site("[[site.route]]\npath = \"/open/*\"\nuser_context = false\n[[site.route]]\npath = \"/raw/*\"\ncache = \"pass\"")
        .start()
        .await;
    let forged = [
        (HASH, "group-1"),
        ("x-user-context-hash", ""),
        ("X_User_Context_Hash", "group-1"),
        ("X-User_Context-Hash", "group-1"),
        ("X-Backend-Invalidate-Token", "secret"),
        ("X_Backend_Invalidate_Token", "secret"),
        ("Accept", HASH_TYPE),
        ("Accept", "text/html, Application/Vnd.Fos.User-Context-Hash;q=0.1"),
        ("Accept", "application/vnd.ezplatform.invalidate-token"),
    ];
    for (name, value) in forged {
        for request in [
            Request::get("/page"),
            Request::head("/page"),
            Request::get("/page").header("Authorization", "Basic eA=="),
            Request::get("/style.css"),
            Request::get("/open/a"),
            Request::get("/raw/a"),
            Request::get(HASH_PATH),
            Request::post("/form", "x"),
            Request::new("DELETE", "/page"),
            Request::new("PURGE", "/page"),
        ] {
            let answer = proxy.ask(&request.clone().header(name, value)).await;
            assert_eq!(
                answer.status,
                400,
                "{} {} with {name}: {value}: {answer}",
                request.method(),
                request.target()
            );
        }
    }
    assert_eq!(node.total(), 0, "a node hears nothing of it");
    // Connection takes nothing away that was put there for the node.
    let answer = proxy.ask(&get("/page", 1).header("Connection", "X-User-Context-Hash, Cookie")).await;
    assert!(answer.text().starts_with("/page for group-1, group-1"), "{answer}");
    // A site without contexts has nothing to guard.
    let plain = Proxy::before(&node).await;
    assert_eq!(plain.ask(&Request::get("/page").header("Accept", HASH_TYPE)).await.status, 200);
}

#[tokio::test]
async fn a_purge_of_hashes_holds_at_once() {
    let node = application().await;
    let proxy = before(&node).await;
    for soft in [false, true] {
        node.serve(HASH_PATH, hash_page());
        proxy.purge_url(HASH_PATH).await;
        assert!(proxy.ask(&get("/a", 1)).await.text().starts_with("/a for group-1"));
        let promoted = Page::composed(|_| {
            let page = Page::text("").header("Content-Type", HASH_TYPE).header(HASH, "editors");
            page.fresh_for(600).header("Vary", "Cookie, Authorization").tags("ez-user-context-hash")
        });
        node.serve(HASH_PATH, promoted);
        assert!(proxy.ask(&get("/a", 1)).await.text().starts_with("/a for group-1"), "it is still known");
        if soft {
            proxy.soft_purge_tags("ez-user-context-hash").await;
        } else {
            proxy.purge_tags("ez-user-context-hash").await;
        }
        assert!(proxy.ask(&get("/a", 1)).await.text().starts_with("/a for editors"), "soft: {soft}");
        assert!(proxy.ask(&Request::get("/a")).await.text().starts_with("/a for editors"), "soft: {soft}");
    }
    // By their URL too, of all visitors.
    node.serve(HASH_PATH, hash_page());
    proxy.purge_url(HASH_PATH).await;
    for session in [1, 2] {
        let expected = format!("/a for group-{session}");
        assert!(proxy.ask(&get("/a", session)).await.text().starts_with(&expected), "{expected}");
    }
}

#[tokio::test]
async fn stale_pages_are_for_visitors_without_a_session() {
    let node = application().await;
    let proxy = before(&node).await;
    for request in [get("/a", 1), Request::get("/a")] {
        proxy.ask(&request).await;
    }
    proxy.soft_purge_tags("page").await;
    let anonymous = proxy.ask(&Request::get("/a")).await;
    assert_eq!(
        (anonymous.served(), anonymous.text().as_str()),
        (Served::Grace, "/a for anonymous, anonymous asked 2")
    );
    let editor = proxy.ask(&get("/a", 1)).await;
    assert!(editor.text().starts_with("/a for group-1") && !editor.text().ends_with("asked 1"), "{editor}");
    // Also where the hash has to be asked for before.
    proxy.soft_purge_tags("page").await;
    let fetched = node.count("/a");
    let editor = proxy.ask(&get("/a", 11)).await;
    assert!(editor.text().starts_with("/a for group-1") && editor.served() != Served::Grace, "{editor}");
    assert!(node.count("/a") > fetched);
    // Elsewhere they get what is stale, as everybody.
    let lenient = Setup::before(&node)
        .site(SITE)
        .site("[[site.route]]\npath = \"/b\"\ngrace_for_sessions = true")
        .start()
        .await;
    lenient.ask(&get("/b", 1)).await;
    lenient.soft_purge_tags("page").await;
    assert_eq!(lenient.ask(&get("/b", 1)).await.served(), Served::Grace);
}

#[tokio::test]
async fn stale_is_better_than_nothing_for_everybody() {
    let mut node = application().await;
    let proxy = before(&node).await;
    let first = proxy.ask(&get("/a", 1)).await;
    proxy.soft_purge_tags("page ez-user-context-hash").await;
    node.stop().await;
    let answer = proxy.ask(&get("/a", 1)).await;
    assert_eq!((answer.status, answer.text()), (200, first.text()), "{answer}");
    // Who is not known cannot be served.
    let stranger = proxy.ask(&get("/a", 6)).await;
    assert!(matches!(stranger.status, 502..=504), "{stranger}");
}

/// What a visitor is shown.
#[track_caller]
fn check_shown(answer: &Answer, vary: Option<&str>, cache_control: &str) {
    assert_eq!(answer.header("Vary"), vary, "{answer}");
    assert_eq!(answer.headers("Cache-Control"), [cache_control], "{answer}");
    for hidden in [HASH, "X-Lang", "xkey"] {
        assert_eq!(answer.header(hidden), None, "{hidden}: {answer}");
    }
}

#[tokio::test]
async fn visitors_see_nothing_of_it_and_sessions_keep_no_copy() {
    const FOR_SESSIONS: &str = "private, no-cache, no-store, must-revalidate";
    const FOR_OTHERS: &str = "public, s-maxage=600, stale-while-revalidate=300, stale-if-error=300";
    let node = application().await;
    node.serve("/short", page("s-maxage=20"));
    node.serve("/private", page("private, max-age=0"));
    node.serve("/plain", Page::text("all the same").cache_control("public, max-age=60"));
    let proxy = before(&node).await;
    let encoding = Some("Accept-Encoding");
    for (target, anonymous, session) in [
        ("/a", FOR_OTHERS, FOR_SESSIONS),
        ("/short", "s-maxage=20", FOR_SESSIONS),
        ("/private", "private, max-age=0", FOR_SESSIONS),
    ] {
        // From the node, then from memory, in every form.
        for _ in 0..2 {
            check_shown(&proxy.get(target).await, encoding, anonymous);
            check_shown(&proxy.ask(&get(target, 1)).await, encoding, session);
            check_shown(&proxy.ask(&with_session(Request::head(target), 1)).await, encoding, session);
            check_shown(&proxy.ask(&get(target, 1).header("Range", "bytes=0-1")).await, encoding, session);
            let known = proxy.ask(&get(target, 1).header("If-None-Match", "\"group-1\"")).await;
            assert_eq!(known.status, 304, "{known}");
            check_shown(&known, encoding, session);
        }
    }
    for _ in 0..2 {
        check_shown(&proxy.ask(&get("/plain", 1)).await, None, "public, max-age=60");
    }
    // What is passed too.
    check_shown(&proxy.ask(&with_session(Request::post("/form", "x"), 1)).await, encoding, FOR_SESSIONS);
    // Rights of the same kind with and without a session: the entry is one, what is said of it is not.
    node.serve(HASH_PATH, Page::text("").header("Content-Type", HASH_TYPE).header(HASH, "all").fresh_for(60));
    proxy.purge_url(HASH_PATH).await;
    check_shown(&proxy.get("/one").await, encoding, FOR_OTHERS);
    let session = proxy.ask(&get("/one", 1)).await;
    assert_eq!(session.served(), Served::Hit, "{session}");
    check_shown(&session, encoding, FOR_SESSIONS);
}

#[tokio::test]
async fn a_page_that_was_asked_after_stays_with_its_rights() {
    let node = application().await;
    let asked_after = Page::composed(|request| match request.header("if-none-match") {
        // Not a word about Vary.
        Some(_) => Page::text("").status(304).cache_control("public, s-maxage=600"),
        None => page("public, s-maxage=1, stale-while-revalidate=0"),
    });
    node.serve("/a", asked_after);
    let proxy = before(&node).await;
    for session in [1, 2] {
        proxy.ask(&get("/a", session)).await;
    }
    proxy.soft_purge_tags("page").await;
    let asked = node.count("/a");
    for session in [1, 2, 1, 2] {
        let answer = proxy.ask(&get("/a", session)).await;
        assert!(answer.text().starts_with(&format!("/a for group-{session}")), "{answer}");
        check_shown(&answer, Some("Accept-Encoding"), "private, no-cache, no-store, must-revalidate");
    }
    assert_eq!(node.count("/a"), asked + 2, "each was asked after once");
}

#[tokio::test]
async fn requests_with_authorization_go_their_own_way() {
    let node = application().await;
    node.serve(
        "/api",
        Page::written(|request| format!("{:?} {:?}", request.header(HASH), request.header("cookie")))
            .header("Vary", "Cookie, Authorization")
            .fresh_for(60),
    );
    let request = |password: &str| {
        Request::get("/api").header("Cookie", "other=1; eZSESSID=1").header("Authorization", password)
    };
    // As eZ Platform has it: all cookies, no hash.
    let proxy = before(&node).await;
    let answer = proxy.ask(&request("Basic eA==")).await;
    assert_eq!(answer.text(), r#"None Some("other=1; eZSESSID=1")"#, "{answer}");
    assert_eq!(node.count(HASH_PATH), 0);
    // As FOSHttpCache has it: somebody like everybody.
    let site = SITE.replace("authorized = false, ", "");
    let proxy = Setup::before(&node).site(&site).start().await;
    for (password, questions) in [("Basic eA==", 1), ("Basic eB==", 2), ("Basic eA==", 2)] {
        let answer = proxy.ask(&request(password)).await;
        assert_eq!(answer.text(), r#"Some("group-1") Some("eZSESSID=1")"#, "{answer}");
        assert_eq!(node.count(HASH_PATH), questions, "{password}");
    }
}

#[tokio::test]
async fn anonymous_visitors_may_have_a_fixed_hash() {
    let node = application().await;
    let site = SITE
        .replace("user_context = {", "user_context = { anonymous = \"38015b703d82206ebc01d17a39c727e5\",");
    let proxy = Setup::before(&node).site(&site).start().await;
    for request in [Request::get("/a"), Request::get("/a").header("Cookie", "_ga=1")] {
        let answer = proxy.ask(&request).await;
        assert!(answer.text().starts_with("/a for 38015b703d82206ebc01d17a39c727e5, anonymous"), "{answer}");
    }
    assert_eq!(node.count(HASH_PATH), 0);
    assert!(proxy.ask(&get("/a", 1)).await.text().starts_with("/a for group-1"));
}
