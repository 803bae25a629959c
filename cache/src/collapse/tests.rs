#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use super::*;

type Table = Fills<u32, &'static str>;

fn lead(fills: &Arc<Table>, key: u32) -> (FillWriter<u32, &'static str>, FillReader<&'static str>) {
    match fills.join(key) {
        Joined::Leader(writer, reader) => (writer, reader),
        Joined::Follower(_) | Joined::Full => panic!("{key} is already being fetched"),
    }
}

fn follow(fills: &Arc<Table>, key: u32) -> FillReader<&'static str> {
    match fills.join(key) {
        Joined::Follower(reader) => reader,
        Joined::Leader(..) => panic!("nobody fetches {key}"),
        Joined::Full => panic!("too many wait for {key}"),
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

#[tokio::test]
async fn only_so_many_wait_for_a_head() {
    let fills = Arc::new(Table::new(2, FillBudget::unlimited()));
    let (mut writer, leader) = lead(&fills, 1);
    let first = follow(&fills, 1);
    let second = follow(&fills, 1);
    assert!(matches!(fills.join(1), Joined::Full));
    drop(leader);
    assert!(matches!(fills.join(1), Joined::Full), "the one who caused it is not one of those who wait");
    drop(second);
    let second = follow(&fills, 1);
    // With the head there nobody waits for it.
    writer.publish("head", Retention::Whole);
    let readers: Vec<_> = (0..10).map(|_| follow(&fills, 1)).collect();
    writer.complete();
    for reader in readers.iter().chain([&first, &second]) {
        assert_eq!(reader.head().await.map(|head| *head), Ok("head"));
    }
}

#[tokio::test]
async fn a_reader_passes_over_what_it_does_not_want() {
    // Pieces of the body "0123456789"; what is wanted; what comes.
    for (pieces, range, expected) in [
        (&["0123456789"][..], 0..10, "0123456789"),
        (&["0123456789"], 3..5, "34"),
        (&["012", "345", "6789"], 0..3, "012"),
        (&["012", "345", "6789"], 3..6, "345"),
        (&["012", "345", "6789"], 2..7, "23456"),
        (&["012", "345", "6789"], 9..10, "9"),
        (&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], 4..8, "4567"),
    ] {
        for retention in [Retention::Whole, Retention::Window(4)] {
            let fills = Arc::new(Table::default());
            let (mut writer, mut reader) = lead(&fills, 1);
            reader.narrow(range.clone());
            writer.publish("head", retention);
            let pieces: Vec<&'static str> = pieces.to_vec();
            let writing = tokio::spawn(async move {
                for piece in pieces {
                    if writer.pour(Bytes::from_static(piece.as_bytes())).await.is_err() {
                        return;
                    }
                }
                // The rest breaks off, which is nothing to a reader who has what it wants.
                writer.fail();
            });
            assert_eq!(drink(&mut reader).await.as_deref(), Ok(expected), "{range:?}, {retention:?}");
            drop(reader);
            writing.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_fill_that_is_deserted_may_be_ended_and_one_that_is_read_may_not() {
    let fills = Arc::new(Table::default());
    let (mut writer, leader) = lead(&fills, 1);
    let follower = follow(&fills, 1);
    assert!(!writer.abandon());
    drop(leader);
    assert!(!writer.abandon());
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), writer.deserted());
    assert!(waiting.await.is_err(), "somebody still reads");
    drop(follower);
    writer.deserted().await;
    assert!(fills.is_fetching(&1), "until it is ended it can be joined");
    let late = follow(&fills, 1);
    assert!(!writer.abandon(), "somebody came in the meantime");
    drop(late);
    assert!(writer.abandon());
    let (new, _reader) = lead(&fills, 1);
    drop(writer);
    assert!(fills.is_fetching(&1), "the new fill is not touched by the end of the old one");
    drop(new);

    let (mut unattended, reader) = lead(&fills, 2);
    unattended.needs_no_reader();
    drop(reader);
    assert!(!unattended.is_deserted() && !unattended.abandon());
}

#[tokio::test]
async fn what_a_fill_holds_is_on_the_account_until_it_is_handed_over() {
    let budget = FillBudget::unlimited();
    let fills = Arc::new(Table::new(10, budget.clone()));
    let (mut writer, reader) = lead(&fills, 1);
    writer.publish("head", Retention::Whole);
    for _ in 0..10 {
        writer.append(Bytes::from(vec![0; 1000]));
    }
    assert!(budget.held() >= 10_000, "{}", budget.held());
    let (body, last) = writer.gather(Bytes::from(vec![0; 1000]));
    assert_eq!((body.len(), budget.held()), (11_000, 0));
    writer.append(last);
    assert_eq!(budget.held(), 0, "a view of what was handed over costs nothing");
    writer.take_back();
    assert!((11_000..13_000).contains(&budget.held()), "{}", budget.held());
    writer.complete();
    assert!(budget.held() > 0, "somebody may still read it");
    drop(reader);
    assert_eq!(budget.held(), 0);

    let (mut writer, mut reader) = lead(&fills, 1);
    writer.publish("head", Retention::Window(1 << 20));
    for _ in 0..10 {
        writer.pour(Bytes::from(vec![0; 1000])).await.unwrap();
    }
    let all = budget.held();
    let mut pieces = Vec::new();
    assert_eq!(reader.read(&mut pieces, 5000).await, Ok(true));
    assert_eq!(budget.held(), all, "what a reader has in its hands is still held");
    assert_eq!(reader.read(&mut pieces, 5000).await, Ok(true));
    assert!(budget.held() <= all / 2, "{} of {all}", budget.held());
    drop((writer, reader));
    assert_eq!(budget.held(), 0);
}

// The race of a newcomer with the end of a fill that nobody reads. Whatever the order, he reads a body to its end: that
// of the fill that went on for him, or that of a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_newcomer_gets_an_answer_however_he_races_with_the_end() {
    let fills = Arc::new(Table::default());
    for round in 0..2000u32 {
        let (mut writer, leader) = lead(&fills, round);
        writer.publish("head", Retention::Whole);
        writer.append(Bytes::from_static(b"ab"));
        drop(leader);
        let ending = tokio::spawn(async move {
            for _ in 0..round % 50 {
                std::hint::spin_loop();
            }
            if !writer.abandon() {
                writer.append(Bytes::from_static(b"cd"));
                writer.complete();
            }
        });
        let table = fills.clone();
        let coming = tokio::spawn(async move {
            for _ in 0..round % 7 {
                std::hint::spin_loop();
            }
            match table.join(round) {
                Joined::Follower(mut reader) => drink(&mut reader).await,
                Joined::Leader(mut writer, mut reader) => {
                    writer.publish("head", Retention::Whole);
                    writer.append(Bytes::from_static(b"abcd"));
                    writer.complete();
                    drink(&mut reader).await
                }
                Joined::Full => panic!("nobody else waits"),
            }
        });
        ending.await.unwrap();
        assert_eq!(coming.await.unwrap().as_deref(), Ok("abcd"), "round {round}");
        assert!(fills.is_empty());
    }
}

