//! Who comes in at all: addresses, rates, passwords, crowds, maintenance, sizes; and what is set on answers.

use clearcoat_tests::client::Connection;
use clearcoat_tests::http2::Session;
use clearcoat_tests::proxy::run_command;
use clearcoat_tests::tls::{Certificate, TlsVisitor};
use clearcoat_tests::{Answer, Gate, Node, Page, Proxy, Request, Served, Setup, wait};

/// Of anna, `staging`, by PHP's `password_hash` with a low cost; of bert, `sësame:1`, by `openssl passwd -6`.
const USERS: &str = r#"'anna:$2y$04$od2zxFH2XiS.XCxiugYRcuT1IItARvkEUhYEziUa.S0Y2hkRbJXsG',
    'bert:$6$abcdefgh$Z9mb6h5fFGCgpBe6o22vPjpo78MFRs5vAKxUuCqzbWtvxxR4FpOKk0BlpJ85yaELh6qfaYjBwXfF41QsrDzeq1'"#;
const ANNA: &str = "Basic YW5uYTpzdGFnaW5n";
const BERT: &str = "basic  YmVydDpzw6tzYW1lOjE=";

/// Asks from an address of this machine.
async fn ask_from(last: u8, proxy: &Proxy, request: &Request) -> Answer {
    Connection::open_from([127, 0, 0, last].into(), proxy.address()).await.ask(request).await
}

async fn limits(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", limit)])
}

/// One request of each way to a node: fetched, submitted, passed.
fn of_all_ways(target: &str) -> Vec<Request> {
    vec![
        Request::get(target),
        Request::post(target, "a=b"),
        Request::post(target, vec![b'x'; 100_000]),
        Request::post(target, "a=b").chunked(),
        Request::new("OPTIONS", target),
        Request::get(target).header("Connection", "Upgrade").header("Upgrade", "websocket"),
    ]
}

#[tokio::test]
async fn addresses_come_in_by_site_and_route() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(60));
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "# offices\n127.0.0.8/31 # two\n").unwrap();
    let proxy = Setup::before(&node)
        .listen("trusted_proxies = [\"127.0.0.20\"]")
        .site(&format!(
            "access.deny = [\"127.0.0.66\"]\n\
             [[site.route]]\npath = \"/office/*\"\naccess.allow = [\"127.0.0.5\", \"file:{}\"]\n\
             [[site.route]]\npath = \"/open\"\naccess.deny = []\n",
            list.path().display()
        ))
        .start()
        .await;
    for (from, target, expected) in [
        (5, "/", 200),
        (66, "/", 403),
        (66, "/open", 200),
        (66, "/office/x", 403),
        (5, "/office/x", 200),
        (8, "/office/x", 200),
        (9, "/office/x", 200),
        (10, "/office/x", 403),
        (10, "/office/x?y=/open", 403),
        // What nodes would take for that path is no way around.
        (10, "/%6fffice/x", 403),
        (5, "/%6fffice/x", 200),
        (10, "//office/x", 403),
        (10, "/open/../office/x", 403),
        (10, "/x/..%2foffice/x", 403),
        (66, "/office/../open", 403),
        (10, "/%6ffficial", 200),
    ] {
        for request in of_all_ways(target) {
            let answer = ask_from(from, &proxy, &request).await;
            assert_eq!(answer.status, expected, "{from} {target}: {answer}");
        }
    }
    // Whom a proxy asks for counts, not the proxy, and not what strangers say.
    let named = |client: &str| Request::get("/office/x").header("X-Forwarded-For", client);
    assert_eq!(ask_from(20, &proxy, &named("127.0.0.5")).await.status, 200);
    assert_eq!(ask_from(20, &proxy, &named("127.0.0.66")).await.status, 403);
    assert_eq!(ask_from(20, &proxy, &named("127.0.0.5, 127.0.0.10")).await.status, 403);
    assert_eq!(ask_from(10, &proxy, &named("127.0.0.5")).await.status, 403);
    // Purges have a list of their own.
    let purge = ask_from(1, &proxy, &Request::new("PURGE", "/office/x")).await;
    assert_eq!(purge.status, 200, "{purge}");
    let why = proxy.why(&Request::get("/office/x")).await;
    assert!(why["answer"].as_str().unwrap().contains("access.allow"), "{why:#}");
    assert_eq!(why["next"]["status"], 403);
    let address = format!("http://{}", proxy.admin_address());
    for (client, expected) in [("127.0.0.5", "nothing of this URL"), ("127.0.0.66", "access.deny")] {
        let url = "http://www.example.com/office/x";
        let told = run_command(&["why", url, "--client", client, "--admin", &address]).await;
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.contains(expected), "{client}: {told}");
    }
    assert!(limits(&proxy, "address").await >= 20.0);
}

