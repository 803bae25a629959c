//! Visitors who show certificates: who is let in, what nodes hear of it, and that nobody else says it or gets what was meant for them.

use std::fs;

use clearcoat_tests::proxy::run_command;
use clearcoat_tests::{
    Answer, Authority, Certificate, Node, Page, Proxy, Request, Served, Setup, TlsVisitor, wait,
};
use rcgen::DnType;
use tempfile::TempDir;

const NAME: &str = "www.example.com";
const HEADER: &str = "x-client-subject";

/// A proxy that asks for certificates of one authority.
struct Edge {
    proxy: Proxy,
    server: Certificate,
    staff: Authority,
    folder: TempDir,
}

impl Edge {
    async fn start(setup: Setup, words: &str) -> Self {
        let (server, staff) = (Certificate::of(&[NAME]), Authority::named("Staff"));
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, &staff.certificate).unwrap();
        let lines = format!("client_auth = {{ ca = \"{}\", {words} }}", ca.display());
        let proxy = setup.tls(&[&server]).tls_lines(&lines).start().await;
        Self { proxy, server, staff, folder }
    }

    fn stranger(&self) -> TlsVisitor {
        TlsVisitor::trusting(&[&self.server])
    }

    fn showing(&self, own: &Certificate) -> TlsVisitor {
        self.stranger().showing(own)
    }

    fn of(&self, name: &str) -> Certificate {
        self.staff.signs(&[(DnType::CommonName, name)], false)
    }

    /// What is answered on a connection of its own; `None` if it comes to none. In TLS 1.3 a visitor hears with the answer only
    /// whether their certificate was good.
    async fn ask(&self, visitor: &TlsVisitor, request: &Request) -> Option<Answer> {
        let (mut connection, _) = visitor.connect(self.proxy.tls_address(), NAME).await.ok()?;
        connection.try_ask(&request.clone().host(NAME)).await.ok()
    }
}

const TOLD: &str = "subject_header = \"X-Client-Subject\"";
const WANTED: &str = "required = false, subject_header = \"X-Client-Subject\"";

#[tokio::test]
async fn who_has_no_good_certificate_is_turned_away() {
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    for (words, without) in [(TOLD, None), (WANTED, Some(200))] {
        let edge = Edge::start(Setup::before(&node), words).await;
        let anna = edge.staff.signs(
            &[
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "Example, Inc."),
                (DnType::CommonName, "Anna"),
            ],
            false,
        );
        let other = Authority::named("Staff").signs(&[(DnType::CommonName, "Anna")], false);
        let expired = edge.staff.signs(&[(DnType::CommonName, "Anna")], true);
        let itself = Certificate::of(&["anna.example.com"]);
        for visitor in [edge.stranger(), TlsVisitor::old(&[&edge.server])] {
            let request = Request::get("/page");
            let answer = edge.ask(&visitor, &request).await;
            assert_eq!(answer.map(|answer| answer.status), without, "{words}");
            for bad in [&other, &expired, &itself] {
                let answer = edge.ask(&visitor.clone().showing(bad), &request).await;
                assert!(answer.is_none(), "{words}: {answer:?}");
            }
            let answer = edge.ask(&visitor.showing(&anna), &request).await.unwrap();
            assert_eq!(answer.status, 200, "{words}");
            assert_eq!(node.last("/page").headers(HEADER), ["CN=Anna,O=Example\\, Inc.,C=DE"]);
        }
        let metrics = edge.proxy.metrics().await;
        let failed = metrics.sum("clearcoat_tls_handshakes_total", &[("result", "failed")]);
        assert!(failed >= 6.0, "{failed}");
    }
}

