#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use super::*;

type Table = Fills<u32, &'static str>;

fn lead(fills: &Arc<Table>, key: u32) -> (FillWriter<u32, &'static str>, FillReader<&'static str>) {
    match fills.join(key) {
        Joined::Leader(writer, reader) => (writer, reader),
        Joined::Follower(_) => panic!("{key} is already being fetched"),
    }
}

fn follow(fills: &Arc<Table>, key: u32) -> FillReader<&'static str> {
    match fills.join(key) {
        Joined::Leader(..) => panic!("nobody fetches {key}"),
        Joined::Follower(reader) => reader,
    }
}

fn whole(writer: &mut FillWriter<u32, &'static str>) -> Bytes {
    writer.gather(Bytes::new()).0
}

async fn drink(reader: &mut FillReader<&'static str>) -> Result<String, FillFailed> {
    let mut pieces = Vec::new();
    while reader.read(&mut pieces, 3).await? {}
    Ok(pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect())
}

#[tokio::test]
async fn all_readers_get_the_whole_body_from_its_first_byte() {
    let fills = Arc::new(Table::default());
    let (mut writer, mut first) = lead(&fills, 1);
    writer.publish("head", Retention::Whole);
    writer.pour(Bytes::from_static(b"hello ")).await.unwrap();
    let mut second = follow(&fills, 1);
    writer.pour(Bytes::from_static(b"world")).await.unwrap();
    assert_eq!(whole(&mut writer), "hello world");
    writer.complete();
    assert_eq!(first.head().await.map(|head| *head), Ok("head"));
    assert_eq!(drink(&mut first).await.as_deref(), Ok("hello world"));
    assert_eq!(drink(&mut second).await.as_deref(), Ok("hello world"));
    assert!(fills.is_empty());
}

#[tokio::test]
async fn the_last_piece_is_gathered_before_anybody_reads_it() {
    for pieces in [&[][..], &["one"], &["one", "two"], &["a", "b", "c"]] {
        let fills = Arc::new(Table::default());
        let (mut writer, mut reader) = lead(&fills, 1);
        writer.publish("head", Retention::Whole);
        for piece in pieces {
            writer.append(Bytes::from_static(piece.as_bytes()));
        }
        let mut early = Vec::new();
        if !pieces.is_empty() {
            assert_eq!(reader.read(&mut early, 1).await, Ok(true));
        }
        let (whole, last) = writer.gather(Bytes::from_static(b" and last"));
        let expected = pieces.concat() + " and last";
        assert_eq!((&whole[..], &last[..]), (expected.as_bytes(), &b" and last"[..]));
        assert_eq!(writer.kept_bytes(), pieces.concat().len(), "{pieces:?}: the last piece is not shown yet");
        writer.append(last);
        writer.complete();
        // A reader in the middle goes on where it was.
        while reader.read(&mut early, 100).await == Ok(true) {}
        assert_eq!(early.concat(), expected.as_bytes());
    }
}

#[tokio::test]
async fn a_writer_that_vanishes_fails_its_readers_and_frees_the_key() {
    let fills = Arc::new(Table::default());
    let (writer, reader) = lead(&fills, 1);
    let waiting = tokio::spawn(async move { reader.head().await.map(|head| *head) });
    tokio::task::yield_now().await;
    drop(writer);
    assert_eq!(waiting.await.unwrap(), Err(FillFailed::Failed));
    let _ = lead(&fills, 1);
}

#[tokio::test]
async fn a_reader_that_leaves_does_not_end_a_fill_that_is_kept() {
    let fills = Arc::new(Table::default());
    let (mut writer, reader) = lead(&fills, 1);
    drop(reader);
    writer.publish("head", Retention::Whole);
    for _ in 0..100 {
        writer.pour(Bytes::from_static(&[b'x'; 1000])).await.unwrap();
    }
    assert_eq!(whole(&mut writer).len(), 100_000);
}

#[tokio::test]
async fn what_passes_through_is_paced_by_the_slowest_reader_and_ends_with_the_last() {
    let fills = Arc::new(Table::default());
    let (mut writer, mut reader) = lead(&fills, 1);
    writer.publish("head", Retention::Window(1000));
    assert!(fills.is_empty(), "nobody can join what is not kept");
    let pouring = tokio::spawn(async move {
        let mut poured = 0;
        while writer.pour(Bytes::from_static(&[b'x'; 600])).await.is_ok() {
            poured += 1;
            assert!(writer.kept_bytes() <= 1600, "the window holds");
            if poured == 50 {
                writer.complete();
                return true;
            }
        }
        false
    });
    assert_eq!(drink(&mut reader).await.unwrap().len(), 30_000);
    assert!(pouring.await.unwrap());

    let (mut writer, reader) = lead(&fills, 2);
    writer.publish("head", Retention::Window(1000));
    let pouring =
        tokio::spawn(async move { while writer.pour(Bytes::from_static(&[b'x'; 600])).await.is_ok() {} });
    tokio::task::yield_now().await;
    drop(reader);
    pouring.await.unwrap();
}

#[tokio::test]
async fn a_body_that_grows_too_large_turns_to_passing_through_for_all_its_readers() {
    let fills = Arc::new(Table::default());
    let (mut writer, mut quick) = lead(&fills, 1);
    let mut slow = follow(&fills, 1);
    writer.publish("head", Retention::Whole);
    writer.pour(Bytes::from_static(b"aaaa")).await.unwrap();
    let mut pieces = Vec::new();
    assert_eq!(quick.read(&mut pieces, 100).await, Ok(true));
    writer.let_through(100);
    writer.pour(Bytes::from_static(b"bbbb")).await.unwrap();
    writer.complete();
    assert_eq!(drink(&mut quick).await.as_deref(), Ok("bbbb"));
    assert_eq!(drink(&mut slow).await.as_deref(), Ok("aaaabbbb"));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_after_what_had_come() {
    let fills = Arc::new(Table::default());
    let (mut writer, mut reader) = lead(&fills, 1);
    writer.publish("head", Retention::Whole);
    writer.pour(Bytes::from_static(b"half")).await.unwrap();
    writer.fail();
    let mut pieces = Vec::new();
    assert_eq!(reader.read(&mut pieces, 100).await, Ok(true));
    assert_eq!(reader.read(&mut pieces, 100).await, Err(FillFailed::Failed));
}

#[tokio::test]
async fn a_closed_fill_keeps_its_readers_and_makes_way_for_a_new_one() {
    let fills = Arc::new(Table::default());
    let (old, old_reader) = lead(&fills, 1);
    fills.close(&1, &old_reader);
    let (new, _new_reader) = lead(&fills, 1);
    drop(old);
    let _still_there = follow(&fills, 1);
    drop(new);
    assert!(fills.is_empty());
}

// Races: the end of a fill against its readers' registration, and joins against the end. Real threads, many rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_misses_the_end_however_they_race() {
    let fills = Arc::new(Table::default());
    for round in 0..500 {
        let (mut writer, leader) = lead(&fills, round);
        let mut readers = vec![leader];
        readers.extend((0..7).map(|_| follow(&fills, round)));
        let reading: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                tokio::spawn(async move {
                    reader.head().await.unwrap();
                    drink(&mut reader).await.unwrap()
                })
            })
            .collect();
        let writing = tokio::spawn(async move {
            writer.publish("head", Retention::Whole);
            writer.pour(Bytes::from_static(b"ab")).await.unwrap();
            writer.pour(Bytes::from_static(b"cd")).await.unwrap();
            writer.complete();
        });
        writing.await.unwrap();
        for reader in reading {
            assert_eq!(reader.await.unwrap(), "abcd");
        }
    }
}