#[tokio::test]
async fn addresses_count_in_http2_and_over_tls() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(60));
    let certificate = Certificate::of(&["www.example.com"]);
    let site = "[[site.route]]\npath = \"/office\"\naccess.allow = [\"127.0.0.5\"]\n";
    let proxy = Setup::before(&node).listen("http2 = true").tls(&[&certificate]).site(site).start().await;
    let mut session = Session::open(proxy.address()).await;
    assert_eq!(session.get("/office").await.status, 403);
    assert_eq!(session.get("/").await.status, 200);
    let visitor = TlsVisitor::trusting(&[&certificate]);
    let (mut secure, _) = visitor.connect(proxy.tls_address(), "www.example.com").await.unwrap();
    assert_eq!(secure.ask(&Request::get("/office")).await.status, 403);
}

#[tokio::test]
async fn who_asks_too_often_has_to_wait() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(60));
    let proxy = Setup::before(&node)
        .listen("http2 = true")
        .site(
            "[[site.rate_limit]]\nname = \"all\"\nrate = \"4/h\"\npaths = [\"/page\"]\nexcept = [\"127.0.0.99\"]\n\
             [[site.rate_limit]]\nname = \"login\"\nrate = \"2/h\"\npaths = [\"/login\", \"/user/*\"]\nmethods = [\"POST\"]\n\
             [[site.rate_limit]]\nname = \"key\"\nrate = \"1/h\"\nburst = 2\npaths = [\"/api/*\"]\nby = \"header:X-Api-Key\"\n\
             [[site.rate_limit]]\nname = \"cookie\"\nrate = \"2/h\"\npaths = [\"/shop\"]\nby = \"cookie:sid\"\n\
             [[site.rate_limit]]\nname = \"path\"\nrate = \"3/h\"\npaths = [\"/search\"]\nby = \"path\"\n\
             [[site.rate_limit]]\nname = \"fast\"\nrate = \"5/1s\"\npaths = [\"/fast\"]\n",
        )
        .start()
        .await;
    // Asks so often; so many of them come through, and the others are told when to come again.
    async fn check(proxy: &Proxy, from: u8, request: Request, asked: usize, expected: usize) {
        let mut through = 0;
        for _ in 0..asked {
            let answer = ask_from(from, proxy, &request).await;
            match answer.status {
                429 => {
                    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                    assert!((1..=3600).contains(&wait), "{answer}");
                    assert!(answer.cache_status().contains("refused"), "{answer}");
                }
                _ => through += 1,
            }
        }
        assert_eq!(through, expected, "{from} {}", request.target());
    }
    // Hits count like all others, and each address for itself.
    check(&proxy, 2, Request::get("/page"), 6, 4).await;
    check(&proxy, 3, Request::get("/page?other=query"), 6, 4).await;
    check(&proxy, 99, Request::get("/page"), 9, 9).await;
    check(&proxy, 2, Request::get("/pages"), 9, 9).await;
    // By method and path; on all ways to a node.
    check(&proxy, 2, Request::get("/login"), 9, 9).await;
    check(&proxy, 2, Request::post("/login", "a=b"), 1, 1).await;
    check(&proxy, 2, Request::post("/user/x", vec![b'x'; 100_000]), 3, 1).await;
    check(&proxy, 2, Request::post("/%6cogin", "a=b"), 3, 0).await;
    check(&proxy, 2, Request::post("/login", "a=b").chunked(), 3, 0).await;
    // By a header, and by the address where it is missing.
    check(&proxy, 2, Request::get("/api/a").header("X-Api-Key", "one"), 4, 2).await;
    check(&proxy, 3, Request::get("/api/b").header("X-Api-Key", "one"), 4, 0).await;
    check(&proxy, 2, Request::get("/api/a").header("X-Api-Key", "two"), 4, 2).await;
    check(&proxy, 2, Request::get("/api/a"), 4, 2).await;
    check(&proxy, 3, Request::get("/api/a"), 4, 2).await;
    // By a cookie.
    check(&proxy, 2, Request::get("/shop").header("Cookie", "a=b; sid=1"), 4, 2).await;
    check(&proxy, 3, Request::get("/shop").header("Cookie", "sid=1; xsid=2"), 4, 0).await;
    check(&proxy, 2, Request::get("/shop").header("Cookie", "sid=2"), 4, 2).await;
    // By path, whoever asks.
    check(&proxy, 2, Request::get("/search?q=1"), 2, 2).await;
    check(&proxy, 3, Request::get("/search?q=2"), 4, 1).await;
    // What comes back does so evenly.
    check(&proxy, 2, Request::get("/fast"), 5, 5).await;
    proxy.a_second_later().await;
    check(&proxy, 2, Request::get("/fast"), 3, 3).await;
    // In HTTP/2 as in HTTP/1; purges do not count; and asking why takes nothing.
    let mut session = Session::open(proxy.address()).await;
    for expected in [200, 200, 200, 200, 429, 429] {
        let why = proxy.why(&Request::get("/page")).await;
        assert_eq!(session.get("/page").await.status, expected, "{why:#}");
    }
    for _ in 0..9 {
        assert_eq!(proxy.ask(&Request::new("PURGE", "/page")).await.status, 200);
    }
    assert!(limits(&proxy, "rate").await > 20.0);
}

