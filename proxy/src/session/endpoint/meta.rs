//! The meta commands of the text protocol (memcached 1.6): `mg`, `ms`, `md`, `ma`, `me`.
//!
//! Flags are letters, some with a token behind them. What is asked back comes in the order of the flags.

use base64::engine::general_purpose::{GeneralPurpose, PAD};
use base64::{Engine as _, alphabet};
use std::io::Write as _;

use bytes::{Buf as _, Bytes};

use super::number::{self, Counted};
use super::store::{Store, Unstored};
use super::text::{BAD_LINE, exptime};
use super::{Client, Step};
use crate::session::key::Key;
use crate::session::replicas::change::{Changed, Deleted};
use crate::session::replicas::{Failure, Found, Write};
use crate::session::servers::wire;
use crate::session::value::Version;

const BAD_FLAG: &str = "CLIENT_ERROR invalid flag";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";
const DUPLICATE: &str = "CLIENT_ERROR duplicate flag";

/// The key and flags of a meta command.
struct Asked {
    /// As it was said.
    name: Bytes,
    key: Key,
    key_bytes: usize,
    encoded: bool,
    flags: Vec<Bytes>,
}

impl Asked {
    fn has(&self, flag: u8) -> bool {
        self.flags.iter().any(|word| word[0] == flag)
    }

    fn token(&self, flag: u8) -> Option<&[u8]> {
        self.flags.iter().find(|word| word[0] == flag).map(|word| &word[1..])
    }

    fn is_quiet(&self) -> bool {
        self.has(b'q')
    }

