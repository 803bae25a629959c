#![allow(clippy::unwrap_used)]

use std::time::Duration;

use clearcoat_cache::{CacheKey, Commit, EntryParts, KeySecret, Lifetime, Lookup, Settings, VariantKey};
use http::header::{HeaderName, HeaderValue};

use super::*;

const KEY: CacheKey = CacheKey::from_number(7 << 100 | 7);

fn settings() -> EncodeSettings {
    EncodeSettings {
        codings: vec![Coding::Br, Coding::Zstd, Coding::Gzip],
        types: vec!["text/*".parse().unwrap(), "*/*+xml".parse().unwrap()],
        min_bytes: 100,
        max_bytes: 100_000,
    }
}

fn encoder(settings: EncodeSettings) -> Arc<Encoder> {
    let store = Settings { memory_bytes: 16 << 20, max_variants: 4, max_marks: 256 };
    let store = Arc::new(Store::new(store, KeySecret::new([5; 16])));
    Encoder::new(settings, store, Counters::new(), Clock::start())
}

fn headers(lines: &str) -> HeaderMap {
    let lines = lines.lines().map(|line| line.split_once(": ").unwrap());
    let parsed = |(name, value): (&str, &str)| -> (HeaderName, HeaderValue) {
        (name.parse().unwrap(), value.parse().unwrap())
    };
    lines.map(parsed).collect()
}

fn entry(body: impl Into<Bytes>, lines: &str) -> Entry {
    Entry::new(EntryParts {
        key: KEY,
        variant: VariantKey::NONE,
        url: "http://a/".into(),
        status: 200,
        head: format!("HTTP/1.1 200 OK\r\n{lines}").into(),
        body: body.into(),
        tags: Box::default(),
        stored: Moment::ZERO,
        lifetime: Lifetime { ttl: Duration::from_secs(600), ..Lifetime::default() },
    })
}

fn page() -> String {
    "<p>one page like another</p>\n".repeat(200)
}

const ENCODE: Offer = Offer { recoding: Recoding::Encode, adds_vary: true };