#[tokio::test]
async fn a_password_lets_in_and_nobody_behind_sees_it() {
    let node = Node::start().await;
    node.serve_everything(Page::numbered("page").fresh_for(60));
    let proxy = Setup::before(&node)
        .listen("http2 = true")
        .site(&format!(
            "basic_auth = {{ realm = \"staging area\", users = [{}], except = [\"127.0.0.9\"] }}\n\
             [[site.route]]\npath = \"/open/*\"\nbasic_auth = false\n",
            USERS.replace('\n', " ")
        ))
        .start()
        .await;
    let with = |value: &str| Request::get("/").header("Authorization", value);
    let answer = proxy.get("/").await.expect_status(401);
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Basic realm=\"staging area\", charset=\"UTF-8\""),
        "{answer}"
    );
    for bad in [
        "Basic YW5uYTp3cm9uZw==",
        "Basic bm9ib2R5OnN0YWdpbmc=",
        "Basic YW5uYQ==",
        "Basic YW5uYTo=",
        "Basic",
        "Basic !!!",
        "Basic YW5uYTpzdGFnaW5",
        "BasicYW5uYTpzdGFnaW5n",
        "Bearer YW5uYTpzdGFnaW5n",
        &format!("Basic {}", "YW5u".repeat(500)),
    ] {
        for time in 0..2 {
            assert_eq!(proxy.ask(&with(bad)).await.status, 401, "{bad} the {time}. time");
        }
    }
    let two = with("Basic YW5uYTp3cm9uZw==").header("Authorization", ANNA);
    assert_eq!(proxy.ask(&two).await.status, 401, "one of two lines could be meant for others");
    assert_eq!(node.total(), 0);

    // What is stored is for all who are let in.
    assert_eq!(proxy.ask(&with(ANNA)).await.expect_status(200).served(), Served::Miss);
    assert_eq!(proxy.ask(&with(ANNA)).await.expect_status(200).served(), Served::Hit);
    assert_eq!(proxy.ask(&with(BERT)).await.expect_status(200).served(), Served::Hit);
    assert_eq!(ask_from(9, &proxy, &Request::get("/")).await.expect_status(200).served(), Served::Hit);
    assert_eq!(proxy.get("/").await.status, 401);
    for request in of_all_ways("/ways") {
        assert_eq!(proxy.connect().await.ask(&request).await.status, 401);
        let answer = proxy.connect().await.ask(&request.header("Authorization", ANNA)).await;
        assert_eq!(answer.status, 200, "{answer}");
    }
    assert!(node.requests().iter().all(|request| request.header("authorization").is_none()));
    let around = Request::get("/open/%2e%2e/secret");
    assert_eq!(proxy.ask(&around).await.status, 401, "another spelling of its path is no way around");
    // What is not ours reaches the application, as do passwords where we want none.
    let excepted = Request::get("/bearer").header("Authorization", "Bearer abc");
    assert_eq!(ask_from(9, &proxy, &excepted).await.status, 200);
    assert_eq!(node.last("/bearer").header("authorization"), Some("Bearer abc"));
    let open = Request::get("/open/x").header("Authorization", ANNA);
    assert_eq!(proxy.ask(&open).await.status, 200);
    assert_eq!(node.last("/open/x").header("authorization"), Some(ANNA));

    // Pipelined, and in HTTP/2.
    let mut pipelined = proxy.connect().await;
    let bytes = [with("Basic YW5uYTpuZXc="), with(ANNA), with("Basic YW5uYTpvbGQ="), with(BERT)];
    pipelined.send(bytes.iter().flat_map(Request::to_bytes).collect::<Vec<u8>>()).await.unwrap();
    for expected in [401, 200, 401, 200] {
        assert_eq!(pipelined.answer("GET").await.unwrap().status, expected);
    }
    let mut session = Session::open(proxy.address()).await;
    let mut asked = Vec::new();
    for (value, expected) in [("Basic YW5uYTpo", 401), (ANNA, 200), (BERT, 200), ("Basic YW5uYTpp", 401)] {
        let request = session.request("GET", "/h2").header("authorization", value);
        asked.push((session.send(request).await, expected));
    }
    for (asked, expected) in asked {
        assert_eq!(asked.answer().await.status, expected);
    }
    assert_eq!(session.get("/h2").await.status, 401);
    assert_eq!(proxy.ask(&Request::new("PURGE", "/")).await.status, 200, "purges have rules of their own");
    assert!(limits(&proxy, "password").await > 20.0);
    assert!(!proxy.log().contains("c3RhZ2luZw") && !proxy.log().contains("wrong\""), "{}", proxy.log());
}

