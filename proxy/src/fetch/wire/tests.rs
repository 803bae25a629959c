#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::pool::link::test::link_to;

/// What a node's bytes amount to: the status and the body, or what is wrong; and whether the connection may be kept.
type Read = (Result<(u16, String), &'static str>, bool);

/// Reads `answer`, which comes in pieces of `step` bytes and then ends.
async fn read(answer: &str, step: usize, to_head: bool) -> Read {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link_to(listener.local_addr().unwrap()).await;
    let (mut node, _) = listener.accept().await.unwrap();
    let bytes = answer.as_bytes().to_vec();
    let node = tokio::spawn(async move {
        for piece in bytes.chunks(step) {
            node.set_nodelay(true).unwrap();
            // The reader may have seen enough.
            if node.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    let mut session = Session::new(link);
    session.set_deadline(Instant::now() + Duration::from_secs(10));
    let result = whole(&mut session, to_head).await;
    node.await.unwrap();
    let kept = result.is_ok() && session.into_link().is_some_and(|(link, _)| link.input.is_empty());
    (result, kept)
}

async fn whole(session: &mut Session, to_head: bool) -> Result<(u16, String), &'static str> {
    let word = |error| match error {
        WireError::Malformed(what) => what,
        WireError::Ended => "ended",
        WireError::TimedOut => "late",
        WireError::Io(_) => "io",
    };
    let head = session.head(to_head, |_| {}).await.map_err(word)?;
    let mut body = Vec::new();
    while let Some(piece) = session.piece().await.map_err(word)? {
        body.extend_from_slice(&piece);
    }
    Ok((head.status.as_u16(), String::from_utf8(body).unwrap()))
}

#[tokio::test]
async fn answers_are_framed_strictly_however_their_bytes_come() {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    let ok = |body: &str| Ok((200, body.to_owned()));
    let doubt = "a length stands beside chunks";
    let coding = "the transfer coding is unknown";
    let chunks = "the chunks are malformed";
    let number = "the length is no number";
    let head = "the head is malformed";
    for (rest, expected, kept) in [
        ("Content-Length: 3\r\n\r\nabc", ok("abc"), true),
        ("Content-Length: 0\r\n\r\n", ok(""), true),
        ("Content-Length: 3\r\nConnection: x, Close\r\n\r\nabc", ok("abc"), false),
        ("\r\nuntil the end", ok("until the end"), false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n", ok("abcde"), true),
        ("transfer-encoding: Chunked\r\n\r\n0\r\n\r\n", ok(""), true),
        // What is no framing leaves the end of the connection.
        ("Transfer-Encoding: identity\r\n\r\nabc", ok("abc"), false),
        ("Transfer-Encoding: 7c14\r\n\r\nabc", ok("abc"), false),
        // Broken off.
        ("Content-Length: 4\r\n\r\nabc", Err("ended"), false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Err("ended"), false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", Err("ended"), false),
        ("Content-Length: 3\r\n", Err("ended"), false),
        // Two readers could end these in different places.
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Err(doubt), false),
        ("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Err("there is more than one length"), false),
        ("Content-Length: 3, 3\r\n\r\nabc", Err(number), false),
        ("Content-Length: +3\r\n\r\nabc", Err(number), false),
        ("Content-Length: 0x3\r\n\r\nabc", Err(number), false),
        ("Content-Length:\r\n\r\nabc", Err(number), false),
        ("Content-Length: 99999999999999999999\r\n\r\nabc", Err(number), false),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Err(coding), false),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err(coding), false),
        ("Transfer-Encoding: gzip\r\n\r\nabc", Err(coding), false),
        ("Transfer-Encoding: chunked;x=y\r\n\r\n0\r\n\r\n", Err(coding), false),
        ("Transfer-Encoding: chunked, foo\r\n\r\n0\r\n\r\n", Err(coding), false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", Err(chunks), false),
        ("Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", Err(chunks), false),
        ("Transfer-Encoding: chunked\r\n\r\nx\r\n\r\n", Err(chunks), false),
        ("Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", Err(chunks), false),
        ("A: b\r\n folded\r\nContent-Length: 0\r\n\r\n", Err(head), false),
        ("A : b\r\nContent-Length: 0\r\n\r\n", Err(head), false),
        ("A: \0\r\nContent-Length: 0\r\n\r\n", Err(head), false),
        ("no colon\r\n\r\n", Err(head), false),
    ] {
        for step in [1, 7, 4096] {
            let answer = format!("{OK}{rest}");
            assert_eq!(read(&answer, step, false).await, (expected.clone(), kept), "{answer:?} by {step}");
        }
    }
}

#[tokio::test]
async fn status_and_method_tell_whether_there_is_a_body() {
    let nothing = |status| Ok((status, String::new()));
    for (answer, to_head, expected, kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, nothing(200), true),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, nothing(204), true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, nothing(304), true),
        ("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 204 None\r\n\r\n", false, nothing(204), true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", false, Ok((200, "a".into())), false),
        (
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na",
            false,
            Ok((200, "a".into())),
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            false,
            Err("the transfer coding is unknown"),
            false,
        ),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
            false,
            Err("the node changes the protocol unasked"),
            false,
        ),
        ("HTTP/2 200\r\n\r\n", false, Err("the head is malformed"), false),
        ("HTTP/1.1 2x0 OK\r\n\r\n", false, Err("the head is malformed"), false),
        ("SSH-2.0-OpenSSH\r\n\r\n", false, Err("the head is malformed"), false),
        ("", false, Err("ended"), false),
        // What nobody asked for makes the connection useless.
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", false, Ok((200, "a".into())), false),
    ] {
        assert_eq!(read(answer, 4096, to_head).await, (expected, kept), "{answer:?}");
    }
}

#[tokio::test]
async fn what_has_no_end_is_given_up() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", format!("A: {}\r\n", "x".repeat(8000)).repeat(40));
    assert_eq!(read(&endless, 65536, false).await.0, Err("the head is too large"));
    let lines = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(300));
    assert_eq!(read(&lines, 65536, false).await.0, Err("the head is malformed"));
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40);
    assert_eq!(read(&hints, 65536, false).await.0, Err("interim answers without end"));
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_costs_nothing_that_came() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut session = Session::new(link_to(listener.local_addr().unwrap()).await);
    let (mut node, _) = listener.accept().await.unwrap();
    session.set_deadline(Instant::now() + Duration::from_secs(10));
    session.send(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut asked = [0; 18];
    node.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"GET / HTTP/1.1\r\n\r\n");
    node.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nKeep-Alive: max=9, timeout=7\r\n\r\nab")
        .await
        .unwrap();
    session.head(false, |_| {}).await.unwrap();
    assert_eq!(session.piece().await.unwrap().unwrap(), "ab");
    session.set_deadline(Instant::now() + Duration::from_millis(20));
    assert!(matches!(session.piece().await, Err(WireError::TimedOut)));
    node.write_all(b"cd").await.unwrap();
    session.set_deadline(Instant::now() + Duration::from_secs(10));
    assert_eq!(session.piece().await.unwrap().unwrap(), "cd");
    assert!(session.is_through());
    assert_eq!(session.into_link().unwrap().1, Duration::from_secs(7));
}
