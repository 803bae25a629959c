//! The rules that every response, or every request, goes through: pure functions.

use std::time::{Duration, SystemTime};

use clearcoat_benches::operations::store as operations;
use clearcoat_benches::visit::response;
use clearcoat_cache::directive::CacheControl;
use clearcoat_cache::vary::EncodingClass;
use clearcoat_cache::{FreshnessSettings, KeySecret, RequestFacts, VarySpec, assess};
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

fn main() {
    divan::main();
}

#[divan::bench(sample_size = 1000)]
fn assess_freshness(bencher: Bencher<'_, '_>) {
    bencher.bench_local(operations::assess_freshness(response()));
}

/// The lifetime is in `Expires`, so two dates are read.
#[divan::bench(sample_size = 1000)]
fn assess_freshness_by_date(bencher: Bencher<'_, '_>) {
    let mut headers = response();
    headers.remove(header::CACHE_CONTROL);
    headers.insert(header::EXPIRES, HeaderValue::from_static("Mon, 07 Nov 1994 08:49:37 GMT"));
    bencher.bench_local(operations::assess_freshness(headers));
}

/// What a Symfony application answers: by status, and lines beside those of [`response`].
#[divan::bench(
    args = ["page", "page of a session", "asset", "redirect", "not found", "no word"],
    sample_size = 1000
)]
fn assess_symfony(bencher: Bencher<'_, '_>, what: &str) {
    let (status, control, more): (_, _, &[(HeaderName, &'static str)]) = match what {
        "page" => (200, Some("max-age=0, must-revalidate, public, s-maxage=3600"), &[]),
        "page of a session" => (
            200,
            Some("max-age=0, must-revalidate, private"),
            &[
                (header::EXPIRES, "Sun, 06 Nov 1994 08:49:37 GMT"),
                (header::SET_COOKIE, "eZSESSID=0123456789abcdef; path=/; HttpOnly; SameSite=lax"),
            ],
        ),
        "asset" => (200, Some("public, max-age=31536000, immutable"), &[]),
        "redirect" => (302, Some("no-cache, private"), &[(header::LOCATION, "/login")]),
        "not found" => (404, Some("public, s-maxage=60"), &[]),
        _ => (200, None, &[]),
    };
    let mut headers = response();
    headers.remove(header::CACHE_CONTROL);
    headers.extend(control.map(|control| (header::CACHE_CONTROL, HeaderValue::from_static(control))));
    headers.extend(more.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))));
    let request = RequestFacts { method: &Method::GET, authorization: false, no_store: false };
    let settings = FreshnessSettings { keep: Duration::from_secs(600), ..FreshnessSettings::default() };
    let status = StatusCode::from_u16(status).unwrap_or_default();
    bencher.bench(|| assess(&request, status, black_box(&headers), &settings, SystemTime::UNIX_EPOCH));
}

#[divan::bench(sample_size = 1000)]
fn read_cache_control(bencher: Bencher<'_, '_>) {
    let headers = response();
    bencher.bench(|| CacheControl::read(black_box(&headers)));
}

/// What is asked of a stored entry at every hit.
#[divan::bench(sample_size = 1000)]
fn freshness_of_entry(bencher: Bencher<'_, '_>) {
    bencher.bench_local(operations::freshness_of_entry());
}

#[divan::bench(sample_size = 1000)]
fn key_of_url(bencher: Bencher<'_, '_>) {
    bencher.bench_local(operations::key_of_url());
}

#[divan::bench(sample_size = 1000)]
fn variant_of_request(bencher: Bencher<'_, '_>) {
    let secret = KeySecret::new([1; 16]);
    let user = HeaderName::from_static("x-user-context-hash");
    let vary = VarySpec::from_names([header::ACCEPT_ENCODING, user.clone()]);
    let request = HeaderMap::from_iter([
        (header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br, zstd")),
        (user, HeaderValue::from_static("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")),
    ]);
    bencher.bench(|| vary.as_ref().map(|vary| vary.variant(&secret, black_box(&request))));
}

#[divan::bench(sample_size = 1000)]
fn encoding_class(bencher: Bencher<'_, '_>) {
    let value = HeaderValue::from_static("gzip, deflate, br, zstd");
    let request = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
    bencher.bench(|| EncodingClass::of(black_box(&request)));
}