#[tokio::test]
async fn guessing_passwords_does_not_hold_up_others() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(60));
    // A hash that takes a core some hundredths of a second and, without optimisation, more.
    let hash = "'carl:$6$rounds=20000$saltsalt$Z9mb6h5fFGCgpBe6o22vPjpo78MFRs5vAKxUuCqzbWtvxxR4FpOKk0BlpJ85yaELh6qfaYjBwXfF41QsrDzeq1'";
    let proxy = Setup::before(&node)
        .site(&format!("[[site.route]]\npath = \"/staging/*\"\nbasic_auth.users = [{hash}]\n"))
        .start()
        .await;
    proxy.warm(["/"]).await;
    let mut guesses = Vec::new();
    for guess in 0..120_u32 {
        let request =
            Request::get("/staging/x").header("Authorization", &format!("Basic Y2FybDp4{guess:04}"));
        let mut guesser = proxy.connect().await;
        guesser.send(request.to_bytes()).await.unwrap();
        guesses.push(guesser);
    }
    for _ in 0..100 {
        assert_eq!(proxy.get("/").await.served(), Served::Hit);
    }
    // Only so many wait; the others hear that it is crowded. Whoever is in the queue has to wait long here.
    let mut answers = tokio::task::JoinSet::new();
    for mut guesser in guesses {
        answers.spawn(async move { guesser.answer("GET").await.ok() });
    }
    let mut crowded = 0;
    while crowded < 20 {
        let answer = answers.join_next().await.expect("some hear that it is crowded").unwrap();
        let Some(answer) = answer else { continue };
        match answer.status {
            503 => crowded += usize::from(answer.header("retry-after") == Some("1")),
            status => assert_eq!(status, 401, "{answer}"),
        }
    }
}

