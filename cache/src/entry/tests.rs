use std::sync::Arc;

use bytes::BytesMut;

use super::*;

/// An entry of which only the key and the tags matter.
pub(crate) fn entry_with_tags(key: u128, tags: &[Tag]) -> Arc<Entry> {
    Arc::new(Entry::new(EntryParts {
        key: CacheKey::from_number(key),
        tags: tags.into(),
        ..parts([60, 0, 0, 0])
    }))
}

/// Seconds of ttl, initial age, grace, keep; stored after one second.
fn parts(seconds: [u64; 4]) -> EntryParts {
    let [ttl, initial_age, grace, keep] = seconds.map(Duration::from_secs);
    EntryParts {
        key: CacheKey::from_number(1),
        variant: VariantKey::NONE,
        url: "http://a/".into(),
        status: 200,
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
        body: Bytes::from_static(b"body"),
        tags: Box::default(),
        stored: Moment::from_millis(1000),
        lifetime: Lifetime { ttl, initial_age, grace, keep, ..Lifetime::default() },
    }
}

fn entry(seconds: [u64; 4]) -> Entry {
    Entry::new(parts(seconds))
}

#[test]
fn without_a_node_what_is_kept_is_served_unless_it_must_be_asked_after() {
    for (may_be_stale, at, expected) in [
        (true, 9, true),
        (true, 34, true),
        (true, 35, false),
        (false, 9, true),
        (false, 14, true),
        (false, 15, false),
    ] {
        let mut parts = parts([10, 0, 5, 20]);
        parts.lifetime.may_be_stale = may_be_stale;
        let entry = Entry::new(parts);
        let now = Moment::from_millis(entry.stored().as_millis() + at * 1000);
        assert_eq!(entry.may_serve_disconnected(now), expected, "{may_be_stale} at {at} s");
    }
}

#[test]
fn freshness_goes_through_its_spans() {
    let life = [60, 20, 10, 5];
    check(life, 1_000, Freshness::Fresh);
    check(life, 40_999, Freshness::Fresh);
    check(life, 41_000, Freshness::Grace);
    check(life, 50_999, Freshness::Grace);
    check(life, 51_000, Freshness::Stale);
    check(life, 55_999, Freshness::Stale);
    check(life, 56_000, Freshness::Dead);
    check([60, 0, 0, 0], 61_000, Freshness::Dead);
    // Four seconds too old on arrival: six of ten seconds of grace are left.
    check([60, 64, 10, 0], 6_999, Freshness::Grace);
    check([60, 64, 10, 0], 7_000, Freshness::Dead);
    check([u64::MAX / 1000, 0, u64::MAX / 1000, 0], u64::MAX - 1, Freshness::Fresh);
}

#[track_caller]
fn check(seconds: [u64; 4], now: u64, expected: Freshness) {
    assert_eq!(entry(seconds).freshness(Moment::from_millis(now)), expected, "{seconds:?} at {now}");
}

#[test]
fn a_failing_node_has_a_window_of_its_own() {
    // Ttl 60 s, initial age, grace 10 s, keep 5 s; seconds of stale-if-error; milliseconds now.
    for (initial_age, window, now, freshness, on_error) in [
        (0, 0, 60_999, Freshness::Fresh, true),
        (0, 0, 70_999, Freshness::Grace, true),
        (0, 0, 71_000, Freshness::Stale, false),
        (0, 5, 70_999, Freshness::Grace, true),
        (0, 12, 72_999, Freshness::Stale, true),
        (0, 12, 73_000, Freshness::Stale, false),
        (0, 100, 76_000, Freshness::Stale, true),
        (0, 100, 160_999, Freshness::Stale, true),
        (0, 100, 161_000, Freshness::Dead, false),
        // Four seconds over on arrival: 96 are left.
        (64, 100, 96_999, Freshness::Stale, true),
        (64, 100, 97_000, Freshness::Dead, false),
        (0, u64::MAX, u64::from(u32::MAX) * 1000, Freshness::Stale, true),
    ] {
        let mut parts = parts([60, initial_age, 10, 5]);
        parts.lifetime.stale_if_error = Duration::from_secs(window);
        let entry = Entry::new(parts);
        let now = Moment::from_millis(now);
        let found = (entry.freshness(now), entry.may_serve_on_error(now));
        assert_eq!(found, (freshness, on_error), "age {initial_age}, window {window}, at {now:?}");
        assert_eq!(now < entry.useful_until(), freshness != Freshness::Dead);
    }
}

