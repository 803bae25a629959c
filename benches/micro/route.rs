//! Which route a request belongs to, and what a request meets on the whole: [`clearcoat::measured`].
//!
//! Heads are read and pages stored before the clock starts, except where the name says that reading is timed too.

use clearcoat_benches::operations::serve;
use clearcoat_benches::scale::scaled;
use clearcoat_benches::site::HOST;
use clearcoat_benches::visit::{Client, OTHER_HOST};
use divan::Bencher;

fn main() {
    divan::main();
}

/// A site with twelve routes: the first one, the last one, none of them.
#[divan::bench(
    args = ["/admin/content/edit/12345", "/news/archive/river-summer.png", "/news/archive/river-summer-12345?page=2"],
    sample_size = 1000
)]
fn route_of_twelve(bencher: Bencher<'_, '_>, target: &'static str) {
    bencher.bench_local(serve::route(HOST, target));
}

/// A site without routes, by the ending of the host.
#[divan::bench(sample_size = 1000)]
fn route_by_suffix(bencher: Bencher<'_, '_>) {
    bencher.bench_local(serve::route(OTHER_HOST, "/news/archive"));
}

const CLIENTS: [Client; 2] = [Client::Curl, Client::Browser];

/// A thousand pages, one after the other: route, key, look-up, conditions, form.
#[divan::bench(args = CLIENTS, sample_size = 1000)]
fn decide_hit(bencher: Bencher<'_, '_>, client: Client) {
    bencher.bench_local(serve::decide(client, scaled(1000)));
}

/// The same with reading the head before, and writing that of the answer behind.
#[divan::bench(args = CLIENTS, sample_size = 1000)]
fn answer_hit(bencher: Bencher<'_, '_>, client: Client) {
    bencher.bench_local(serve::answer_hit(client, scaled(1000)));
}
