//! The text protocol: a line for each request, with a block of data behind those that store something.

use std::io::Write as _;

use bytes::{Buf as _, Bytes};
use smallvec::SmallVec;

use super::number::{self, Counted};
use super::store::{Store, Unstored};
use super::{Client, Step};
use crate::session::key::Key;
use crate::session::replicas::change::Changed;
use crate::session::replicas::{Failure, Found, Write};
use crate::session::servers::wire;
use crate::session::value::Version;

/// Bytes of a line. Only one that asks for many keys is longer than a few hundred.
const LONGEST_LINE: usize = 256 * 1024;

/// Bytes of a line that asks for nothing.
const LONGEST_OTHER_LINE: usize = 2048;

/// Keys of one line that are looked up together.
const MOST_TOGETHER: usize = 16;

pub(super) const BAD_LINE: &str = "CLIENT_ERROR bad command line format";
const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";

/// The words of a line.
pub(super) type Words = SmallVec<[Bytes; 8]>;

impl Client {
    /// Does what the first line in the buffer asks.
    pub(super) async fn text(&mut self) -> Step {
        let end = memchr::memchr(b'\n', &self.input);
        let asks = [&b"get "[..], b"gets "].iter().any(|word| self.input.starts_with(word));
        let most = if asks { LONGEST_LINE } else { LONGEST_OTHER_LINE };
        // However it comes, in one piece or many.
        if end.unwrap_or(self.input.len()) > most {
            return Step::Close;
        }
        let Some(end) = end else { return Step::More };
        let line = Bytes::copy_from_slice(&self.input[..end]);
        let line = if line.ends_with(b"\r") { line.slice(..end - 1) } else { line };
        let words: Words = line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
            .map(|word| line.slice_ref(word))
            .collect();
        let Some((command, rest)) = words.split_first() else {
            self.input.advance(end + 1);
            return self.say("ERROR");
        };
        let count = rest.len();
        let step = match (&command[..], count) {
            (b"set", 4 | 5) => return self.store_text(Store::Set, false, end + 1, rest).await,
            (b"add", 4 | 5) => return self.store_text(Store::Add, false, end + 1, rest).await,
            (b"replace", 4 | 5) => return self.store_text(Store::Replace, false, end + 1, rest).await,
            (b"append", 4 | 5) => return self.store_text(Store::Append, false, end + 1, rest).await,
            (b"prepend", 4 | 5) => return self.store_text(Store::Prepend, false, end + 1, rest).await,
            (b"cas", 5 | 6) => return self.store_text(Store::Set, true, end + 1, rest).await,
            (b"ms", _) => return self.meta_set(end + 1, rest).await,
            (b"get" | b"bget", 1..) => self.get_text(rest, None, false).await,
            (b"gets", 1..) => self.get_text(rest, None, true).await,
            (b"gat" | b"gats", 1..) => match exptime(&rest[0]) {
                Some(exptime) => self.get_text(&rest[1..], Some(exptime), command.ends_with(b"s")).await,
                None => self.say(BAD_EXPTIME),
            },
            (b"incr", 2 | 3) => self.count_text(rest, false).await,
            (b"decr", 2 | 3) => self.count_text(rest, true).await,
            (b"touch", 2 | 3) => self.touch_text(rest).await,
            (b"delete", 1..=3) => self.delete_text(rest).await,
            (b"flush_all", 0..=2) => self.flush_text(rest).await,
            (b"verbosity", 1 | 2) => {
                self.say_unless_quiet(rest, "OK");
                Step::Next
            }
            (b"version", _) => {
                let version = format!("VERSION {}", self.replicas.version());
                self.say(&version)
            }
            (b"stats", _) => match self.stats(rest.first().map_or(b"", |group| &group[..])) {
                Some(lines) => {
                    for (name, value) in lines {
                        let _ = write!(self.output, "STAT {name} {value}\r\n");
                    }
                    self.say("END")
                }
                None => self.say("ERROR"),
            },
            (b"quit", _) => Step::Close,
            // No web node ends the memory of all.
            (b"shutdown", _) => self.say("ERROR: shutdown not enabled"),
            (b"mg", 1..) => self.meta_get(rest).await,
            (b"md", 1..) => self.meta_delete(rest).await,
            (b"ma", 1..) => self.meta_count(rest).await,
            (b"me", 1..) => self.meta_debug(rest).await,
            (b"mn", _) => self.say("MN"),
            // A browser that somebody sent here.
            _ if rest.last().is_some_and(|word| word.starts_with(b"HTTP/")) => Step::Close,
            _ => self.say("ERROR"),
        };
        self.input.advance(end + 1);
        step
    }

