//! What each level of each content coding saves and costs, on files of one's own.
//!
//! ```text
//! cargo run --release -p clearcoat-benches --example codings -- FILE...
//! ```
//!
//! Each file is compressed by itself, as pages are. A line per coding and level: bytes in all as a share of the plain
//! text, and the time on one core for a megabyte of it. The levels in use are constants of `proxy/src/encode`; they were
//! chosen by the table in this folder's README.

use std::io::Write;
use std::time::{Duration, Instant};

/// How often everything is compressed; the quickest round counts, because others may use the machine too.
const ROUNDS: usize = 3;

fn gzip(level: i32, plain: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level.unsigned_abs()));
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("a buffer takes everything")
}

fn br(level: i32, plain: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: level,
        lgwin: 22,
        size_hint: plain.len(),
        ..Default::default()
    };
    brotli::BrotliCompress(&mut &*plain, &mut encoded, &parameters).expect("a buffer takes everything");
    encoded
}

fn zstd(level: i32, plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, level).expect("a buffer takes everything")
}

type Compress = fn(i32, &[u8]) -> Vec<u8>;

#[allow(clippy::print_stdout)]
fn main() {
    let read = |path: String| std::fs::read(&path).unwrap_or_else(|error| panic!("reading {path}: {error}"));
    let files: Vec<Vec<u8>> = std::env::args().skip(1).map(read).collect();
    let plain: usize = files.iter().map(Vec::len).sum();
    println!("{} files, {} bytes", files.len(), plain);
    let codings: [(&str, Compress, &[i32]); 3] = [
        ("gzip", gzip, &[1, 4, 6, 9]),
        ("br", br, &[1, 3, 4, 5, 6, 7, 9, 11]),
        ("zstd", zstd, &[1, 3, 6, 9, 12, 15, 19]),
    ];
    println!("| coding | level | % of plain | ms per MB |\n| --- | ---: | ---: | ---: |");
    for (name, compress, levels) in codings {
        for level in levels {
            let (mut bytes, mut quickest) = (0, Duration::MAX);
            for _ in 0..ROUNDS {
                let started = Instant::now();
                bytes = files.iter().map(|file| compress(*level, file).len()).sum();
                quickest = quickest.min(started.elapsed());
            }
            let share = 100.0 * bytes as f64 / plain.max(1) as f64;
            let cost = quickest.as_secs_f64() * 1e9 / plain.max(1) as f64;
            println!("| {name} | {level} | {share:.1} | {cost:.0} |");
        }
    }
}
