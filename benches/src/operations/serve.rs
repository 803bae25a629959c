//! The steps of a hit as the server takes them, and reading a page for ESI tags.

use std::hint::black_box;

use bytes::Bytes;
use clearcoat::measured::{Format, LogLine, Page, Request, Room};

use crate::visit::{Client, SITE, edge, head, page_with_holes};

/// The route of a host and a target; whether it passes the cache by.
pub fn route(host: &'static str, target: &'static str) -> impl FnMut() -> Option<bool> {
    let edge = edge(0);
    move || edge.route(black_box(host.as_bytes()), black_box(target.as_bytes()))
}

/// Reading the head of a request; returns the length of its target.
pub fn read_head(client: Client) -> impl FnMut() -> usize {
    let bytes = head(client, &SITE.target(7));
    move || {
        let mut room = Room::new();
        Request::read(black_box(&bytes), &mut room).map_or(0, |request| request.target().len())
    }
}

/// Deciding about a request for one of so many pages, all of which are there; returns whether it was a hit. The head was
/// read before.
pub fn decide(client: Client, pages: u64) -> impl FnMut() -> bool {
    let edge = edge(pages);
    // Heads borrow their bytes, and these are needed to the end anyway.
    let requests: Vec<Request<'static, 'static>> = (0..pages)
        .filter_map(|page| {
            let bytes = Box::leak(head(client, &SITE.target(page)).into_boxed_slice());
            Request::read(bytes, Box::leak(Box::new(Room::new())))
        })
        .collect();
    assert_eq!(requests.len() as u64, pages);
    let mut next = 0;
    move || {
        next = (next + 1) % requests.len();
        let is_hit = edge.decide(&requests[next]).is_some();
        assert!(is_hit, "every page is there");
        is_hit
    }
}

/// The head of an answer from memory, into a buffer that is used again and again; returns its length.
///
/// # Panics
///
/// If there is no such answer: it is stored here.
pub fn hit_head() -> impl FnMut() -> usize {
    let (edge, bytes) = (edge(1), head(Client::Curl, &SITE.target(0)));
    let hit = Request::read(&bytes, &mut Room::new()).and_then(|request| edge.decide(&request));
    let hit = hit.unwrap_or_else(|| panic!("the page is there"));
    let mut output = Vec::with_capacity(4096);
    move || {
        output.clear();
        black_box(&hit).write_head(&mut output);
        output.len()
    }
}

/// From the bytes of a request to the head of its answer: reading, deciding, writing. Of the work for a hit only the
/// connection's own part and the record are not in it.
pub fn answer_hit(client: Client, pages: u64) -> impl FnMut() -> usize {
    let edge = edge(pages);
    let heads: Vec<_> = (0..pages).map(|page| head(client, &SITE.target(page))).collect();
    let mut output = Vec::with_capacity(4096);
    let mut next = 0;
    move || {
        next = (next + 1) % heads.len();
        output.clear();
        let mut room = Room::new();
        let hit = Request::read(&heads[next], &mut room).and_then(|request| edge.decide(&request));
        let status = hit.map(|hit| hit.write_head(&mut output));
        assert_eq!(status, Some(200), "every page is there");
        output.len()
    }
}

/// The line of a hit in the access log, into a buffer that is used again and again; returns its length.
pub fn log_line(client: Client, format: Format) -> impl FnMut() -> usize {
    let bytes: &'static [u8] = Box::leak(head(client, &SITE.target(7)).into_boxed_slice());
    let line = Request::read(bytes, &mut Room::new()).map(|request| LogLine::of_hit(&request, 1024, format));
    let mut output = Vec::with_capacity(4096);
    move || {
        output.clear();
        if let Some(line) = black_box(&line) {
            line.write(&mut output);
        }
        assert!(!output.is_empty());
        output.len()
    }
}

/// Reading a page of 16 KiB with so many includes; returns its parts.
pub fn read_page(includes: usize) -> impl FnMut() -> usize {
    let page: Bytes = page_with_holes(includes);
    move || Page::read(black_box(&page)).parts()
}