    /// Says a line.
    pub(super) fn say(&mut self, line: &str) -> Step {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        Step::Next
    }

    /// Says a line, unless the last word of the request is `noreply`.
    fn say_unless_quiet(&mut self, rest: &[Bytes], line: &str) {
        if !is_quiet(rest) {
            self.say(line);
        }
    }

    pub(super) fn say_failure(&mut self, failure: Failure) -> Step {
        let line = format!("SERVER_ERROR {failure}");
        self.say(&line)
    }

    async fn get_text(&mut self, names: &[Bytes], exptime: Option<i64>, with_cas: bool) -> Step {
        let before = self.output.len();
        let keys: Option<Vec<Key>> = names.iter().map(|name| Key::new(name)).collect();
        let Some(keys) = keys else { return self.say(BAD_LINE) };
        for (names, keys) in names.chunks(MOST_TOGETHER).zip(keys.chunks(MOST_TOGETHER)) {
            let found = match exptime {
                None => self.replicas.get_many(keys).await,
                Some(exptime) => {
                    let touched = keys.iter().map(|key| self.replicas.touch(key, exptime));
                    futures_util::future::join_all(touched).await.into_iter().collect()
                }
            };
            match found {
                Ok(found) => {
                    for (name, found) in names.iter().zip(found) {
                        if let Some(found) = found {
                            push_value(&mut self.output, name, &found, with_cas);
                        }
                    }
                }
                Err(failure) => {
                    // Half an answer is none.
                    self.output.truncate(before);
                    return self.say_failure(failure);
                }
            }
            // What is asked for all at once need not be held all at once.
            if keys.len() == MOST_TOGETHER && before == 0 && self.flush_if_full().await.is_err() {
                return Step::Close;
            }
        }
        self.say("END")
    }

    /// One that begins with `cas` names a version.
    async fn store_text(&mut self, store: Store, cas: bool, line: usize, rest: &[Bytes]) -> Step {
        let quiet = is_quiet(rest);
        let numbers = (client_flags(&rest[1]), exptime(&rest[2]), wire::number::<i32>(&rest[3]));
        let expected = if cas { wire::number(&rest[4]).map(|cas| Some(Version(cas))) } else { Some(None) };
        let (Some(key), (Some(client_flags), Some(exptime), Some(length)), Some(expected)) =
            (Key::new(&rest[0]), numbers, expected)
        else {
            self.input.advance(line);
            self.say_unless_quiet(rest, BAD_LINE);
            return Step::Next;
        };
        let Ok(length) = usize::try_from(length) else {
            self.input.advance(line);
            self.say_unless_quiet(rest, BAD_LINE);
            return Step::Next;
        };
        if length > self.most_bytes(rest[0].len()) {
            self.input.advance(line);
            self.say_unless_quiet(rest, "SERVER_ERROR object too large for cache");
            if store == Store::Set && !cas {
                // What was there is not what was to be there.
                let _ = self.delete(&key).await;
            }
            return self.skip(length + 2);
        }
        let Some(value) = (match self.take_data(line, length) {
            Ok(value) => value,
            Err(step) => return step,
        }) else {
            self.say_unless_quiet(rest, "CLIENT_ERROR bad data chunk");
            return Step::Next;
        };
        let write = Write { value, client_flags, exptime };
        let most = self.most_bytes(rest[0].len());
        let stored = self.store(&key, store, &write, expected, most).await;
        if !quiet {
            match stored {
                Ok(Ok(_)) => drop(self.say("STORED")),
                Ok(Err(why)) => drop(self.say(match why {
                    Unstored::Missing if cas => "NOT_FOUND",
                    Unstored::Missing | Unstored::There => "NOT_STORED",
                    Unstored::OtherVersion => "EXISTS",
                    Unstored::TooLarge => "SERVER_ERROR out of memory storing object",
                })),
                Err(failure) => drop(self.say_failure(failure)),
            }
        }
        Step::Next
    }