// Readers that come, read at their own pace and leave, against a writer that turns from keeping to letting through: the
// account ends at nothing and nobody who stays misses a byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_account_is_even_whoever_comes_and_goes() {
    let budget = FillBudget::unlimited();
    let fills = Arc::new(Table::new(100, budget.clone()));
    for round in 0..200u32 {
        let (mut writer, leader) = lead(&fills, round);
        let mut readers = vec![leader];
        readers.extend((0..7).map(|_| follow(&fills, round)));
        let reading: Vec<_> = readers
            .into_iter()
            .enumerate()
            .map(|(number, mut reader)| {
                tokio::spawn(async move {
                    let mut pieces = Vec::new();
                    let mut reads = 0;
                    while reader.read(&mut pieces, 7).await == Ok(true) {
                        reads += 1;
                        // Every other one leaves on the way.
                        if number % 2 == 1 && reads > number {
                            return None;
                        }
                        tokio::task::yield_now().await;
                    }
                    Some(pieces.concat().len())
                })
            })
            .collect();
        let writing = tokio::spawn(async move {
            writer.publish("head", Retention::Whole);
            for piece in 0..40 {
                if piece == round as usize % 40 {
                    writer.let_through(20);
                }
                if writer.pour(Bytes::from_static(b"0123456789")).await.is_err() {
                    return;
                }
            }
            writer.complete();
        });
        writing.await.unwrap();
        for reader in reading {
            assert!(matches!(reader.await.unwrap(), None | Some(400)), "round {round}");
        }
        assert_eq!(budget.held(), 0, "round {round}");
    }
}
