//! Sharing a fetch.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use clearcoat_benches::scale::scaled;
use clearcoat_cache::collapse::{FillReader, FillWriter, Fills, Joined, Retention};
use divan::Bencher;

type Table = Fills<u128, &'static str>;

fn main() {
    divan::main();
}

/// Waits for a future that does not have to wait.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the fill has all that is asked for"),
    }
}

fn lead(fills: &Arc<Table>, key: u128) -> (FillWriter<u128, &'static str>, FillReader<&'static str>) {
    match fills.join(key) {
        Joined::Leader(writer, reader) => (writer, reader),
        Joined::Follower(_) | Joined::Full => unreachable!("every bench has a key of its own"),
    }
}

/// From the first request to the whole answer, with nobody else there.
#[divan::bench(sample_size = 1000)]
fn collapse_lead_and_complete(bencher: Bencher<'_, '_>) {
    let fills = Arc::new(Table::default());
    let body = Bytes::from(vec![b'x'; 1024]);
    bencher.bench(|| {
        let (mut writer, reader) = lead(&fills, 1);
        writer.publish("head", Retention::Whole);
        assert!(at_once(writer.pour(body.clone())).is_ok());
        writer.complete();
        reader.whole_length()
    });
}

/// A thousand requests find a fetch under way. They leave again outside the timed part.
#[divan::bench]
fn collapse_join_1000_readers(bencher: Bencher<'_, '_>) {
    let fills = Arc::new(Table::default());
    let readers = scaled(1000);
    let mut key = 0;
    let begun = || {
        key += 1;
        (key, lead(&fills, key), Vec::with_capacity(readers as usize))
    };
    bencher.with_inputs(begun).bench_local_values(|(key, leader, mut joined)| {
        joined.extend((0..readers).map(|_| fills.join(key)));
        assert!(matches!(joined.last(), Some(Joined::Follower(_))));
        (leader, joined)
    });
}

/// A thousand readers take the head and sixteen pieces of body each, and leave.
#[divan::bench]
fn collapse_drink_1000_readers(bencher: Bencher<'_, '_>) {
    const PIECES: usize = 16;
    let fills = Arc::new(Table::default());
    let readers = scaled(1000);
    let whole = || -> Vec<FillReader<&'static str>> {
        let (mut writer, reader) = lead(&fills, 1);
        let joined = (1..readers).filter_map(|_| match fills.join(1) {
            Joined::Follower(reader) => Some(reader),
            Joined::Leader(..) | Joined::Full => None,
        });
        let all = std::iter::once(reader).chain(joined).collect();
        writer.publish("head", Retention::Whole);
        for _ in 0..PIECES {
            assert!(at_once(writer.pour(Bytes::from_static(&[b'x'; 4096]))).is_ok());
        }
        writer.complete();
        all
    };
    bencher.with_inputs(whole).bench_local_values(|readers| {
        for mut reader in readers {
            assert!(at_once(reader.head()).is_ok());
            let mut pieces = Vec::with_capacity(PIECES);
            while matches!(at_once(reader.read(&mut pieces, 64 << 10)), Ok(true)) {}
            assert_eq!(pieces.len(), PIECES);
        }
    });
}
