//! Reading tags out of headers, and counting their carriers.

use clearcoat_benches::scale::scaled;
use clearcoat_benches::site::{Site, store, tag};
use clearcoat_cache::{Tag, collect_tags, split_tags};
use divan::Bencher;
use http::{HeaderMap, HeaderName, HeaderValue};

const XKEY: HeaderName = HeaderName::from_static("xkey");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// The default limit of all tag headers together is of this order.
const MAX_BYTES: usize = 64 << 10;

fn main() {
    divan::main();
}

fn line(tags: u32) -> String {
    (0..tags).map(|number| format!("l{}", 1000 + number * 7)).collect::<Vec<_>>().join(" ")
}

fn response(tags: u32) -> HeaderMap {
    let line = HeaderValue::try_from(line(tags)).unwrap_or_else(|_| HeaderValue::from_static(""));
    HeaderMap::from_iter([
        (http::header::CONTENT_TYPE, HeaderValue::from_static("text/html")),
        (http::header::CACHE_CONTROL, HeaderValue::from_static("public, s-maxage=86400")),
        (XKEY, line),
    ])
}

#[divan::bench(args = [1, 10, 100], sample_size = 1000)]
fn split(bencher: Bencher<'_, '_>, tags: u32) {
    let line = line(tags);
    bencher.bench(|| split_tags(line.as_bytes()).map(<[u8]>::len).sum::<usize>());
}

#[divan::bench(sample_size = 1000)]
fn collect_tags_none(bencher: Bencher<'_, '_>) {
    collect(bencher, HeaderMap::new(), 0);
}

#[divan::bench(sample_size = 1000)]
fn collect_tags_10(bencher: Bencher<'_, '_>) {
    collect(bencher, response(10), 10);
}

#[divan::bench(sample_size = 1000)]
fn collect_tags_100(bencher: Bencher<'_, '_>) {
    collect(bencher, response(100), 100);
}

fn collect(bencher: Bencher<'_, '_>, headers: HeaderMap, expected: usize) {
    let names = [XKEY, SURROGATE_KEY];
    bencher.bench(|| {
        let tags = collect_tags(&headers, &names, MAX_BYTES);
        assert_eq!(tags.as_ref().map(|tags| tags.len()), Ok(expected));
        tags
    });
}

#[divan::bench(sample_size = 1000)]
fn tag_new(bencher: Bencher<'_, '_>) {
    bencher.bench(|| Tag::new(divan::black_box(b"l12345")));
}

/// What `clearcoat why` and a dry run ask.
#[divan::bench(sample_size = 1000)]
fn count_tagged_5k_of_100k(bencher: Bencher<'_, '_>) {
    let store = store(1 << 30);
    Site::new(64, 3).fill(&store, 0..scaled(100_000));
    let kind = tag("ct7");
    bencher.bench(|| store.count_tagged(&kind));
}
