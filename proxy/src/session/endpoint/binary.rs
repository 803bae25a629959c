//! The binary protocol, which is what PHP's session handler speaks by default.
//!
//! A request is a header of 24 bytes and a body of extras, key and value; so is an answer. Answers come in the order of requests, and
//! repeat their `opaque`. Of the quiet forms, reads say nothing of what is missing and writes nothing of success.

use std::io::Write as _;

use bytes::{Buf as _, Bytes, BytesMut};

use super::number::{self, Counted};
use super::store::{Store, Unstored};
use super::{Client, Step};
use crate::session::key::{Key, LONGEST_KEY};
use crate::session::replicas::change::{Changed, Deleted};
use crate::session::replicas::{Failure, Found, Write};
use crate::session::value::Version;

/// How a request begins; text never does.
pub(super) const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;
const HEADER: usize = 24;

/// Requests for values that are looked up together.
const MOST_TOGETHER: usize = 16;

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operation {
    Get { key_back: bool, touch: bool, value_back: bool },
    Store(Store),
    Delete,
    Count { down: bool },
    Quit,
    Flush,
    Noop,
    Version,
    Stat,
}

/// How an answer says what came of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Status {
    Done = 0,
    NotFound = 1,
    Exists = 2,
    TooLarge = 3,
    Invalid = 4,
    NotStored = 5,
    NotANumber = 6,
    Unknown = 0x81,
    NoMemory = 0x82,
    /// Nobody can say now.
    Temporary = 0x86,
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Self::Done => "",
            Self::NotFound => "Not found",
            Self::Exists => "Data exists for key.",
            Self::TooLarge => "Too large.",
            Self::Invalid => "Invalid arguments",
            Self::NotStored => "Not stored.",
            Self::NotANumber => "Non-numeric server-side value for incr or decr",
            Self::Unknown => "Unknown command",
            Self::NoMemory => "Out of memory",
            Self::Temporary => "no memcached server is up",
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away | Failure::Contended => Self::Temporary,
            Failure::TooLarge => Self::TooLarge,
            Failure::NoMemory => Self::NoMemory,
        }
    }
}

/// The header of a request.
#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: u8,
    key: usize,
    extras: usize,
    body: usize,
    opaque: [u8; 4],
    cas: u64,
}

impl Header {
    fn read(input: &[u8]) -> Option<Self> {
        let mut bytes = input.first_chunk::<HEADER>()?.as_slice();
        bytes.advance(1);
        let opcode = bytes.get_u8();
        let key = usize::from(bytes.get_u16());
        let extras = usize::from(bytes.get_u8());
        bytes.advance(3);
        let body = bytes.get_u32() as usize;
        let mut opaque = [0; 4];
        bytes.copy_to_slice(&mut opaque);
        Some(Self { opcode, key, extras, body, opaque, cas: bytes.get_u64() })
    }

    /// What is asked, and whether quietly.
    fn operation(&self) -> Option<(Operation, bool)> {
        let get = |key_back| Operation::Get { key_back, touch: false, value_back: true };
        let touch = |key_back| Operation::Get { key_back, touch: true, value_back: true };
        Some(match self.opcode {
            0x00 => (get(false), false),
            0x09 => (get(false), true),
            0x0c => (get(true), false),
            0x0d => (get(true), true),
            0x01 => (Operation::Store(Store::Set), false),
            0x11 => (Operation::Store(Store::Set), true),
            0x02 => (Operation::Store(Store::Add), false),
            0x12 => (Operation::Store(Store::Add), true),
            0x03 => (Operation::Store(Store::Replace), false),
            0x13 => (Operation::Store(Store::Replace), true),
            0x04 => (Operation::Delete, false),
            0x14 => (Operation::Delete, true),
            0x05 => (Operation::Count { down: false }, false),
            0x15 => (Operation::Count { down: false }, true),
            0x06 => (Operation::Count { down: true }, false),
            0x16 => (Operation::Count { down: true }, true),
            0x07 => (Operation::Quit, false),
            0x17 => (Operation::Quit, true),
            0x08 => (Operation::Flush, false),
            0x18 => (Operation::Flush, true),
            0x0a => (Operation::Noop, false),
            0x0b => (Operation::Version, false),
            0x0e => (Operation::Store(Store::Append), false),
            0x19 => (Operation::Store(Store::Append), true),
            0x0f => (Operation::Store(Store::Prepend), false),
            0x1a => (Operation::Store(Store::Prepend), true),
            0x10 => (Operation::Stat, false),
            0x1c => (Operation::Get { key_back: false, touch: true, value_back: false }, false),
            0x1d => (touch(false), false),
            0x1e => (touch(false), true),
            0x23 => (touch(true), false),
            0x24 => (touch(true), true),
            _ => return None,
        })
    }