#[tokio::test]
async fn a_site_has_so_many_requests_at_nodes() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve_everything(Page::text("slow").no_store().held_before_head(&gate));
    node.serve("/stored", Page::text("stored").fresh_for(60));
    let proxy = Setup::before(&node).listen("http2 = true").site("max_concurrent = 3").start().await;
    proxy.warm(["/stored"]).await;
    let mut held = Vec::new();
    for request in [Request::get("/a"), Request::post("/b", "x"), Request::post("/c", "x").chunked()] {
        let mut visitor = proxy.connect().await;
        visitor.send(request.to_bytes()).await.unwrap();
        held.push((visitor, request));
    }
    gate.reached(3).await;
    for request in of_all_ways("/more") {
        let answer = proxy.connect().await.ask(&request).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer}");
    }
    let mut session = Session::open(proxy.address()).await;
    assert_eq!(session.get("/more").await.status, 503);
    assert_eq!(proxy.get("/stored").await.served(), Served::Hit, "memory answers all the same");
    // One who leaves makes room, and so does one who is answered.
    drop(held.pop());
    wait::until("room for one", async || {
        let mut visitor = proxy.connect().await;
        visitor.send(Request::get("/d").to_bytes()).await.unwrap();
        let refused =
            tokio::time::timeout(std::time::Duration::from_millis(200), visitor.answer("GET")).await;
        refused.is_err().then_some(())
    })
    .await;
    gate.open();
    for (mut visitor, request) in held {
        assert_eq!(visitor.answer(request.method()).await.unwrap().status, 200);
    }
    for request in of_all_ways("/after") {
        assert_eq!(proxy.connect().await.ask(&request).await.status, 200);
    }
    assert!(limits(&proxy, "concurrent").await >= 7.0);
}

#[tokio::test]
async fn maintenance_begins_and_ends_with_a_file() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(600));
    let folder = tempfile::tempdir().unwrap();
    let (flag, page) = (folder.path().join("flag"), folder.path().join("page.html"));
    std::fs::write(&page, "<h1>Back soon</h1>").unwrap();
    let proxy = Setup::before(&node)
        .listen("http2 = true")
        .site(&format!(
            "maintenance = {{ flag = \"{}\", page = \"{}\", retry_after = \"90s\", except = [\"127.0.0.9\"] }}",
            flag.display(),
            page.display()
        ))
        .start()
        .await;
    proxy.warm(["/"]).await;
    std::fs::write(&flag, "").unwrap();
    wait::until("maintenance", async || (proxy.get("/").await.status == 503).then_some(())).await;
    for request in of_all_ways("/") {
        let answer = proxy.connect().await.ask(&request).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("90")), "{answer}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.text(), "<h1>Back soon</h1>");
        assert!(answer.cache_status().contains("maintenance"), "{answer}");
    }
    let head = proxy.ask(&Request::head("/")).await;
    assert_eq!((head.status, head.header("content-length"), head.text().len()), (503, Some("18"), 0));
    let mut session = Session::open(proxy.address()).await;
    let over_h2 = session.get("/").await;
    assert_eq!((over_h2.status.as_u16(), over_h2.text().as_str()), (503, "<h1>Back soon</h1>"));
    assert_eq!(ask_from(9, &proxy, &Request::get("/")).await.served(), Served::Hit);
    assert_eq!(proxy.get("/.well-known/acme-challenge/x").await.status, 200);
    assert_eq!(proxy.ask(&Request::new("PURGE", "/x")).await.status, 200);
    let metrics = proxy.metrics().await;
    assert!(metrics.sum("clearcoat_requests_total", &[("result", "maintenance")]) >= 7.0);
    std::fs::remove_file(&flag).unwrap();
    wait::until("its end", async || (proxy.get("/").await.status == 200).then_some(())).await;
    assert_eq!(proxy.get("/").await.served(), Served::Hit, "what was stored is there as before");
}

