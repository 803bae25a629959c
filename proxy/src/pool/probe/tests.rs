//! Tests of probes against small servers on the loopback interface.
#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::super::settings::{BodyPattern, NodeTls, TrustedCas};
use super::super::test::{settings, tls_acceptor};
use super::*;

/// Reads one request and sends `answer`; keeps the connection open afterwards if `hold`.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8], hold: bool) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return String::new(),
        }
    }
    let _ = stream.write_all(answer).await;
    if hold {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
    String::from_utf8(request).unwrap()
}

/// Probes a node at `target` as `check` says.
async fn probe(target: Target, check: Check, change: impl FnOnce(&mut PoolSettings)) -> Result<(), String> {
    let mut settings = settings(&[]);
    settings.health.check = check;
    settings.health.timeout = Duration::from_secs(20);
    change(&mut settings);
    let address = match &target {
        Target::Tcp(address) => NodeAddress::Ip(*address),
        Target::Unix(path) => NodeAddress::Unix(path.clone()),
    };
    Prober::new().probe(&target, &address, &settings).await.map(|_| ())
}

/// What a probe of a server that sends `bytes` finds.
async fn found(bytes: &[u8], check: HttpCheck) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, bytes, false).await
    };
    tokio::join!(probe(target, Check::Http(check), |_| {}), server).0
}

fn matching(pattern: &str) -> HttpCheck {
    HttpCheck { body: Some(BodyPattern(regex::bytes::Regex::new(pattern).unwrap())), ..HttpCheck::get("/") }
}

#[tokio::test]
async fn answers_are_judged() {
    let plain = || HttpCheck::get("/");
    let many =
        [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'.'; HttpCheck::MAX_BODY_BYTES], b"late"].concat();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n5\r\n good\r\n0\r\n\r\n";
    for (answer, check, expected) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], plain(), Ok(())),
        (b"HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n", plain(), Ok(())),
        (b"HTTP/1.1 500 Oops\r\n\r\n", plain(), Err("status 500")),
        (b"HTTP/1.1 200 OK\r\n\r\n", HttpCheck { statuses: vec![204], ..plain() }, Err("status 200")),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", plain(), Err("status 503")),
        (b"HTTP/1.1 200 OK\r\n\r\nall good", matching("all good$"), Ok(())),
        (chunked, matching("all good$"), Ok(())),
        (b"HTTP/1.1 200 OK\r\n\r\nall bad", matching("good"), Err("body does not match")),
        (&many, matching("late"), Err("body does not match")),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", plain(), Err("the answer is not http")),
        (b"", plain(), Err("closed before a whole answer")),
        (b"HTTP/1.1 200", plain(), Err("closed before a whole answer")),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ngood",
            matching("good"),
            Err("closed before a whole answer"),
        ),
    ] {
        let what = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        assert_eq!(found(answer, check).await, expected.map_err(str::to_owned), "{what:?}");
    }
}

#[tokio::test]
async fn the_request_says_who_asks_and_for_what() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let check = HttpCheck { method: http::Method::HEAD, ..HttpCheck::get("/ping?full=1") };
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false).await
    };
    let (result, request) = tokio::join!(probe(Target::Tcp(address), Check::Http(check), |_| {}), server);
    assert_eq!(result, Ok(()));
    let request = request.to_ascii_lowercase();
    assert!(request.starts_with("head /ping?full=1 http/1.1\r\n"), "{request}");
    for field in
        [format!("host: {address}"), "user-agent: clearcoat-probe".into(), "connection: close".into()]
    {
        assert!(request.contains(&format!("\r\n{field}\r\n")), "{field} in {request}");
    }
}

#[tokio::test]
async fn a_node_that_refuses_or_hangs_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let short = |settings: &mut PoolSettings| settings.health.timeout = Duration::from_millis(50);
    let check = Check::Http(HttpCheck::get("/"));
    // The kernel accepts for a server that never answers: enough for a probe by TCP only.
    assert_eq!(probe(target.clone(), check.clone(), short).await, Err("no answer within 50ms".to_owned()));
    assert_eq!(probe(target.clone(), Check::Tcp, |_| {}).await, Ok(()));
    drop(listener);
    assert_eq!(probe(target.clone(), check, |_| {}).await, Err("connection refused".to_owned()));
    assert_eq!(probe(target, Check::Tcp, |_| {}).await, Err("connection refused".to_owned()));
}

#[tokio::test]
async fn the_deadline_is_for_the_whole_probe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ngood", true).await
    });
    let short = |settings: &mut PoolSettings| settings.health.timeout = Duration::from_millis(100);
    let result = probe(target, Check::Http(matching("good")), short).await;
    assert_eq!(result, Err("no answer within 100ms".to_owned()), "the body never ended");
    server.abort();
}

#[tokio::test]
async fn unix_sockets_are_probed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let target = Target::Unix(path.clone());
    let listener = UnixListener::bind(&path).unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, b"HTTP/1.1 204 No Content\r\n\r\n", false).await
    };
    let check = Check::Http(HttpCheck::get("/"));
    let (result, request) = tokio::join!(probe(target.clone(), check.clone(), |_| {}), server);
    assert_eq!(result, Ok(()));
    assert!(request.to_ascii_lowercase().contains("host: localhost\r\n"), "{request}");
    drop(listener);
    assert_eq!(probe(target.clone(), check.clone(), |_| {}).await, Err("connection refused".to_owned()));
    std::fs::remove_file(&path).unwrap();
    assert!(probe(target, check, |_| {}).await.is_err());
}

/// A node that speaks TLS.
async fn tls_node() -> Target {
    let acceptor = tls_acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false).await;
            }
        }
    });
    target
}

#[tokio::test]
async fn tls_nodes_must_prove_who_they_are() {
    let target = tls_node().await;
    let ca = || Some(TrustedCas::from_pem(include_bytes!("../test/ca.pem")).unwrap());
    for (verify, sni, ca, good) in [
        (true, None, ca(), true),
        (true, Some("node.test"), ca(), true),
        (true, Some("other.test"), ca(), false),
        (true, Some("node.test"), None, false),
        (true, None, None, false),
        (false, None, None, true),
        (false, Some("other.test"), None, true),
    ] {
        for check in [Check::Http(HttpCheck::get("/")), Check::Tcp] {
            let tls = NodeTls { verify, sni: sni.map(str::to_owned), ca: ca.clone() };
            let what = format!("{tls:?}");
            let result = probe(target.clone(), check, |settings| settings.tls = Some(tls)).await;
            assert_eq!(result.is_ok(), good, "{what}: {result:?}");
            assert!(
                result.is_ok()
                    || result
                        .as_ref()
                        .is_err_and(|reason| reason.starts_with("tls: ") && reason.contains("certificate")),
                "{result:?}"
            );
        }
    }
}

#[tokio::test]
async fn certificates_tell_trust_apart() {
    let pem = include_bytes!("../test/ca.pem");
    let (one, same) = (TrustedCas::from_pem(pem).unwrap(), TrustedCas::from_pem(pem).unwrap());
    let two = TrustedCas::from_pem(&[&pem[..], include_bytes!("../test/node.pem")].concat()).unwrap();
    assert!(one == same && one.fingerprint() == same.fingerprint());
    assert!(one != two && one.fingerprint() != two.fingerprint());
    assert_eq!(two.certificates().len(), 2);
}
