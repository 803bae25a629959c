//! What the stories of `compression` and `decoding` share: pages that compress, requests with their codings, and answers read
//! in whatever coding they come.

use std::io::Read as _;

use clearcoat_tests::client::Answer;
use clearcoat_tests::{Node, Proxy, Request, Setup};

/// What a browser says over TLS.
pub(crate) const BROWSER: &str = "gzip, deflate, br, zstd";

/// Some 20 KB that compress as pages do: words and links, no two pages alike.
pub(crate) fn html(seed: usize) -> String {
    const WORDS: &str = "the of and to in is you that it he was for on are as with his they at be this have from or \
        one had by word but not what all were we when your can said there use an each which she do how their if will \
        up other about out many then them these so some her would make like him into time has look two more write \
        go see number no way could people my than first water been call who oil its now find long down day did get";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut state = seed as u64 + 1;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut text = String::from("<!doctype html><title>A page</title>\n");
    while text.len() < 20_000 {
        text.push_str(&format!("<p class=\"item\"><a href=\"/content/{}\">", random() % 100_000));
        for _ in 0..random() % 20 {
            text.push_str(words[random() % words.len()]);
            text.push(' ');
        }
        text.push_str("</a></p>\n");
    }
    text
}

/// A proxy that compresses what it stores.
pub(crate) async fn compressing(node: &Node) -> Proxy {
    Setup::before(node).more("[cache.compress]\nenabled = true").start().await
}

/// A GET by a client that takes these codings; none if empty.
pub(crate) fn get(path: &str, accepted: &str) -> Request {
    let request = Request::get(path);
    if accepted.is_empty() { request } else { request.header("Accept-Encoding", accepted) }
}

/// The plain text of an answer.
pub(crate) fn decoded(answer: &Answer) -> String {
    let mut text = String::new();
    let body = &answer.body[..];
    match answer.header("content-encoding") {
        None => return answer.text(),
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        Some("zstd") => zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut text),
        Some(other) => panic!("a coding that nobody asked for: {other}"),
    }
    .unwrap_or_else(|error| panic!("{error} in {answer}"));
    text
}

/// How often a form in `coding` was made.
pub(crate) async fn forms_made(proxy: &Proxy, coding: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_encoded_forms_total", &[("coding", coding)])
}
