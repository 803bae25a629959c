//! What an application makes of the headers that tell it of the visitor: Symfony's own request class, behind proxies it trusts.

use clearcoat_tests::http2::Session;
use clearcoat_tests::real::PhpServer;
use clearcoat_tests::{Certificate, Connection, Node, Page, Proxy, Request, Served, Setup, TlsVisitor};

const NAME: &str = "www.example.com";

/// By which headers the page believes the proxy.
const BELIEFS: [&str; 3] = ["", "forwarded", "both"];

/// On the roads to a node: a fetch, a small body, a large one.
fn requests(belief: &str) -> [Request; 3] {
    let page = format!("/told.php?by={belief}");
    [Request::get(&page), Request::post(&page, "small"), Request::post(&page, vec![b'x'; 300_000])]
}

/// What a stranger says of himself.
fn forged(request: Request) -> Request {
    request
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Host", "evil.test")
        .header("X-Forwarded-Port", "666")
        .header("X-Forwarded-Proto", "gopher")
        .header("X-Forwarded-Prefix", "/evil")
        .header("Forwarded", "for=6.6.6.6;host=evil.test;proto=gopher")
}

#[tokio::test]
async fn symfony_knows_who_asks_and_by_which_url() {
    let node = PhpServer::start("php").await;
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node)
        .pool("forwarded = true")
        .listen("http2 = true")
        .tls(&[&certificate])
        .start()
        .await;
    let visitor = TlsVisitor::trusting(&[&certificate]);
    let mut plain = Connection::open_from([127, 0, 0, 9].into(), proxy.address()).await;
    let (mut secure, _) = visitor.connect(proxy.tls_address(), NAME).await.unwrap();
    for belief in BELIEFS {
        for (host, port) in [(NAME.to_owned(), ""), (format!("{NAME}:8443"), ":8443")] {
            for request in requests(belief) {
                let request = forged(request.host(&host));
                let bare = if port.is_empty() { 80 } else { 8443 };
                let told = format!("127.0.0.9 http {NAME} {bare}\nhttp://{host}/told.php\n");
                let answer = plain.ask(&request).await.expect_status(200);
                assert_eq!(answer.text(), told, "{belief}, {}", request.method());
                let bare = if port.is_empty() { 443 } else { 8443 };
                let told = format!("127.0.0.1 https {NAME} {bare}\nhttps://{host}/told.php\n");
                let answer = secure.ask(&request).await.expect_status(200);
                assert_eq!(answer.text(), told, "{belief}, {}", request.method());
            }
        }
        let mut session = Session::open(proxy.address()).await;
        let asked =
            session.request("GET", &format!("/told.php?by={belief}")).header("forwarded", "for=6.6.6.6");
        let answer = session.send(asked).await.answer().await;
        assert!(answer.text().starts_with("127.0.0.1 http "), "{belief}: {}", answer.text());
    }
}

#[tokio::test]
async fn symfony_finds_the_visitor_behind_all_proxies() {
    let node = PhpServer::start("php").await;
    let listen = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";
    let proxy = Setup::before(&node).pool("forwarded = true").listen(listen).start().await;
    let mut connection = proxy.connect().await;
    for (chain, client) in [
        ("192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 2001:db8::7, 10.0.0.1", "2001:db8::7"),
        // More proxies than are told of: those left out are trusted anyhow.
        ("6.6.6.6, 192.0.2.1, 10.0.0.5, 10.0.0.4, 10.0.0.3, 10.0.0.2, 10.0.0.1", "192.0.2.1"),
    ] {
        for belief in BELIEFS {
            for request in requests(belief) {
                let request = request
                    .host(NAME)
                    .header("X-Forwarded-For", chain)
                    .header("X-Forwarded-Proto", "https")
                    // Of the host nobody but the request itself is believed: it is what pages are stored under.
                    .header("X-Forwarded-Host", "evil.test")
                    .header("X-Forwarded-Port", "666");
                let answer = connection.ask(&request).await.expect_status(200);
                let told = format!("{client} https {NAME} 443\nhttps://{NAME}/told.php\n");
                assert_eq!(answer.text(), told, "{chain} by {belief:?}, {}", request.method());
            }
        }
    }
}

/// The lines of this name that the node saw last.
async fn seen(node: &Node, proxy: &Proxy, request: &Request) -> Vec<String> {
    proxy.ask(request).await.expect_status(200);
    node.last("/page").headers("forwarded").into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn forwarded_is_said_where_it_is_asked_for_and_once() {
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    let requests = [
        Request::get("/page"),
        Request::post("/page", "small"),
        Request::post("/page", vec![b'x'; 300_000]),
        Request::get("/page").header("Connection", "Upgrade").header("Upgrade", "websocket"),
    ];
    for (pool, expected) in [
        ("", &[][..]),
        ("forwarded = false", &[]),
        ("forwarded = true", &["for=127.0.0.1;host=\"www.example.com\";proto=http"]),
    ] {
        let proxy = Setup::before(&node).pool(pool).start().await;
        for request in requests.clone() {
            let request = forged(request.host(NAME)).header("Connection", "Forwarded");
            assert_eq!(seen(&node, &proxy, &request).await, expected, "{pool}: {}", request.method());
        }
    }
}

#[tokio::test]
async fn a_page_that_varies_on_forwarded_is_for_its_own_visitor() {
    let node = Node::start().await;
    let page = Page::written(|request| request.header("forwarded").unwrap_or_default().to_owned());
    node.serve("/page", page.fresh_for(60).header("Vary", "Forwarded"));
    let proxy = Setup::before(&node).pool("forwarded = true").start().await;
    for served in [Served::Miss, Served::Hit] {
        for last in [2, 3] {
            let mut visitor = Connection::open_from([127, 0, 0, last].into(), proxy.address()).await;
            // What he says himself chooses nothing.
            let request = Request::get("/page").host(NAME).header("Forwarded", "for=127.0.0.2");
            let answer = visitor.ask(&request).await.expect_status(200);
            let told = format!("for=127.0.0.{last};host=\"{NAME}\";proto=http");
            assert_eq!((answer.text(), answer.served()), (told, served));
        }
    }
}