#[tokio::test]
async fn nobody_says_it_themselves() {
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    let edge = Edge::start(Setup::before(&node), WANTED).await;
    let anna = edge.showing(&edge.of("Anna"));
    let large = || vec![b'x'; 300_000];
    for forged in ["X-Client-Subject", "x-client-subject", "X_Client_Subject", "X-Client_Subject"] {
        for request in [
            Request::get("/page"),
            Request::head("/page"),
            Request::post("/page", "small"),
            Request::post("/page", large()),
            Request::post("/page", large()).chunked(),
            Request::new("OPTIONS", "/page"),
            Request::get("/page").header("Connection", "Upgrade").header("Upgrade", "websocket"),
            Request::get("/page").header("Connection", "X-Client-Subject"),
        ] {
            let request = request.header(forged, "CN=root").header(forged, "CN=admin");
            let seen = || {
                let seen = node.last("/page");
                assert!(seen.headers("x_client_subject").is_empty(), "{forged}");
                assert!(seen.headers("x-client_subject").is_empty(), "{forged}");
                seen.headers(HEADER).into_iter().map(str::to_owned).collect::<Vec<_>>()
            };
            edge.ask(&anna, &request).await.unwrap().expect_status(200);
            assert_eq!(seen(), ["CN=Anna"], "{forged}, {}", request.method());
            // Who shows none, and who comes to a listener that does not ask.
            edge.ask(&edge.stranger(), &request).await.unwrap().expect_status(200);
            assert!(seen().is_empty(), "{forged}, {}", request.method());
            edge.proxy.ask(&request).await.expect_status(200);
            assert!(seen().is_empty(), "{forged}, {}", request.method());
        }
    }
}

#[tokio::test]
async fn it_is_the_same_in_http2() {
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    let edge = Edge::start(Setup::before(&node), WANTED).await;
    for (visitor, told) in [(edge.showing(&edge.of("Anna")), &["CN=Anna"][..]), (edge.stranger(), &[])] {
        let visitor = visitor.offering(&["h2"]);
        let (mut session, agreed) = visitor.connect_http2(edge.proxy.tls_address(), NAME).await.unwrap();
        assert_eq!(agreed.protocol.as_deref(), Some("h2"));
        for method in ["GET", "DELETE", "OPTIONS"] {
            for forged in [HEADER, "x_client_subject"] {
                let request = session.request(method, "/page").header(forged, "CN=root");
                assert_eq!(session.send(request).await.answer().await.status, 200, "{method}");
                assert_eq!(node.last("/page").headers(HEADER), told, "{method}");
                assert!(node.last("/page").headers("x_client_subject").is_empty(), "{method}");
            }
        }
    }
    // A required certificate that is not shown: no session comes about, or none that answers.
    let strict = Edge::start(Setup::before(&node), TOLD).await;
    let before = node.count("/strict");
    let (mut connection, _) =
        match strict.stranger().offering(&["h2"]).connect(strict.proxy.tls_address(), NAME).await {
            Ok(connected) => connected,
            Err(_) => return,
        };
    let _ = connection.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(connection.bytes(9).await.is_err());
    assert_eq!(node.count("/strict"), before);
}

#[tokio::test]
async fn what_was_meant_for_one_is_for_no_other() {
    let node = Node::start().await;
    let who = || {
        Page::composed(|request| {
            Page::text(request.header(HEADER).unwrap_or("nobody").to_owned()).fresh_for(60)
        })
    };
    node.serve("/page", who());
    node.serve("/fragment", who());
    let edge = Edge::start(Setup::before(&node).site("esi = true"), WANTED).await;
    let (anna, bert) = (edge.showing(&edge.of("Anna")), edge.showing(&edge.of("Bert")));
    let stranger = edge.stranger();
    for round in 0..3 {
        for (visitor, expected) in [(&anna, "CN=Anna"), (&bert, "CN=Bert"), (&stranger, "nobody")] {
            for path in ["/page", "/fragment"] {
                let answer = edge.ask(visitor, &Request::get(path)).await.unwrap().expect_status(200);
                assert_eq!(answer.text(), expected, "round {round}: {answer}");
                let is_hit = answer.served() == Served::Hit;
                assert_eq!(is_hit, expected == "nobody" && round > 0, "round {round}: {answer}");
            }
        }
    }
    assert_eq!(node.count("/page"), 7);
    // Nor by way of a page that is put together, in which a fragment names the one who asks.
    let tags = "[<esi:include src=\"/fragment\"/>]";
    let page = Page::text(tags)
        .header("Surrogate-Control", "content=\"ESI/1.0\"")
        .header("Content-Type", "text/html");
    node.serve("/assembled", page.fresh_for(60));
    for _ in 0..2 {
        for (visitor, expected) in [(&stranger, "nobody"), (&anna, "CN=Anna"), (&bert, "CN=Bert")] {
            let answer = edge.ask(visitor, &Request::get("/assembled")).await.unwrap();
            assert_eq!(answer.text(), format!("[{expected}]"), "{answer}");
        }
    }
    // All at once, so that they would meet in one fetch.
    edge.proxy.purge_url("/page").await;
    let asked = [(&anna, "CN=Anna"), (&bert, "CN=Bert"), (&stranger, "nobody")].map(|(visitor, expected)| {
        let edge = &edge;
        async move {
            for _ in 0..5 {
                let answer = edge.ask(visitor, &Request::get("/page")).await.unwrap();
                assert_eq!(answer.text(), expected, "{answer}");
            }
        }
    });
    let [one, two, three] = asked;
    tokio::join!(one, two, three);
}