/// Stores an entry that may be compressed.
fn stored(encoder: &Encoder, entry: Entry) -> Arc<Entry> {
    let entry = encoder.prepare(entry, ENCODE, None, Moment::ZERO);
    match encoder.store.commit(&encoder.store.begin_fill(), entry, None, Moment::ZERO) {
        Commit::Stored(entry) => entry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_may_be_done_with_an_answer() {
    let html = "content-type: text/html; charset=utf-8";
    let (encode, decode, never) = (Recoding::Encode, Recoding::Decode, Recoding::Never);
    for (compress, status, lines, recoding, adds_vary) in [
        (true, 200, html.to_owned(), encode, true),
        (false, 200, html.to_owned(), never, false),
        (true, 200, String::new(), never, false),
        (true, 200, "content-type: image/png".into(), never, false),
        (true, 200, "content-type: image/svg+xml".into(), encode, true),
        (true, 404, html.to_owned(), never, false),
        (true, 203, html.to_owned(), never, false),
        (true, 200, format!("{html}\nvary: Cookie"), encode, true),
        (true, 200, format!("{html}\nvary: Cookie\nvary: x, ACCEPT-Encoding"), encode, false),
        (true, 200, format!("{html}\ncontent-length: 100"), encode, true),
        (true, 200, format!("{html}\ncontent-length: 99"), never, false),
        (true, 200, format!("{html}\ncontent-length: 100000"), encode, true),
        (true, 200, format!("{html}\ncontent-length: 100001"), never, false),
        (
            true,
            200,
            format!("{html}\ncache-control: max-age=5\ncache-control: s-maxage=6, No-Transform"),
            never,
            false,
        ),
        (true, 200, format!("{html}\ncache-control: max-age=5, x=\"no-transform\""), encode, true),
        (true, 200, format!("{html}\ncontent-range: bytes 0-5/10"), never, false),
        (true, 200, format!("{html}\ncontent-encoding: identity"), encode, true),
        // What a node compressed is its own affair, as long as it says that others get something else.
        (true, 200, format!("{html}\ncontent-encoding: gzip\nvary: accept-encoding"), never, false),
        (true, 200, format!("{html}\ncontent-encoding: gzip"), decode, true),
        (false, 404, "content-encoding: br\nvary: cookie".into(), decode, true),
        (false, 200, "content-encoding: deflate".into(), decode, true),
        (false, 200, "content-encoding: gzip, Compress".into(), decode, true),
        (false, 200, "content-encoding: my-own".into(), never, false),
        (true, 200, format!("{html}\ncontent-encoding: gzip, my-own"), never, false),
    ] {
        let headers = headers(&lines);
        let status = StatusCode::from_u16(status).unwrap();
        let vary = VarySpec::parse(&headers);
        let offer = encoder(settings()).offer(compress, status, &headers, vary.as_ref());
        assert_eq!(offer, Offer { recoding, adds_vary }, "{compress}, {status}: {lines}");
        let names_it = |headers: &HeaderMap| {
            let vary = VarySpec::parse(headers);
            vary.is_some_and(|vary| vary.names().any(|name| name == "accept-encoding"))
        };
        assert_eq!(names_it(&offer.headers(&headers)), names_it(&headers) || adds_vary, "{lines}");
    }
}

#[test]
fn multipart_bodies_are_in_no_set_of_types() {
    let settings = EncodeSettings { types: vec!["*/*".parse().unwrap()], ..settings() };
    let encoder = encoder(settings);
    for (media_type, expected) in
        [("image/png", Recoding::Encode), (" Multipart/byteranges; boundary=a", Recoding::Never)]
    {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, media_type.parse().unwrap());
        assert_eq!(encoder.offer(true, StatusCode::OK, &headers, None).recoding, expected, "{media_type}");
    }
}

#[test]
fn a_body_whose_size_was_not_known_is_measured_when_it_is_there() {
    let encoder = encoder(settings());
    for (bytes, recoding) in [(99, Recoding::Never), (100, Recoding::Encode), (100_001, Recoding::Never)] {
        let entry = encoder.prepare(entry(vec![b'x'; bytes], ""), ENCODE, None, Moment::ZERO);
        assert_eq!((entry.recoding(), entry.vary_added()), (recoding, true), "{bytes}");
    }
}

#[test]
fn forms_are_kept_where_they_pay() {
    let all = [Coding::Br, Coding::Zstd, Coding::Gzip];
    let made = |body: &[u8], codings: &[Coding]| -> Vec<(Coding, usize)> {
        let entry = entry(body.to_vec(), "Etag: \"a\"\r\nContent-Length: 0\r\n");
        let forms = forms(&entry, codings);
        for form in &forms {
            assert_eq!(decompress(form.coding(), form.body(), body.len()).unwrap(), body);
            let head = String::from_utf8(form.head().to_vec()).unwrap();
            let lines = format!(
                "HTTP/1.1 200 OK\r\nEtag: W/\"a\"\r\nContent-Encoding: {}\r\nContent-Length: {}\r\n",
                form.coding().name(),
                form.body().len()
            );
            assert_eq!(head, lines);
        }
        forms.iter().map(|form| (form.coding(), form.body().len())).collect()
    };
    let text = page();
    let forms = made(text.as_bytes(), &all);
    let gzip = forms[0];
    assert_eq!(gzip.0, Coding::Gzip);
    assert!(forms.len() > 1 && forms[1..].iter().all(|form| form.1 < gzip.1), "{forms:?}");
    assert_eq!(made(text.as_bytes(), &[Coding::Gzip]), [gzip]);
    assert_eq!(
        made(text.as_bytes(), &[Coding::Br]).len(),
        1,
        "without gzip there is nothing to be better than"
    );
    // Noise grows; what is nearly noise saves too little.
    let noise: Vec<u8> = std::iter::repeat_with({
        let mut random = fastrand::Rng::with_seed(1);
        move || random.u8(..)
    })
    .take(10_000)
    .collect();
    assert_eq!(made(&noise, &all), []);
    let nearly = [&noise[..9_500], &[0; 500]].concat();
    assert_eq!(made(&nearly, &all), []);
    assert_eq!(made(b"", &all), []);
}

#[test]
fn a_job_is_made_once_and_found_by_the_next_look_up() {
    let encoder = encoder(settings());
    let entry = stored(&encoder, entry(page(), "Content-Length: 5800\r\n"));
    encoder.make(&entry);
    encoder.make(&entry);
    assert_eq!(encoder.forms_made(Coding::Gzip), 1);
    assert!(encoder.saved_bytes() > 5_000 && encoder.spent() > Duration::ZERO);
    let Lookup::Fresh(found) = encoder.store.lookup(KEY, &HeaderMap::new(), Moment::ZERO) else { panic!() };
    assert!(found.form(Coding::Gzip).is_some());
}

#[test]
fn what_left_the_store_or_does_not_shrink_is_not_made() {
    let encoder = encoder(settings());
    let old = stored(&encoder, entry(page(), ""));
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1000).collect();
    let noise = stored(&encoder, entry(noise, ""));
    encoder.make(&old);
    encoder.make(&noise);
    assert!(old.encoded().is_none() && noise.encoded().is_none());
    assert_eq!(encoder.forms_made(Coding::Gzip), 0);
    assert!(!noise.claim_encoding(Moment::from_millis(1_000_000)), "it was tried");
}