#[tokio::test]
async fn bodies_have_a_size_by_site_and_route() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in"));
    let proxy = Setup::before(&node)
        .limits("max_body = \"1MB\"")
        .site(
            "max_body = \"1000B\"\n[[site.route]]\npath = \"/upload\"\nmax_body = \"2MB\"\n\
             [[site.route]]\npath = \"/tiny\"\nmax_body = 10\n",
        )
        .start()
        .await;
    for (target, length, expected) in [
        ("/", 1_000, 200),
        ("/", 1_001, 413),
        ("/", 100_000, 413),
        ("/upload", 1_500_000, 200),
        ("/upload", 2_000_001, 413),
        ("/tiny", 10, 200),
        ("/tiny", 11, 413),
    ] {
        let sent = Request::post(target, vec![b'x'; length]);
        for request in [sent.clone(), sent.chunked()] {
            let mut visitor = proxy.connect().await;
            // It may be refused before all is sent.
            let _ = visitor.send(request.to_bytes()).await;
            let answer = visitor.answer("POST").await.unwrap();
            assert_eq!(answer.status, expected, "{length} to {target}: {answer}");
        }
    }
    let whole = node.requests().iter().filter(|request| request.method == "POST").count();
    assert_eq!(node.requests().iter().map(|request| request.body.len()).max(), Some(1_500_000), "{whole}");
    assert!(limits(&proxy, "body_bytes").await >= 8.0);
}

#[tokio::test]
async fn headers_are_set_on_what_nodes_answer() {
    let node = Node::start().await;
    let page = || Page::text("in").header("Server", "Apache/2").header("X-Frame-Options", "ALLOWALL");
    node.serve_everything(page().fresh_for(60).header("ETag", "\"a\""));
    node.serve("/mine", page().no_store());
    node.serve("/framed", page().fresh_for(60));
    let certificate = Certificate::of(&["www.example.com"]);
    let proxy = Setup::before(&node)
        .tls(&[&certificate])
        .site(
            "response_headers = { X-Frame-Options = \"DENY\", Referrer-Policy = \"same-origin\", Server = \"edge\" }\n\
             hsts = { max_age = \"2d\", subdomains = true }\n\
             [[site.route]]\npath = \"/framed\"\nresponse_headers = { X-Frame-Options = \"\", X-Route = \"r\" }\n",
        )
        .start()
        .await;
    let visitor = TlsVisitor::trusting(&[&certificate]);
    let (mut secure, _) = visitor.connect(proxy.tls_address(), "www.example.com").await.unwrap();
    let submitted = Request::post("/form", "a=b");
    let passed = Request::post("/form", "a=b").chunked();
    for request in [Request::get("/"), Request::get("/"), Request::get("/mine"), submitted, passed] {
        let (plain, over_tls) = (proxy.ask(&request).await, secure.ask(&request).await);
        assert_eq!(over_tls.headers("strict-transport-security"), ["max-age=172800; includeSubDomains"]);
        assert_eq!(plain.header("strict-transport-security"), None, "{plain}");
        for answer in [plain, over_tls] {
            assert_eq!(answer.headers("x-frame-options"), ["DENY"], "{answer}");
            assert_eq!(answer.headers("server"), ["edge"], "{answer}");
            assert_eq!(answer.headers("referrer-policy"), ["same-origin"], "{answer}");
        }
    }
    for _ in 0..2 {
        let framed = proxy.get("/framed").await;
        assert_eq!(framed.headers("x-frame-options"), ["ALLOWALL"], "{framed}");
        assert_eq!(
            (framed.header("x-route"), framed.header("server")),
            (Some("r"), Some("edge")),
            "{framed}"
        );
    }
}
