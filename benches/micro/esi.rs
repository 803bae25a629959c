//! Reading a page of 16 KiB for ESI tags, with so many includes. A page that no node marked is never read; one that is
//! marked and has none is what the zero stands for.

use clearcoat_benches::operations::serve;
use divan::Bencher;

fn main() {
    divan::main();
}

#[divan::bench(args = [0, 5], sample_size = 100)]
fn read_page_16k(bencher: Bencher<'_, '_>, includes: usize) {
    bencher.bench_local(serve::read_page(includes));
}