#[test]
fn a_full_queue_drops_the_job_and_a_later_hit_asks_again() {
    let encoder = encoder(settings());
    let (queue, jobs) = sync_channel(1);
    encoder.queue.set(Some(queue)).unwrap();
    let entry = stored(&encoder, entry(page(), ""));
    let accepted = |line: &str| Accepted::of(&headers(&format!("accept-encoding: {line}")));
    let ask = |line: &str, second: u64| {
        encoder.ask_for(&entry, &accepted(line), Moment::from_millis(second * 1000))
    };
    let dropped = || encoder.counters.totals().limit(Limit::EncodeQueue);
    // Who takes no coding asks for none.
    ["identity", "deflate", "gzip;q=0", "*;q=0"].iter().for_each(|line| ask(line, 0));
    assert!(jobs.try_recv().is_err());
    (0..500).for_each(|_| ask("gzip", 0));
    ask("br", 5);
    assert_eq!(dropped(), 1, "one waits, the next finds no place");
    assert!(Weak::ptr_eq(&jobs.try_recv().unwrap(), &Arc::downgrade(&entry)));
    ask("br", 6);
    assert!(jobs.try_recv().is_err(), "a few seconds have to pass");
    ask("br", 10);
    assert!(jobs.try_recv().is_ok());
    assert_eq!(dropped(), 1);
}

#[test]
fn the_thread_works_jobs_off_and_ends_with_its_encoder() {
    let encoder = encoder(settings());
    let entry = stored(&encoder, entry(page(), ""));
    encoder.stored(&entry, &headers("accept-encoding: zstd"), Moment::ZERO);
    let deadline = Instant::now() + Duration::from_secs(20);
    while entry.encoded().is_none() {
        assert!(Instant::now() < deadline, "no forms were made");
        std::thread::yield_now();
    }
    let gone = Arc::downgrade(&encoder);
    drop(encoder);
    while gone.upgrade().is_some() {
        assert!(Instant::now() < deadline, "the thread holds its encoder");
        std::thread::yield_now();
    }
}

#[test]
fn a_page_that_stayed_the_same_keeps_its_forms_under_a_new_head() {
    let encoder = encoder(settings());
    let old = stored(&encoder, entry(page(), "X-Round: 1\r\n"));
    // No encoder makes this of the page: who shows it has kept it.
    let kept = EncodedForm::new(
        Coding::Gzip,
        Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
        Bytes::from_static(b"kept"),
    );
    assert!(matches!(encoder.store.grow(&old, Encoded::new(vec![kept], Moment::ZERO)), Grown::Kept));
    let form = |entry: &Entry| entry.form(Coding::Gzip).map(|form| form.body().clone());
    let prepare = |body: String, offer: Offer| {
        encoder.prepare(entry(body, "X-Round: 2\r\n"), offer, Some(&old), Moment::from_millis(5))
    };
    let same = prepare(page(), ENCODE);
    assert_eq!(form(&same).unwrap(), "kept", "not made again");
    let head = String::from_utf8(same.form(Coding::Gzip).unwrap().head().to_vec()).unwrap();
    assert!(head.contains("X-Round: 2\r\n") && head.contains("Content-Encoding: gzip\r\n"), "{head}");
    assert!(form(&prepare(page() + "!", ENCODE)).is_none());
    assert!(form(&prepare(page(), Offer::default())).is_none(), "it is not to be transformed any more");
}