#[test]
fn softening_moves_the_window_for_failing_nodes_too() {
    let mut parts = parts([60, 0, 0, 0]);
    parts.lifetime.stale_if_error = Duration::from_secs(30);
    let entry = Entry::new(parts);
    entry.soften(Moment::from_millis(11_000));
    assert!(entry.may_serve_on_error(Moment::from_millis(40_999)));
    assert!(!entry.may_serve_on_error(Moment::from_millis(41_000)));
}

#[test]
fn age_and_remaining_ttl_are_whole_seconds() {
    let entry = entry([60, 20, 10, 5]);
    for (now, age, left) in
        [(1000, 20, 40), (2000, 21, 39), (40_999, 59, 0), (41_000, 60, -1), (41_001, 60, -1)]
    {
        let now = Moment::from_millis(now);
        assert_eq!((entry.age_seconds(now), entry.ttl_left(now)), (age, left), "at {now:?}");
    }
    assert_eq!(entry.age_seconds(Moment::ZERO), 20);
}

#[test]
fn softening_ends_freshness_once_and_keeps_grace() {
    let entry = entry([60, 0, 10, 5]);
    let now = Moment::from_millis(31_000);
    assert!(entry.soften(now));
    assert!(!entry.soften(now));
    assert!(!entry.soften(Moment::from_millis(35_000)), "grace is not prolonged");
    assert_eq!(entry.freshness(now), Freshness::Grace);
    assert_eq!(entry.freshness(Moment::from_millis(40_999)), Freshness::Grace);
    assert_eq!(entry.freshness(Moment::from_millis(41_000)), Freshness::Stale);
    assert_eq!(entry.ttl(), Duration::from_secs(60));
}

#[test]
fn a_use_is_told_once_in_a_span() {
    let entry = entry([60, 0, 0, 0]);
    assert_eq!([0, 0, 1, 1, 0].map(|span| entry.touch(span)), [true, false, true, false, true]);
}

#[test]
fn a_body_keeps_no_more_memory_than_it_shows() {
    let mut grown = BytesMut::with_capacity(1 << 20);
    grown.extend_from_slice(&[7; 1000]);
    let fitted = fitted(grown.freeze());
    assert_eq!(fitted.len(), 1000);
    assert_eq!(fitted.try_into_mut().map(|buffer| buffer.capacity()), Ok(1000));
}

#[test]
fn small_bodies_are_not_shared_with_others() {
    for (bytes, is_shared) in [(1000, false), (4096, false), (4097, true)] {
        let body = Bytes::from(vec![7; bytes]);
        let kept = fitted(body.clone());
        assert_eq!((kept.as_ptr() == body.as_ptr(), kept == body), (is_shared, true), "{bytes}");
    }
}

#[test]
fn weight_counts_everything() {
    let small = entry([60, 0, 0, 0]);
    let body = Bytes::from(vec![0; 100_000]);
    let large = Entry::new(EntryParts { body, ..parts([60, 0, 0, 0]) });
    assert!(large.weight() - small.weight() >= 100_000 - 4);
    assert!(small.weight() as usize > size_of::<Entry>() + 100);
    let tagged = entry_with_tags(1, &[Tag::new(b"a").expect("a tag")]);
    assert!(tagged.weight() > small.weight());
    let own = tagged.weight();
    tagged.set_levy(50);
    assert_eq!(tagged.weight(), own + 50);
}

fn forms(made_at: u64, bytes: usize) -> Encoded {
    let body = Bytes::from(vec![0; bytes]);
    Encoded::new(vec![EncodedForm::new(Coding::Gzip, Bytes::new(), body)], Moment::from_millis(made_at))
}

/// One that forms may be made of.
fn growing(seconds: [u64; 4]) -> Entry {
    entry(seconds).with_recoding(Recoding::Encode, false)
}

#[test]
fn one_that_is_sent_as_it_is_has_no_forms() {
    let entry = entry([60, 0, 0, 0]);
    assert!(!entry.claim_encoding(Moment::ZERO));
    assert_eq!(entry.grow(forms(5000, 700)), None);
    assert_eq!(growing([60, 0, 0, 0]).weight(), entry.weight(), "what they need is made with them");
}