    /// A token that is a number; `None` if the flag is not there.
    fn number<N: std::str::FromStr>(&self, flag: u8) -> Result<Option<N>, &'static str> {
        self.token(flag).map(|token| wire::number(token).ok_or(BAD_TOKEN)).transpose()
    }

    fn exptime(&self, flag: u8) -> Result<Option<i64>, &'static str> {
        self.token(flag).map(|token| exptime(token).ok_or(BAD_TOKEN)).transpose()
    }

    /// What of a flag only repeats the request: opaque and key.
    fn push_repeated(&self, word: &[u8], out: &mut Vec<u8>) {
        match word[0] {
            b'O' => {
                out.extend_from_slice(b" O");
                out.extend_from_slice(&word[1..]);
            }
            b'k' => {
                out.extend_from_slice(b" k");
                out.extend_from_slice(&self.name);
                if self.encoded {
                    out.extend_from_slice(b" b");
                }
            }
            _ => {}
        }
    }

    /// A line that says nothing but this, and what it repeats.
    fn push_line(&self, code: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(code.as_bytes());
        for word in &self.flags {
            self.push_repeated(word, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Every flag that there is; those that mean nothing to a command are passed over there.
const FLAGS: &[u8] = b"bcfhklOqstvxNRTIMFCSDJ";

/// Reads the words behind a meta command.
fn read(words: &[Bytes]) -> Result<Asked, &'static str> {
    let Some((name, flags)) = words.split_first() else { return Err(BAD_LINE) };
    if name.len() > crate::session::key::LONGEST_KEY {
        return Err(BAD_LINE);
    }
    let mut seen = [false; 128];
    for word in flags {
        let flag = usize::from(word[0]);
        match seen.get_mut(flag) {
            Some(true) => return Err(DUPLICATE),
            Some(seen) if FLAGS.contains(&word[0]) => *seen = true,
            _ => return Err(BAD_FLAG),
        }
    }
    let encoded = flags.iter().any(|word| word[0] == b'b');
    let decoded = if encoded { Bytes::from(base64(name).ok_or(BAD_LINE)?) } else { name.clone() };
    let key = Key::new(&decoded).ok_or(BAD_LINE)?;
    Ok(Asked { name: name.clone(), key, key_bytes: decoded.len(), encoded, flags: flags.to_vec() })
}

impl Client {
    pub(super) async fn meta_get(&mut self, words: &[Bytes]) -> Step {
        let asked = match read(words) {
            Ok(asked) => asked,
            Err(said) => return self.say(said),
        };
        let times = [b'T', b'N', b'R'].map(|flag| asked.exptime(flag));
        let [Ok(touch), Ok(vivify), Ok(recache)] = times else { return self.say(BAD_TOKEN) };
        let found = if vivify.is_some() || recache.is_some() {
            self.replicas.get_or_make(&asked.key, vivify, recache, touch).await
        } else {
            match touch {
                Some(exptime) => self.replicas.touch(&asked.key, exptime).await.map(|found| {
                    found.map(|mut found| {
                        found.facts.ttl = if exptime == 0 { -1 } else { exptime };
                        found
                    })
                }),
                None => self.replicas.get_with_facts(&asked.key, asked.has(b'h') || asked.has(b'l')).await,
            }
        };
        match found {
            Ok(Some(found)) => self.answer_meta_get(&asked, &found),
            // Of quiet requests, those without a result are not answered.
            Ok(None) if asked.is_quiet() => {}
            Ok(None) => asked.push_line("EN", &mut self.output),
            Err(failure) => return self.say_failure(failure),
        }
        Step::Next
    }

    fn answer_meta_get(&mut self, asked: &Asked, found: &Found) {
        let out = &mut self.output;
        let with_value = asked.has(b'v');
        if with_value {
            let _ = write!(out, "VA {}", found.value.len());
        } else {
            out.extend_from_slice(b"HD");
        }
        let facts = &found.facts;
        for word in &asked.flags {
            // Writing into a vector cannot fail.
            let _ = match word[0] {
                b'c' => write!(out, " c{}", found.version.0),
                b'f' => write!(out, " f{}", facts.client_flags),
                b'h' => write!(out, " h{}", u8::from(facts.fetched)),
                b'l' => write!(out, " l{}", facts.idle),
                b's' => write!(out, " s{}", found.value.len()),
                b't' => write!(out, " t{}", facts.ttl),
                _ => {
                    asked.push_repeated(word, out);
                    Ok(())
                }
            };
        }
        for mark in facts.marks.into_iter().flatten() {
            out.extend_from_slice(&[b' ', mark]);
        }
        out.extend_from_slice(b"\r\n");
        if with_value {
            out.extend_from_slice(&found.value);
            out.extend_from_slice(b"\r\n");
        }
    }

    pub(super) async fn meta_set(&mut self, line: usize, words: &[Bytes]) -> Step {
        let bad = |client: &mut Self, said: &str| {
            client.input.advance(line);
            client.say(said)
        };
        let (Some(_), Some(length)) =
            (words.first(), words.get(1).and_then(|word| wire::number::<i32>(word)))
        else {
            let said = if words.is_empty() { "ERROR" } else { BAD_LINE };
            return bad(self, said);
        };
        let Ok(length) = usize::try_from(length) else { return bad(self, BAD_LINE) };
        let flags: Vec<Bytes> = words[..1].iter().chain(&words[2..]).cloned().collect();
        let asked = read(&flags).and_then(|asked| {
            let mode = asked.token(b'M').unwrap_or(b"S");
            if mode.len() != 1 || !b"SsEeAaPpRr".contains(&mode[0]) {
                return Err("CLIENT_ERROR invalid mode for ms M token");
            }
            let mode = match mode[0].to_ascii_uppercase() {
                b'E' => Store::Add,
                b'A' => Store::Append,
                b'P' => Store::Prepend,
                b'R' => Store::Replace,
                _ => Store::Set,
            };
            let numbers = (asked.number::<u32>(b'F')?, asked.exptime(b'T')?, asked.number::<u64>(b'C')?);
            Ok((asked, mode, numbers))
        });
        let (asked, mode, (client_flags, exptime, cas)) = match asked {
            Ok(asked) => asked,
            Err(BAD_LINE) => return bad(self, BAD_LINE),
            Err(said) => {
                // The block behind it is not the next request.
                self.input.advance(line);
                self.say(said);
                return self.skip(length + 2);
            }
        };
        if length > self.most_bytes(asked.key_bytes) {
            self.input.advance(line);
            self.say("SERVER_ERROR object too large for cache");
            return self.skip(length + 2);
        }
        let Some(value) = (match self.take_data(line, length) {
            Ok(value) => value,
            Err(step) => return step,
        }) else {
            return self.say("CLIENT_ERROR bad data chunk");
        };
        let write = Write { value, client_flags: client_flags.unwrap_or(0), exptime: exptime.unwrap_or(0) };
        let most = self.most_bytes(asked.key_bytes);
        let stored = self.store(&asked.key, mode, &write, cas.map(Version), most).await;
        let done = stored.map(|stored| {
            stored.map_err(|why| match why {
                Unstored::Missing if cas.is_some() && !mode.extends() => "NF",
                Unstored::Missing | Unstored::There | Unstored::TooLarge => "NS",
                Unstored::OtherVersion => "EX",
            })
        });
        self.answer_meta(&asked, done);
        Step::Next
    }

    /// Answers a request that changes something and gives nothing back but what it repeats.
    fn answer_meta(&mut self, asked: &Asked, done: Result<Result<Version, &'static str>, Failure>) {
        let code = match &done {
            Ok(Ok(_)) if asked.is_quiet() => return,
            Ok(Ok(_)) => "HD",
            Ok(Err(code)) => code,
            Err(failure) => {
                self.say_failure(*failure);
                return;
            }
        };
        self.output.extend_from_slice(code.as_bytes());
        for word in &asked.flags {
            let _ = match (word[0], &done) {
                (b'c', Ok(Ok(version))) => write!(self.output, " c{}", version.0),
                (b'c', _) => write!(self.output, " c0"),
                _ => {
                    asked.push_repeated(word, &mut self.output);
                    Ok(())
                }
            };
        }
        self.output.extend_from_slice(b"\r\n");
    }

    pub(super) async fn meta_delete(&mut self, words: &[Bytes]) -> Step {
        let asked = read(words).and_then(|asked| {
            let numbers = (asked.number::<u64>(b'C')?, asked.exptime(b'T')?);
            Ok((asked, numbers))
        });
        let (asked, (cas, exptime)) = match asked {
            Ok(asked) => asked,
            Err(said) => return self.say(said),
        };
        let cas = cas.map(Version);
        let done = if asked.has(b'I') {
            self.replicas.mark_stale(&asked.key, cas, exptime).await
        } else {
            match cas {
                None => {
                    let deleted = self.delete(&asked.key).await;
                    deleted.map(|there| if there { Deleted::Done } else { Deleted::NotFound })
                }
                Some(version) => self.replicas.delete_if(&asked.key, version).await,
            }
        };
        let done = match done {
            Ok(Deleted::Done) => Ok(Ok(Version::NONE)),
            Ok(Deleted::NotFound) => Ok(Err("NF")),
            Ok(Deleted::Exists) => Ok(Err("EX")),
            Err(failure) => Err(failure),
        };
        self.answer_meta(&asked, done);
        Step::Next
    }

    pub(super) async fn meta_count(&mut self, words: &[Bytes]) -> Step {
        let asked = read(words).and_then(|asked| {
            let numbers = (
                asked.number::<u64>(b'D')?,
                asked.number::<u64>(b'J')?,
                asked.exptime(b'N')?,
                asked.exptime(b'T')?,
            );
            let down = match asked.token(b'M') {
                None => false,
                Some(b"I" | b"i" | b"+") => false,
                Some(b"D" | b"d" | b"-") => true,
                Some(_) => return Err("CLIENT_ERROR invalid mode for ma M token"),
            };
            let cas = asked.number::<u64>(b'C')?.map(Version);
            Ok((asked, numbers, down, cas))
        });
        let (asked, (delta, initial, vivify, touch), down, expected) = match asked {
            Ok(asked) => asked,
            Err(said) => return self.say(said),
        };
        let mut left = (Bytes::new(), -1);
        let changed = self.replicas.change(&asked.key, |found| {
            let Some(found) = found else {
                let Some(exptime) = vivify else { return Err("NF") };
                let text = Bytes::from(initial.unwrap_or(0).to_string());
                left = (text.clone(), if exptime == 0 { -1 } else { exptime });
                return Ok(Write { value: text, client_flags: 0, exptime });
            };
            if expected.is_some_and(|expected| expected != found.version) {
                return Err("EX");
            }
            match number::count(&found.value, delta.unwrap_or(1), down) {
                Counted::To(number, text) => {
                    let mut write = found.with(text);
                    left = (number.to_string().into(), found.facts.ttl);
                    if let Some(exptime) = touch {
                        write.exptime = exptime;
                        left.1 = if exptime == 0 { -1 } else { exptime };
                    }
                    Ok(write)
                }
                Counted::NotANumber => Err("CLIENT_ERROR cannot increment or decrement non-numeric value"),
            }
        });
        match changed.await {
            Ok(Changed::Written(_)) if asked.is_quiet() => {}
            Ok(Changed::Written(version)) => {
                let out = &mut self.output;
                let with_value = asked.has(b'v');
                if with_value {
                    let _ = write!(out, "VA {}", left.0.len());
                } else {
                    out.extend_from_slice(b"HD");
                }
                for word in &asked.flags {
                    let _ = match word[0] {
                        b't' => write!(out, " t{}", left.1),
                        b'c' => write!(out, " c{}", version.0),
                        _ => {
                            asked.push_repeated(word, out);
                            Ok(())
                        }
                    };
                }
                out.extend_from_slice(b"\r\n");
                if with_value {
                    out.extend_from_slice(&left.0);
                    out.extend_from_slice(b"\r\n");
                }
            }
            Ok(Changed::Left(said)) if said.starts_with('C') => return self.say(said),
            Ok(Changed::Left(code)) => asked.push_line(code, &mut self.output),
            Err(failure) => return self.say_failure(failure),
        }
        Step::Next
    }

    /// What is known of an item, for people.
    pub(super) async fn meta_debug(&mut self, words: &[Bytes]) -> Step {
        let asked = match read(words) {
            Ok(asked) => asked,
            Err(said) => return self.say(said),
        };
        match self.replicas.get_with_facts(&asked.key, true).await {
            Ok(Some(found)) => {
                let Found { version, value, facts } = found;
                self.output.extend_from_slice(b"ME ");
                self.output.extend_from_slice(&asked.name);
                let _ = write!(
                    self.output,
                    " exp={} la={} cas={} fetch={} size={}{}\r\n",
                    facts.ttl,
                    facts.idle,
                    version.0,
                    if facts.fetched { "yes" } else { "no" },
                    value.len(),
                    if asked.encoded { " b" } else { "" },
                );
            }
            Ok(None) => drop(self.say("EN")),
            Err(failure) => return self.say_failure(failure),
        }
        Step::Next
    }
}

/// Base64 as memcached reads it: bits behind the last byte may be anything.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, PAD.with_decode_allow_trailing_bits(true));

/// The bytes that a text of Base64 (RFC 4648 section 4) stands for.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text.as_bytes()), Some(bytes.as_bytes().to_vec()), "{text}");
        }
        for bad in ["Z", "Zg", "Zg=", "Zm9v=", "Z===", "Zm-v"] {
            assert_eq!(base64(bad.as_bytes()), None, "{bad}");
        }
    }
}