#[tokio::test]
async fn sessions_that_go_on_are_still_the_same_persons() {
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    let edge = Edge::start(Setup::before(&node), TOLD).await;
    let old = TlsVisitor::old(&[&edge.server]);
    for visitor in [edge.stranger(), old] {
        let (anna, bert) =
            (visitor.clone().showing(&edge.of("Anna")), visitor.clone().showing(&edge.of("Bert")));
        for round in 0..3 {
            for (visitor, expected) in [(&anna, "CN=Anna"), (&bert, "CN=Bert")] {
                let (mut connection, agreed) = visitor.connect(edge.proxy.tls_address(), NAME).await.unwrap();
                assert_eq!(agreed.resumed, round > 0, "{expected}");
                for _ in 0..2 {
                    connection.ask(&Request::get("/page").host(NAME)).await.expect_status(200);
                    assert_eq!(node.last("/page").headers(HEADER), [expected]);
                    connection
                        .ask(&Request::post("/page", vec![b'x'; 200_000]).host(NAME))
                        .await
                        .expect_status(200);
                    assert_eq!(node.last("/page").headers(HEADER), [expected]);
                }
            }
        }
    }
}

#[tokio::test]
async fn authorities_are_believed_as_soon_as_they_are_written_and_no_longer() {
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    let edge = Edge::start(Setup::before(&node), TOLD).await;
    let next = Authority::named("Next");
    let (anna, carl) =
        (edge.showing(&edge.of("Anna")), edge.showing(&next.signs(&[(DnType::CommonName, "Carl")], false)));
    let request = Request::get("/page");
    assert!(edge.ask(&anna, &request).await.is_some());
    assert!(edge.ask(&carl, &request).await.is_none());
    let file = edge.folder.path().join("ca.pem");
    let renewals = async |result: &str| {
        edge.proxy.metrics().await.sum("clearcoat_tls_renewals_total", &[("result", result)])
    };
    fs::write(&file, "nonsense").unwrap();
    wait::until("the file to be looked at", async || (renewals("failed").await == 1.0).then_some(())).await;
    assert!(edge.proxy.log().contains("ca.pem holds no certificate"), "{}", edge.proxy.log());
    assert!(edge.ask(&anna, &request).await.is_some(), "those of before are still believed");
    fs::write(&file, &next.certificate).unwrap();
    wait::until("the file to be read", async || (renewals("shown").await == 1.0).then_some(())).await;
    // Also who could go on with an earlier session.
    assert!(edge.ask(&anna, &request).await.is_none());
    assert!(edge.ask(&carl, &request).await.is_some());
    assert_eq!(node.last("/page").headers(HEADER), ["CN=Carl"]);
}

#[tokio::test]
async fn a_file_of_authorities_that_is_no_good_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = Certificate::of(&[NAME]).write(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("broken"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (ca, reason) in [
        ("none", "cannot be read"),
        ("empty", "holds no certificate"),
        ("broken", "certificate 1 is malformed"),
    ] {
        let file = path("clearcoat.toml");
        let text = format!(
            "[[listen]]\naddress = \"127.0.0.1:1\"\n[listen.tls]\ncertificates = [{{ cert = {cert:?}, key = {key:?} }}]\n\
             client_auth.ca = {:?}\n[admin]\nenabled = false\n[pools.web]\nnodes = [\"127.0.0.1:9\"]\n\
             [[site]]\nhosts = [\"*\"]\npool = \"web\"\n",
            path(ca)
        );
        fs::write(&file, text).unwrap();
        let output = run_command(&["check", "--config", &file]).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && errors.contains(&path(ca)) && errors.contains(reason),
            "{errors}"
        );
    }
}
