//! What is said to a memcached server and what it answers: the meta commands `mg`, `ms` and `md` (memcached 1.6).
//!
//! They are what the text protocol has and the binary one lacks: they tell how long an item has still to live, which a copy of it
//! needs. Requests are put one behind the other into a buffer, and the answers come in their order.

use std::io::{self, Write as _};

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of an answer's first line; longer ones are no memcached's.
const LONGEST_LINE: usize = 2048;

/// How a write depends on what is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Only {
    Always,
    /// Nothing is there.
    IfMissing,
    /// What is there was read with this CAS, and not changed since.
    IfUnchanged(u64),
}

/// Asks for what is under a key, with all that is known of it. `flags` are further ones, such as ` T60`.
pub(crate) fn push_get(out: &mut Vec<u8>, key: &[u8], flags: &[u8]) {
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(key);
    // First: what they do shows in the rest.
    out.extend_from_slice(flags);
    out.extend_from_slice(b" v c t f");
    out.extend_from_slice(b"\r\n");
}

/// Sets the time that an item has still to live.
pub(crate) fn push_touch(out: &mut Vec<u8>, key: &[u8], exptime: i64) {
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(key);
    // Writing into a vector cannot fail.
    let _ = write!(out, " c t T{exptime}\r\n");
}

/// Writes what is under a key; `value` comes in parts.
pub(crate) fn push_set(
    out: &mut Vec<u8>,
    key: &[u8],
    parts: &[&[u8]],
    client_flags: u32,
    exptime: i64,
    only: Only,
) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(key.len() + length + 64);
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(key);
    let _ = write!(out, " {length} c F{client_flags} T{exptime}");
    match only {
        Only::Always => {}
        Only::IfMissing => out.extend_from_slice(b" ME"),
        Only::IfUnchanged(cas) => drop(write!(out, " C{cas}")),
    }
    out.extend_from_slice(b"\r\n");
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Deletes what is under a key. `flags` are further ones, such as ` I`.
pub(crate) fn push_delete(out: &mut Vec<u8>, key: &[u8], cas: Option<u64>, flags: &[u8]) {
    out.extend_from_slice(b"md ");
    out.extend_from_slice(key);
    if let Some(cas) = cas {
        let _ = write!(out, " C{cas}");
    }
    out.extend_from_slice(flags);
    out.extend_from_slice(b"\r\n");
}

/// What a server tells of an item beside its value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Facts {
    pub(crate) cas: u64,
    pub(crate) client_flags: u32,
    /// Seconds it has still to live; -1: no end.
    pub(crate) ttl: i64,
    /// It was asked for before (`h`).
    pub(crate) fetched: bool,
    /// Seconds since it was (`l`).
    pub(crate) idle: u64,
    /// In the order of the server: `W`, the one who asks is to make it anew; `Z`, somebody else is at that; `X`, it is out of date.
    pub(crate) marks: [Option<u8>; 3],
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Reply {
    /// `VA`.
    Value(Bytes, Facts),
    /// `HD`: done, or there.
    Done(Facts),
    /// `EN` or `NF`.
    Missing,
    /// `NS`.
    NotStored,
    /// `EX`: changed since.
    Exists,
    /// An item so large is not stored there.
    TooLarge,
    /// The server has no memory for it.
    NoMemory,
}

/// Takes the first answer out of what has come; `None` if it is not all there. Values have up to `most` bytes.
///
/// # Errors
///
/// It is none that a memcached server gives to what we ask. The connection cannot be used any more.
pub(crate) fn read_reply(input: &mut BytesMut, most: usize) -> io::Result<Option<Reply>> {
    let end = memchr::memchr(b'\n', input);
    if end.unwrap_or(input.len()) > LONGEST_LINE {
        return Err(unknown(input));
    }
    let Some(end) = end else { return Ok(None) };
    let line = input[..end].strip_suffix(b"\r").ok_or_else(|| unknown(&input[..end]))?;
    let (code, rest) = (line.get(..2).unwrap_or_default(), line.get(2..).unwrap_or_default());
    let reply = match code {
        b"VA" => {
            let mut words = rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
            let length: usize = words.next().and_then(number).ok_or_else(|| unknown(line))?;
            if length > most {
                return Err(unknown(line));
            }
            if input.len() < end + 1 + length + 2 {
                input.reserve(end + 1 + length + 2 - input.len());
                return Ok(None);
            }
            let facts = facts(words);
            if &input[end + 1 + length..][..2] != b"\r\n" {
                return Err(unknown(&input[..end]));
            }
            input.advance(end + 1);
            let value = input.split_to(length).freeze();
            input.advance(2);
            return Ok(Some(Reply::Value(value, facts)));
        }
        b"HD" => Reply::Done(facts(rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty()))),
        b"EN" | b"NF" => Reply::Missing,
        b"NS" => Reply::NotStored,
        b"EX" => Reply::Exists,
        b"SE" if line.starts_with(b"SERVER_ERROR object too large") => Reply::TooLarge,
        b"SE" if line.starts_with(b"SERVER_ERROR out of memory") => Reply::NoMemory,
        _ => return Err(unknown(line)),
    };
    input.advance(end + 1);
    Ok(Some(reply))
}