    /// Takes a line and the block of data behind it; `None` if that does not end where it should.
    pub(super) fn take_data(&mut self, line: usize, length: usize) -> Result<Option<Bytes>, Step> {
        let all = line + length + 2;
        if self.input.len() < all {
            self.input.reserve(all - self.input.len());
            return Err(Step::More);
        }
        self.input.advance(line);
        let value = self.input.split_to(length).freeze();
        let end = self.input.split_to(2);
        Ok((&end[..] == b"\r\n").then_some(value))
    }

    async fn count_text(&mut self, rest: &[Bytes], down: bool) -> Step {
        let Some(key) = Key::new(&rest[0]) else {
            self.say_unless_quiet(rest, BAD_LINE);
            return Step::Next;
        };
        let Some(delta) = wire::number::<u64>(&rest[1]) else {
            self.say_unless_quiet(rest, "CLIENT_ERROR invalid numeric delta argument");
            return Step::Next;
        };
        let mut count = 0;
        let changed = self.replicas.change(&key, |found| {
            let Some(found) = found else { return Err("NOT_FOUND") };
            match number::count(&found.value, delta, down) {
                Counted::To(number, text) => {
                    count = number;
                    Ok(found.with(text))
                }
                Counted::NotANumber => Err("CLIENT_ERROR cannot increment or decrement non-numeric value"),
            }
        });
        match changed.await {
            Ok(Changed::Written(_)) => self.say_unless_quiet(rest, &count.to_string()),
            Ok(Changed::Left(said)) => self.say_unless_quiet(rest, said),
            Err(failure) => drop(self.say_failure(failure)),
        }
        Step::Next
    }

    async fn touch_text(&mut self, rest: &[Bytes]) -> Step {
        let said = match (Key::new(&rest[0]), exptime(&rest[1])) {
            (None, _) => BAD_LINE,
            (_, None) => BAD_EXPTIME,
            (Some(key), Some(exptime)) => match self.replicas.touch(&key, exptime).await {
                Ok(Some(_)) => "TOUCHED",
                Ok(None) => "NOT_FOUND",
                Err(failure) => return self.say_failure(failure),
            },
        };
        self.say_unless_quiet(rest, said);
        Step::Next
    }

    async fn delete_text(&mut self, rest: &[Bytes]) -> Step {
        // A time was once allowed, and zero still is.
        let usual = match rest {
            [_] => true,
            [_, word] => word == "0" || word == "noreply",
            [_, time, word] => time == "0" && word == "noreply",
            _ => false,
        };
        let said = match Key::new(&rest[0]) {
            _ if !usual => "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
            None => BAD_LINE,
            Some(key) => match self.delete(&key).await {
                Ok(true) => "DELETED",
                Ok(false) => "NOT_FOUND",
                Err(failure) => return self.say_failure(failure),
            },
        };
        self.say_unless_quiet(rest, said);
        Step::Next
    }

    async fn flush_text(&mut self, rest: &[Bytes]) -> Step {
        let delay = match rest {
            [] => Some(0),
            [word] if word == "noreply" => Some(0),
            [delay, ..] => exptime(delay),
        };
        let said = match delay {
            None => BAD_EXPTIME,
            Some(delay) => match self.replicas.flush(delay).await {
                Ok(()) => "OK",
                Err(failure) => return self.say_failure(failure),
            },
        };
        self.say_unless_quiet(rest, said);
        Step::Next
    }
}

fn push_value(out: &mut Vec<u8>, name: &[u8], found: &Found, with_cas: bool) {
    out.reserve(name.len() + found.value.len() + 64);
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(name);
    let mut buffer = itoa::Buffer::new();
    out.push(b' ');
    out.extend_from_slice(buffer.format(found.facts.client_flags).as_bytes());
    out.push(b' ');
    out.extend_from_slice(buffer.format(found.value.len()).as_bytes());
    if with_cas {
        out.push(b' ');
        out.extend_from_slice(buffer.format(found.version.0).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&found.value);
    out.extend_from_slice(b"\r\n");
}

fn is_quiet(rest: &[Bytes]) -> bool {
    rest.last().is_some_and(|word| word == "noreply")
}

/// Flags, of which memcached takes the lower half if there are more than 32.
fn client_flags(word: &[u8]) -> Option<u32> {
    wire::number::<u64>(word).map(|flags| flags as u32)
}

/// A time, as memcached reads it.
pub(super) fn exptime(word: &[u8]) -> Option<i64> {
    // Of more than 32 bits it takes the lower ones.
    wire::number::<i64>(word).map(|time| i64::from(time as i32))
}