#[test]
fn encoded_forms_come_once_and_weigh() {
    let entry = growing([60, 0, 0, 0]);
    let own = entry.weight();
    assert!(entry.form(Coding::Gzip).is_none());
    let Some(Growth { weight, is_booked }) = entry.grow(forms(5000, 700)) else { panic!("it has none") };
    assert!(is_booked && weight > forms(5000, 700).weight(), "with the box that they are in");
    assert_eq!(entry.weight(), own + weight);
    assert_eq!(entry.grow(forms(5000, 100)), None, "they are there already");
    assert_eq!(entry.weight(), own + weight);
    assert_eq!(entry.form(Coding::Gzip).map(|form| form.body().len()), Some(700));
    let (given, other) = (Entry::new(parts([60, 0, 0, 0])).with_encoded(forms(0, 700)), own + weight);
    assert_eq!(given.weight(), other);
    given.close_books();
    assert_eq!(given.grow(forms(0, 1)), None);
}

#[test]
fn forms_that_come_too_late_are_served_and_not_booked() {
    let entry = growing([60, 0, 0, 0]);
    let own = entry.close_books();
    assert!(matches!(entry.grow(forms(5000, 700)), Some(Growth { is_booked: false, .. })));
    assert_eq!(entry.booked(), own);
    assert!(entry.form(Coding::Gzip).is_some());
}

#[test]
fn one_of_many_sees_to_the_forms_and_another_when_the_job_was_lost() {
    let entry = growing([60, 0, 0, 0]);
    let claim = |seconds: u64| entry.claim_encoding(Moment::from_millis(seconds * 1000));
    assert_eq!([claim(0), claim(0), claim(4), claim(5), claim(5)], [true, false, false, true, false]);
    entry.give_up_encoding();
    assert!(!claim(1_000_000) && !claim(u64::MAX / 1000));
    let grown = Entry::new(parts([60, 0, 0, 0])).with_encoded(forms(0, 1));
    assert!(!grown.claim_encoding(Moment::ZERO));
}

#[test]
fn growing_does_not_prolong_how_long_it_is_of_use() {
    // Stored after one second, of use for 75 s.
    let entry = growing([60, 0, 10, 5]);
    entry.grow(forms(11_000, 1));
    assert_eq!(entry.useful_until(), Moment::from_millis(76_000));
}

#[test]
fn allocations_are_rounded_up_to_classes() {
    for (bytes, expected) in [
        (0, 0),
        (1, 16),
        (64, 64),
        (65, 80),
        (128, 128),
        (129, 160),
        (1024, 1024),
        (1025, 1280),
        (64 << 10, 64 << 10),
        (28_673, 32 << 10),
        ((32 << 10) + 1, 36 << 10),
        (100_000, 100 << 10),
        ((1 << 20) + 1, 1028 << 10),
        (usize::MAX, usize::MAX),
    ] {
        assert_eq!(heap(bytes), expected, "bytes: {bytes}");
    }
}

#[test]
fn it_stays_compact() {
    // With the counters of its `Arc` it fills a size class of 160 bytes.
    assert!(size_of::<Entry>() <= 144, "{}", size_of::<Entry>());
}

#[test]
fn spans_are_exact_while_milliseconds_matter() {
    let day = 24 * 3600;
    for (span, expected) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_micros(1900), Duration::from_millis(1)),
        (Duration::from_millis((1 << 31) - 1), Duration::from_millis((1 << 31) - 1)),
        (Duration::from_millis(1 << 31), Duration::from_secs((1 << 31) / 1000)),
        (Duration::from_millis(400 * day * 1000 + 999), Duration::from_secs(400 * day)),
        (Duration::MAX, Duration::from_secs((1 << 31) - 1)),
    ] {
        assert_eq!(Span::new(span).duration(), expected, "{span:?}");
    }
}

#[test]
fn url_and_head_share_an_allocation_and_stay_apart() {
    let entry = growing([60, 0, 0, 0]);
    assert_eq!((entry.url(), entry.head()), ("http://a/", &b"HTTP/1.1 200 OK\r\n"[..]));
    let long = Entry::new(EntryParts { url: "\u{e9}".repeat(40_000).into(), ..parts([60, 0, 0, 0]) });
    assert_eq!((long.url().len(), long.head()), (65_534, entry.head()));
}
