//! Heads: reading that of a request, and writing that of a hit.

use clearcoat_benches::operations::serve;
use clearcoat_benches::visit::Client;
use divan::Bencher;

fn main() {
    divan::main();
}

/// Three lines of curl, fifteen of a browser.
#[divan::bench(args = [Client::Curl, Client::Browser], sample_size = 1000)]
fn read_head(bencher: Bencher<'_, '_>, client: Client) {
    bencher.bench_local(serve::read_head(client));
}

/// What is prepared, `Age`, `Cache-Status` and the end.
#[divan::bench(sample_size = 1000)]
fn write_head_of_hit(bencher: Bencher<'_, '_>) {
    bencher.bench_local(serve::hit_head());
}
