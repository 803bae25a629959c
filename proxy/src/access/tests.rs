//! The log as a whole: what is recorded stands in the file, and a file that takes nothing holds up nobody.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::admin::RequestResult;

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(path: &Path, format: Format, buffer_bytes: u64) -> (Arc<AccessLog>, Arc<Counters>) {
    let counters = Counters::new();
    let destination = Destination::open(&File::Path(path.into()), None).unwrap();
    let settings = AccessSettings { format, buffer_bytes, threads: 4 };
    (AccessLog::start(destination, &settings, counters.clone()).unwrap(), counters)
}

fn record(log: &AccessLog, target: &str) {
    let mut kept = Kept::default();
    kept.keep(&Asked { method: b"GET", target: target.as_bytes(), ..Asked::default() });
    let ended = Ended {
        result: RequestResult::Hit,
        status: 200,
        sent_bytes: 1,
        took: Duration::from_micros(10),
        node: None,
    };
    log.record(&Record { asked: kept.asked(), ended }, Instant::now());
}

/// The targets of whole lines; anything else fails.
fn targets(text: &str) -> Vec<String> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is torn");
    let target = |line: &str| {
        let rest = line.strip_prefix("- - - [").and_then(|rest| rest.split_once("] \"GET "));
        let (target, end) = rest.and_then(|(_, rest)| rest.split_once(' ')).expect(line);
        assert_eq!(end, r#"HTTP/1.1" 200 1 "-" "-""#, "{line}");
        target.to_owned()
    };
    text.lines().map(target).collect()
}

#[track_caller]
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < PATIENCE, "{what} takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_record_is_one_line_and_threads_keep_their_order() {
    const THREADS: usize = 8;
    const RECORDS: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, counters) = start(&path, Format::Combined, 64 << 20);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || (0..RECORDS).for_each(|number| record(log, &format!("/{thread}/{number}"))));
        }
    });
    log.close(PATIENCE);
    assert_eq!(counters.totals().log_dropped, 0);
    let lines = targets(&fs::read_to_string(&path).unwrap());
    assert_eq!(lines.len(), THREADS * RECORDS);
    for thread in 0..THREADS {
        let begin = format!("/{thread}/");
        let own: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(&begin)).collect();
        assert!(own.iter().enumerate().all(|(number, line)| **line == number.to_string()), "thread {thread}");
    }
}

#[test]
fn a_line_comes_soon_and_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, _) = start(&path, Format::Combined, 1 << 20);
    for target in ["/a", "/b"] {
        record(&log, target);
        until("the line", || fs::read_to_string(&path).unwrap().contains(target));
    }
}

#[test]
fn what_comes_after_the_end_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, counters) = start(&path, Format::Json, 1 << 20);
    record(&log, "/before");
    log.close(PATIENCE);
    record(&log, "/after");
    assert_eq!(counters.totals().log_dropped, 1);
    assert!(fs::read_to_string(&path).unwrap().contains("/before"));
}

#[test]
fn a_renamed_log_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (log, counters) = start(&path, Format::Combined, 16 << 20);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let recorded: usize = thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                record(&log, &format!("/{number}"));
                number += 1;
                if number % 50 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            number
        });
        until("the first lines", || fs::metadata(&path).unwrap().len() > 1000);
        fs::rename(&path, &old).unwrap();
        log.reopen();
        until("lines in the new file", || fs::metadata(&path).is_ok_and(|file| file.len() > 1000));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        busy.join().unwrap()
    });
    log.close(PATIENCE);
    assert_eq!(counters.totals().log_dropped, 0);
    let both = fs::read_to_string(&old).unwrap() + &fs::read_to_string(&path).unwrap();
    let expected: Vec<String> = (0..recorded).map(|number| format!("/{number}")).collect();
    assert!(targets(&both) == expected, "lines are missing or out of order");
}

