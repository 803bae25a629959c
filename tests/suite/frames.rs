//! HTTP/2 frames that no honest client sends, to make work for nothing: each such connection is ended, and nobody else
//! feels it.

use std::time::Duration;

use clearcoat_tests::http2::{Raw, Session, block};
use clearcoat_tests::{Gate, Node, Page, Proxy, Setup};

/// `HEADERS`, `WINDOW_UPDATE`, `CONTINUATION`, `GOAWAY` and `DATA`, RFC 9113 section 6.
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const GOAWAY: u8 = 7;
const DATA: u8 = 0;

const FIELDS: [(&[u8], &[u8]); 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/slow"), (b":authority", b"a.test")];

async fn stage() -> (Node, Gate, Proxy) {
    let (node, gate) = (Node::start().await, Gate::closed());
    node.serve("/slow", Page::text("slow").no_store().held_before_head(&gate));
    node.serve("/page", Page::text("page").fresh_for(60));
    let proxy = Setup::before(&node).listen("http2 = true").start().await;
    (node, gate, proxy)
}

/// The connection is ended, and others are served as ever.
async fn is_ended(mut raw: Raw, proxy: &Proxy) {
    if let Some((_, _, _, goaway)) = raw.next(&[GOAWAY]).await {
        assert_ne!(goaway[4..8], [0; 4], "the reason is none of good order");
    }
    assert_eq!(Session::open(proxy.address()).await.get("/page").await.text(), "page");
}

#[tokio::test]
async fn a_header_block_without_end_is_cut_off() {
    let (node, _gate, proxy) = stage().await;
    let before = proxy.resident_bytes();
    let large = block(&[(b"x", &[b'y'; 16_000])]);
    for piece in [&large[..], &b""[..], &b"\0\x01x\x01y"[..]] {
        let mut raw = Raw::open(proxy.address()).await;
        raw.frame(HEADERS, 0, 1, &block(&FIELDS)).await;
        for _ in 0..5_000 {
            raw.frame(CONTINUATION, 0, 1, piece).await;
        }
        is_ended(raw, &proxy).await;
    }
    assert_eq!(node.count("/slow"), 0);
    let growth = proxy.resident_bytes().saturating_sub(before) >> 20;
    assert!(growth < 20, "{growth} MiB for a head of 80 MB");
}

/// The server is made to reset streams itself, which its bound on the client's resets would not see (CVE-2025-8671).
#[tokio::test]
async fn resets_that_a_client_provokes_are_a_flood() {
    let (node, gate, proxy) = stage().await;
    for what in ["a window opened by nothing", "a window beyond its end", "a body behind the end"] {
        node.forget();
        let mut raw = Raw::open(proxy.address()).await;
        for request in 0..2_000 {
            let stream = request * 2 + 1;
            raw.fields(stream, &FIELDS, true).await;
            match what {
                "a window opened by nothing" => raw.frame(WINDOW_UPDATE, 0, stream, &[0; 4]).await,
                "a window beyond its end" => {
                    raw.frame(WINDOW_UPDATE, 0, stream, &[0x7f, 255, 255, 255]).await
                }
                _ => raw.frame(DATA, 0, stream, b"x").await,
            }
            if request % 10 == 9 {
                // So that they are taken in one by one.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        is_ended(raw, &proxy).await;
        // What had begun at the node ends with the connection, and there was never more of it than of streams allowed.
        assert!(node.peak() <= 400, "{what}: {} at a time", node.peak());
    }
    gate.open();
}
