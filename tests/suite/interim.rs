//! What is said before an answer: that a body may come (100), what the page will want (103), and that somebody is at work (102).

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use clearcoat_tests::http2::Session;
use clearcoat_tests::scripted::Talk;
use clearcoat_tests::{Node, Page, Proxy, Request, Scripted, Setup};

/// Says that the body may come, if that is asked, and tells how much came.
async fn willing(mut talk: Talk) -> Result<()> {
    if talk.header("expect").is_some() {
        talk.say("HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let mut taken = 0;
    loop {
        let piece = talk.piece().await?;
        if piece.is_empty() {
            let text = format!("{taken} bytes");
            return talk
                .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
                .await;
        }
        taken += piece.len();
    }
}

/// The head of an upload that waits to be told to go on.
fn expecting(length: usize) -> String {
    format!("POST /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn who_asks_whether_a_body_may_come_is_told_so() {
    let node = Scripted::start(willing).await;
    let proxy = Setup::before(&node).listen("http2 = true").start().await;
    for length in [5, 5_000_000] {
        let mut visitor = proxy.connect().await;
        for _ in 0..2 {
            visitor.send(expecting(length)).await.unwrap();
            assert_eq!(visitor.interim().await.unwrap(), 100, "{length} bytes");
            visitor.send("x".repeat(length)).await.unwrap();
            let answer = visitor.answer("POST").await.unwrap().expect_status(200);
            assert_eq!((answer.text(), answer.interim.len()), (format!("{length} bytes"), 0));
        }
        // Who does not wait for it is served too.
        visitor.send(expecting(length) + &"x".repeat(length)).await.unwrap();
        let answer = visitor.answer("POST").await.unwrap().expect_status(200);
        assert_eq!(answer.text(), format!("{length} bytes"));
    }
    let mut session = Session::open(proxy.address()).await;
    let request = session.request("POST", "/upload").header("expect", "100-continue");
    let mut asked = session.try_send(request.body(()).unwrap(), false).await.unwrap();
    asked.body.send_data(Bytes::from("hello"), true).unwrap();
    assert_eq!(asked.answer().await.text(), "5 bytes");
}

#[tokio::test]
async fn a_node_that_never_says_it_keeps_nobody_waiting() {
    // PHP's own server, for one.
    let node = Scripted::start(async |mut talk: Talk| {
        while !talk.piece().await?.is_empty() {}
        talk.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await
    })
    .await;
    let proxy = Setup::before(&node).start().await;
    for length in [5, 200_000] {
        let mut visitor = proxy.connect().await;
        let begun = Instant::now();
        visitor.send(expecting(length)).await.unwrap();
        assert_eq!(visitor.interim().await.unwrap(), 100, "{length} bytes");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        visitor.send("x".repeat(length)).await.unwrap();
        visitor.answer("POST").await.unwrap().expect_status(200);
    }
}

#[tokio::test]
async fn a_body_that_is_not_wanted_is_not_sent() {
    let node = Scripted::start(async |mut talk: Talk| {
        talk.say(format!(
            "HTTP/1.1 {} No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
            &talk.path()[1..]
        ))
        .await
    })
    .await;
    let proxy = Setup::before(&node).limits("max_body = \"1MiB\"").start().await;
    for status in ["401", "413", "417"] {
        let mut visitor = proxy.connect().await;
        let head = expecting(200_000).replace("/upload", &format!("/{status}"));
        visitor.send(head).await.unwrap();
        let answer = visitor.answer("POST").await.unwrap();
        assert_eq!((answer.status.to_string().as_str(), answer.interim.len()), (status, 0), "{answer}");
        // Nobody knows whether the body will still come.
        assert!(answer.closes(), "{answer}");
        visitor.closed().await.unwrap();
    }
    let asked = node.requests();
    let mut visitor = proxy.connect().await;
    visitor.send(expecting(2 << 20)).await.unwrap();
    let answer = visitor.answer("POST").await.unwrap().expect_status(413);
    assert_eq!(answer.interim.len(), 0, "what is too large is told before it is sent");
    assert_eq!(node.requests(), asked);
}

#[tokio::test]
async fn curl_is_not_kept_waiting() {
    let node = Scripted::start(willing).await;
    let proxy = Setup::before(&node).listen("http2 = true").start().await;
    let body = proxy.folder().join("body");
    std::fs::write(&body, vec![b'x'; 3 << 20]).unwrap();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for arguments in [
            &["--data-binary"][..],
            &["-H", "Transfer-Encoding: chunked", "--data-binary"],
            &["-H", "Expect: 100-continue", "--data-binary"],
        ] {
            let begun = Instant::now();
            let mut command = tokio::process::Command::new("curl");
            command.args(["-s", version]).args(arguments).arg(format!("@{}", body.display()));
            let output = command.arg(format!("http://{}/upload", proxy.address())).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "3145728 bytes", "{version} {arguments:?}");
            // It would wait for a second by itself.
            assert!(
                begun.elapsed() < Duration::from_millis(900),
                "{version} {arguments:?}: {:?}",
                begun.elapsed()
            );
        }
    }
}

#[tokio::test]
async fn hints_reach_who_asked_by_every_road() {
    let node = Scripted::start(async |mut talk: Talk| {
        while !talk.piece().await?.is_empty() {}
        for _ in 0..3 {
            talk.say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n").await?;
        }
        talk.say("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\npage").await
    })
    .await;
    let proxy = Proxy::before(&node).await;
    for request in [
        Request::get("/page"),
        Request::post("/form", "small"),
        Request::post("/form", "x".repeat(200_000)),
        Request::post("/form", "in pieces").chunked(),
    ] {
        let answer = proxy.ask(&request).await.expect_status(200);
        assert_eq!(
            (answer.text().as_str(), &answer.interim[..]),
            ("page", &[103, 103, 103, 102][..]),
            "{request:?}"
        );
        let old = request.clone().version_1_0();
        if !matches!(request.method(), "GET") && !old.to_bytes().ends_with(b"0\r\n\r\n") {
            let answer = proxy.ask(&old).await.expect_status(200);
            assert_eq!(
                (answer.text().as_str(), answer.interim.len()),
                ("page", 0),
                "HTTP/1.0 knows none: {request:?}"
            );
        }
    }
    // Nothing of them is stored.
    let hit = proxy.get("/page").await.expect_status(200);
    assert_eq!((hit.text().as_str(), hit.interim.len(), node.requests() > 0), ("page", 0, true));
}

#[tokio::test]
async fn hints_without_end_are_an_error() {
    let node = Node::start().await;
    let endless = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(200);
    node.serve_everything(Page::text("").raw(endless));
    let proxy = Setup::before(&node).pool("passive = { errors = 1000 }").start().await;
    for request in
        [Request::get("/page"), Request::post("/form", "small"), Request::post("/form", "x".repeat(200_000))]
    {
        let answer = proxy.ask(&request).await;
        assert_eq!(answer.status, 502, "{answer}");
        assert!(answer.interim.len() <= 40, "{} of them were sent on", answer.interim.len());
    }
}