#[test]
fn a_log_that_cannot_be_reopened_stays_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (log, _) = start(&path, Format::Combined, 1 << 20);
    fs::rename(&path, &old).unwrap();
    fs::create_dir(&path).unwrap();
    log.reopen();
    record(&log, "/a");
    until("the line in the old file", || fs::read_to_string(&old).unwrap().contains("/a"));
    fs::remove_dir(&path).unwrap();
    until("the new file", || path.is_file());
    record(&log, "/b");
    log.close(PATIENCE);
    let (old, new) = (fs::read_to_string(&old).unwrap(), fs::read_to_string(&path).unwrap());
    assert_eq!((targets(&old), targets(&new)), (vec!["/a".to_owned()], vec!["/b".to_owned()]));
}

#[test]
fn a_full_disk_holds_up_nobody() {
    let (log, counters) = start(Path::new("/dev/full"), Format::Combined, 64 << 10);
    let began = Instant::now();
    for number in 0..100_000 {
        record(&log, &format!("/{number}"));
    }
    assert!(counters.totals().log_dropped > 90_000);
    log.close(Duration::from_millis(200));
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_nobody_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (log, counters) = start(&path, Format::Combined, 64 << 10);
    for number in 0..10_000 {
        record(&log, &format!("/lost/{number}"));
    }
    let dropped = counters.totals().log_dropped;
    assert!(dropped > 1000, "{dropped}");

    // A reader comes, and everything that waited comes out; then one line more.
    let mut reader = fs::File::open(&path).unwrap();
    let log = &log;
    let text = thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            while !text.windows(5).any(|five| five == b"/last") || text.last() != Some(&b'\n') {
                let count = reader.read(&mut piece).unwrap();
                assert!(count > 0, "the pipe is closed");
                text.extend_from_slice(&piece[..count]);
            }
            String::from_utf8(text).unwrap()
        });
        // Until the buffers are empty again it may be dropped as well.
        while !reading.is_finished() {
            record(log, "/last");
            thread::sleep(Duration::from_millis(50));
        }
        reading.join().unwrap()
    });
    let lines = targets(&text);
    let kept: HashSet<&String> = lines.iter().filter(|line| line.starts_with("/lost/")).collect();
    assert_eq!(kept.len() as u64, 10_000 - dropped, "what was not dropped comes out once");
}

#[test]
fn a_pipe_whose_reader_is_replaced_goes_on_with_a_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (log, counters) = start(&path, Format::Combined, 1 << 20);
    // More than a pipe holds, so that it is stopped in the middle of a line.
    for number in 0..5000 {
        record(&log, &format!("/{number}"));
    }
    let mut first = fs::File::open(&path).unwrap();
    let mut piece = [0; 1000];
    first.read_exact(&mut piece).unwrap();
    drop(first);
    // As long as the writer has the pipe open, what it holds is not thrown away, and a second reader would get the rest
    // of a line.
    until("the writer to notice", || {
        let mut open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.ok());
        !open.any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
    });
    let mut second = fs::File::open(&path).unwrap();
    let closing = {
        let log = log.clone();
        thread::spawn(move || log.close(PATIENCE))
    };
    let mut text = String::new();
    second.read_to_string(&mut text).unwrap();
    closing.join().unwrap();
    drop(log);
    let lines = targets(&text);
    assert_eq!(lines.last().unwrap(), "/4999");
    assert!(counters.totals().log_dropped <= 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::Path(folder.path().join("no/such/folder.log"));
    assert!(Destination::open(&file, None).is_err());
}

#[test]
fn the_whole_buffer_holds_lines_that_come_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (log, counters) = start(&path, Format::Combined, 64 << 10);
    // Chunks are few; each turn of the writer must not take one that holds a single line.
    for number in 0..12 {
        record(&log, &format!("/{number}"));
        thread::sleep(writer::INTERVAL);
    }
    assert_eq!(counters.totals().log_dropped, 0);
    let mut reader = fs::File::open(&path).unwrap();
    let closing = thread::spawn(move || log.close(PATIENCE));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    closing.join().unwrap();
    assert_eq!(targets(&text).len(), 12);
}
