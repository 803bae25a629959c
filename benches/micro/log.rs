//! The line of a hit in the access log: as text into memory, without the lock of that memory and without the file.

use clearcoat::measured::Format;
use clearcoat_benches::operations::serve;
use clearcoat_benches::visit::Client;
use divan::Bencher;

fn main() {
    divan::main();
}

const CLIENTS: [Client; 2] = [Client::Curl, Client::Browser];

#[divan::bench(args = CLIENTS, sample_size = 1000)]
fn line_combined(bencher: Bencher<'_, '_>, client: Client) {
    bencher.bench_local(serve::log_line(client, Format::Combined));
}

#[divan::bench(args = CLIENTS, sample_size = 1000)]
fn line_json(bencher: Bencher<'_, '_>, client: Client) {
    bencher.bench_local(serve::log_line(client, Format::Json));
}