fn facts<'l>(words: impl Iterator<Item = &'l [u8]>) -> Facts {
    let mut facts = Facts { ttl: -1, ..Facts::default() };
    for word in words {
        let [flag, token @ ..] = word else { continue };
        match flag {
            b'c' => facts.cas = number(token).unwrap_or_default(),
            b'f' => facts.client_flags = number(token).unwrap_or_default(),
            b't' => facts.ttl = number(token).unwrap_or(-1),
            b'h' => facts.fetched = token == b"1",
            b'l' => facts.idle = number(token).unwrap_or_default(),
            b'W' | b'Z' | b'X' => {
                if let Some(free) = facts.marks.iter_mut().find(|mark| mark.is_none()) {
                    *free = Some(*flag);
                }
            }
            _ => {}
        }
    }
    facts
}

/// A decimal number that is all of `text`.
pub(crate) fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    // `parse` would take a plus sign.
    if text.first() == Some(&b'+') {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn unknown(line: &[u8]) -> io::Error {
    let line = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    io::Error::new(io::ErrorKind::InvalidData, format!("not an answer of memcached 1.6: {line:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn answers_are_read_as_they_come() {
        let all = b"VA 4 c5 t-1 f80 h1 l3\r\nab\r\n\r\nHD c18446744073709551615\r\nEN\r\nNF\r\nNS\r\nEX\r\nVA 0 W Z X t30\r\n\r\n\
                    SERVER_ERROR object too large for cache\r\nSERVER_ERROR out of memory storing object\r\n";
        let facts = Facts { cas: 5, client_flags: 80, ttl: -1, fetched: true, idle: 3, ..Facts::default() };
        let won = Facts { ttl: 30, marks: [b'W', b'Z', b'X'].map(Some), ..Facts::default() };
        let expected = vec![
            Reply::Value(Bytes::from_static(b"ab\r\n"), facts),
            Reply::Done(Facts { cas: u64::MAX, ttl: -1, ..Facts::default() }),
            Reply::Missing,
            Reply::Missing,
            Reply::NotStored,
            Reply::Exists,
            Reply::Value(Bytes::new(), won),
            Reply::TooLarge,
            Reply::NoMemory,
        ];
        for piece in [1, 2, 7, all.len()] {
            let (mut input, mut read) = (BytesMut::new(), Vec::new());
            for bytes in all.chunks(piece) {
                input.extend_from_slice(bytes);
                while let Some(reply) = read_reply(&mut input, 100).unwrap() {
                    read.push(reply);
                }
            }
            assert_eq!(read, expected, "in pieces of {piece}");
            assert!(input.is_empty());
        }
    }

    #[test]
    fn what_no_server_says_ends_the_connection() {
        for said in [
            &b"ERROR\r\n"[..],
            b"CLIENT_ERROR bad data chunk\r\n",
            b"VALUE a 0 1\r\n",
            b"VA x\r\n",
            b"VA\r\n",
            b"VA 101\r\n",
            b"VA -1\r\n",
            b"VA 1\r\nabc\r\n",
            b"HD\n",
            b"\r\n",
            &[b'x'; LONGEST_LINE + 1],
        ] {
            let mut input = BytesMut::from(said);
            assert!(read_reply(&mut input, 100).is_err(), "{}", said.escape_ascii());
        }
    }

    #[test]
    fn requests_read_as_memcached_wants_them() {
        let mut out = Vec::new();
        push_get(&mut out, b"k", b"");
        push_get(&mut out, b"k", b" N30");
        push_touch(&mut out, b"k", -1);
        push_set(&mut out, b"k", &[b"ab", b"c"], 80, 1440, Only::Always);
        push_set(&mut out, b"k", &[], 0, 0, Only::IfMissing);
        push_set(&mut out, b"k", &[b"x"], 0, 0, Only::IfUnchanged(7));
        push_delete(&mut out, b"k", Some(7), b"");
        push_delete(&mut out, b"k", None, b" I");
        let expected = "mg k v c t f\r\nmg k N30 v c t f\r\nmg k c t T-1\r\nms k 3 c F80 T1440\r\nabc\r\n\
                        ms k 0 c F0 T0 ME\r\n\r\nms k 1 c F0 T0 C7\r\nx\r\nmd k C7\r\nmd k I\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