    /// Whether the parts of the body have the lengths that the operation has.
    fn fits(&self, operation: Operation) -> bool {
        let Self { key, extras, body, .. } = *self;
        let nothing_more = body == key + extras;
        match operation {
            Operation::Get { touch: false, .. } | Operation::Delete => key > 0 && extras == 0 && nothing_more,
            Operation::Get { touch: true, .. } => key > 0 && extras == 4,
            Operation::Store(Store::Set | Store::Add | Store::Replace) => key > 0 && extras == 8,
            Operation::Store(Store::Append | Store::Prepend) => key > 0 && extras == 0,
            Operation::Count { .. } => key > 0 && extras == 20 && nothing_more,
            Operation::Flush => key == 0 && nothing_more && (extras == 0 || extras == 4),
            Operation::Quit | Operation::Noop | Operation::Version => body == 0 && key == 0 && extras == 0,
            Operation::Stat => extras == 0,
        }
    }

    fn answer(&self, out: &mut Vec<u8>, status: Status, cas: u64, parts: [&[u8]; 3]) {
        let [extras, key, value] = parts;
        out.reserve(HEADER + extras.len() + key.len() + value.len());
        out.extend_from_slice(&[RESPONSE, self.opcode]);
        out.extend_from_slice(&(key.len() as u16).to_be_bytes());
        out.extend_from_slice(&[extras.len() as u8, 0]);
        out.extend_from_slice(&(status as u16).to_be_bytes());
        out.extend_from_slice(&((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
        out.extend_from_slice(&self.opaque);
        out.extend_from_slice(&cas.to_be_bytes());
        parts.iter().for_each(|part| out.extend_from_slice(part));
    }

    fn refuse(&self, out: &mut Vec<u8>, status: Status) {
        self.answer(out, status, 0, [b"", b"", status.text().as_bytes()]);
    }
}

/// The body of a request in its parts.
struct Body {
    extras: Bytes,
    key: Bytes,
    value: Bytes,
}

impl Body {
    fn take(input: &mut BytesMut, header: &Header) -> Self {
        input.advance(HEADER);
        let mut body = input.split_to(header.body).freeze();
        let extras = body.split_to(header.extras);
        let key = body.split_to(header.key);
        Self { extras, key, value: body }
    }
}

impl Client {
    /// Does what the first request in the buffer asks, or the first few if they are reads.
    pub(super) async fn binary(&mut self) -> Step {
        let Some(header) = Header::read(&self.input) else { return Step::More };
        if self.input[0] != REQUEST {
            // Nothing can be said of what comes next.
            return Step::Close;
        }
        if header.key + header.extras > header.body {
            header.refuse(&mut self.output, Status::Unknown);
            return Step::Close;
        }
        let operation = header.operation();
        if header.key > LONGEST_KEY || operation.is_some_and(|(operation, _)| !header.fits(operation)) {
            header.refuse(&mut self.output, Status::Invalid);
            return Step::Close;
        }
        let Some((operation, quiet)) = operation else {
            header.refuse(&mut self.output, Status::Unknown);
            return self.skip(HEADER + header.body);
        };
        let value = header.body - header.key - header.extras;
        if value > self.most_bytes(header.key) {
            if self.input.len() < HEADER + header.extras + header.key {
                return Step::More;
            }
            header.refuse(&mut self.output, Status::TooLarge);
            if let Operation::Store(Store::Set) = operation {
                // What was there is not what was to be there.
                let key = &self.input[HEADER + header.extras..][..header.key];
                if let Some(key) = Key::new(key) {
                    let _ = self.delete(&key).await;
                }
            }
            return self.skip(HEADER + header.body);
        }
        if self.input.len() < HEADER + header.body {
            let missing = HEADER + header.body - self.input.len();
            self.input.reserve(missing);
            return Step::More;
        }
        if let Operation::Get { touch: false, .. } = operation {
            self.binary_gets().await;
            return Step::Next;
        }
        let body = Body::take(&mut self.input, &header);
        self.binary_one(&header, operation, quiet, body).await
    }

    async fn binary_one(&mut self, header: &Header, operation: Operation, quiet: bool, body: Body) -> Step {
        let key = Key::new(&body.key);
        match (operation, key) {
            (Operation::Store(store), Some(key)) => {
                let stored = self.store_binary(header, store, &key, &body).await;
                match stored {
                    Ok(_) if quiet => {}
                    Ok(version) => header.answer(&mut self.output, Status::Done, version.0, [b""; 3]),
                    Err(status) => header.refuse(&mut self.output, status),
                }
            }
            (Operation::Get { key_back, value_back, .. }, Some(key)) => {
                let exptime = seconds(&body.extras);
                let found = self.replicas.touch(&key, exptime).await;
                let said = if key_back { &body.key[..] } else { b"" };
                answer_get(&mut self.output, header, found, said, quiet, value_back);
            }
            (Operation::Delete, Some(key)) => {
                let deleted = match header.cas {
                    0 => self
                        .replicas
                        .delete(&key)
                        .await
                        .map(|there| if there { Deleted::Done } else { Deleted::NotFound }),
                    cas => self.replicas.delete_if(&key, Version(cas)).await,
                };
                match deleted {
                    Ok(Deleted::Done) if quiet => {}
                    Ok(Deleted::Done) => header.answer(&mut self.output, Status::Done, 0, [b""; 3]),
                    Ok(Deleted::NotFound) => header.refuse(&mut self.output, Status::NotFound),
                    Ok(Deleted::Exists) => header.refuse(&mut self.output, Status::Exists),
                    Err(failure) => header.refuse(&mut self.output, failure.into()),
                }
            }
            (Operation::Count { down }, Some(key)) => {
                match self.count_binary(header, down, &key, &body).await {
                    Ok(_) if quiet => {}
                    Ok((count, version)) => {
                        header.answer(
                            &mut self.output,
                            Status::Done,
                            version.0,
                            [b"", b"", &count.to_be_bytes()],
                        );
                    }
                    Err(status) => header.refuse(&mut self.output, status),
                }
            }
            (Operation::Quit, _) => {
                if !quiet {
                    header.answer(&mut self.output, Status::Done, 0, [b""; 3]);
                }
                return Step::Close;
            }
            (Operation::Flush, _) => match self.replicas.flush(seconds(&body.extras)).await {
                Ok(()) if quiet => {}
                Ok(()) => header.answer(&mut self.output, Status::Done, 0, [b""; 3]),
                Err(failure) => header.refuse(&mut self.output, failure.into()),
            },
            (Operation::Noop, _) => header.answer(&mut self.output, Status::Done, 0, [b""; 3]),
            (Operation::Version, _) => {
                header.answer(
                    &mut self.output,
                    Status::Done,
                    0,
                    [b"", b"", self.replicas.version().as_bytes()],
                );
            }
            (Operation::Stat, _) => match self.stats(&body.key) {
                Some(stats) => {
                    for (name, value) in stats {
                        header.answer(
                            &mut self.output,
                            Status::Done,
                            0,
                            [b"", name.as_bytes(), value.as_bytes()],
                        );
                    }
                    header.answer(&mut self.output, Status::Done, 0, [b""; 3]);
                }
                None => header.refuse(&mut self.output, Status::NotFound),
            },
            // `fits` saw to a key where there must be one.
            (_, None) => header.refuse(&mut self.output, Status::Invalid),
        }
        Step::Next
    }

    /// Looks up what the reads at the beginning of the buffer ask for, and answers them.
    async fn binary_gets(&mut self) {
        let mut asked = Vec::new();
        let mut keys = Vec::new();
        while asked.len() < MOST_TOGETHER {
            let Some(header) = Header::read(&self.input) else { break };
            let read = match header.operation() {
                Some((operation @ Operation::Get { touch: false, key_back, .. }, quiet))
                    if self.input[0] == REQUEST && header.fits(operation) && header.key <= LONGEST_KEY =>
                {
                    (key_back, quiet)
                }
                _ => break,
            };
            if self.input.len() < HEADER + header.body {
                break;
            }
            let body = Body::take(&mut self.input, &header);
            let Some(key) = Key::new(&body.key) else { break };
            keys.push(key);
            asked.push((header, body.key, read));
        }
        match self.replicas.get_many(&keys).await {
            Ok(found) => {
                for ((header, key, (key_back, quiet)), found) in asked.iter().zip(found) {
                    let said = if *key_back { &key[..] } else { b"" };
                    answer_get(&mut self.output, header, Ok(found), said, *quiet, true);
                }
            }
            Err(failure) => {
                asked.iter().for_each(|(header, ..)| header.refuse(&mut self.output, failure.into()))
            }
        }
    }

    async fn store_binary(
        &mut self,
        header: &Header,
        store: Store,
        key: &Key,
        body: &Body,
    ) -> Result<Version, Status> {
        let mut extras = &body.extras[..];
        let (client_flags, exptime) =
            if extras.len() == 8 { (extras.get_u32(), time(extras.get_u32())) } else { (0, 0) };
        let write = Write { value: body.value.clone(), client_flags, exptime };
        let expected = (header.cas != 0).then_some(Version(header.cas));
        let most = self.most_bytes(header.key);
        let stored = self.store(key, store, &write, expected, most).await?;
        stored.map_err(|why| match why {
            Unstored::Missing | Unstored::TooLarge if store.extends() => Status::NotStored,
            Unstored::Missing => Status::NotFound,
            Unstored::There | Unstored::OtherVersion => Status::Exists,
            Unstored::TooLarge => Status::TooLarge,
        })
    }

    async fn count_binary(
        &mut self,
        header: &Header,
        down: bool,
        key: &Key,
        body: &Body,
    ) -> Result<(u64, Version), Status> {
        let mut extras = &body.extras[..];
        let (delta, initial, exptime) = (extras.get_u64(), extras.get_u64(), extras.get_u32());
        let expected = (header.cas != 0).then_some(Version(header.cas));
        let mut count = 0;
        let changed = self.replicas.change(key, |found| {
            let Some(found) = found else {
                // No time at all: the client does not want it to be made.
                if exptime == u32::MAX {
                    return Err(Status::NotFound);
                }
                count = initial;
                return Ok(Write {
                    value: initial.to_string().into(),
                    client_flags: 0,
                    exptime: time(exptime),
                });
            };
            if expected.is_some_and(|expected| expected != found.version) {
                return Err(Status::Exists);
            }
            match number::count(&found.value, delta, down) {
                Counted::To(number, text) => {
                    count = number;
                    Ok(found.with(text))
                }
                Counted::NotANumber => Err(Status::NotANumber),
            }
        });
        match changed.await? {
            Changed::Written(version) => Ok((count, version)),
            Changed::Left(status) => Err(status),
        }
    }
}

fn answer_get(
    out: &mut Vec<u8>,
    header: &Header,
    found: Result<Option<Found>, Failure>,
    key: &[u8],
    quiet: bool,
    value_back: bool,
) {
    match found {
        Ok(Some(found)) => {
            let flags = found.facts.client_flags.to_be_bytes();
            let value = if value_back { &found.value[..] } else { b"" };
            header.answer(out, Status::Done, found.version.0, [&flags, key, value]);
        }
        Ok(None) if quiet => {}
        Ok(None) if key.is_empty() => header.refuse(out, Status::NotFound),
        // Clients that ask for the key tell answers apart by it.
        Ok(None) => header.answer(out, Status::NotFound, 0, [b"", key, b""]),
        Err(failure) => header.refuse(out, failure.into()),
    }
}

/// The time in extras of four bytes; none is zero.
fn seconds(extras: &[u8]) -> i64 {
    extras.first_chunk().map_or(0, |bytes| time(u32::from_be_bytes(*bytes)))
}

/// A time, which has no sign here. What is further away than a date of 32 bits is as far away as that: servers are asked in text, which
/// knows none later.
fn time(exptime: u32) -> i64 {
    i64::from(exptime.min(i32::MAX as u32))
}

impl Client {
    /// Lines of `stats`, in both protocols; `None` if there is no such group.
    pub(super) fn stats(&self, group: &[u8]) -> Option<Vec<(String, String)>> {
        let mut lines = Vec::new();
        match group {
            b"" => {
                let mut line = |name: &str, value: &dyn std::fmt::Display| {
                    lines.push((name.to_owned(), value.to_string()))
                };
                line("pid", &std::process::id());
                line("version", &self.replicas.version());
                let told: Vec<_> = self.replicas.servers.iter().filter_map(|server| server.told()).collect();
                line("curr_items", &told.iter().map(|told| told.items).sum::<u64>());
                line("bytes", &told.iter().map(|told| told.bytes).sum::<u64>());
                line("limit_maxbytes", &told.iter().map(|told| told.limit_bytes).sum::<u64>());
                line("evictions", &told.iter().map(|told| told.evictions).sum::<u64>());
                for server in &self.replicas.servers {
                    let mut name = Vec::new();
                    let _ = write!(name, "server.{}", server.name());
                    line(&String::from_utf8_lossy(&name), &if server.is_up() { "up" } else { "down" });
                }
            }
            b"settings" => {
                lines.push(("item_size_max".to_owned(), self.settings.item_bytes.to_string()));
            }
            b"reset" | b"items" | b"slabs" | b"sizes" => {}
            _ => return None,
        }
        Some(lines)
    }
}
