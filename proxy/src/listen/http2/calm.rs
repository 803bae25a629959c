//! What a client sends besides requests and bodies, and how much of it is too much.
//!
//! PING, SETTINGS, PRIORITY, WINDOW_UPDATE, DATA without data and frames of unknown kinds cost a client nine bytes and us an
//! answer, or at least a look (RFC 9113 section 10.5; CVE-2019-9512, 9513, 9515, 9517, 9518). The `h2` crate answers each, however many come.
//! So frames are counted here on their way to it: each such frame takes from a credit, and what honest clients send them for gives
//! back: a request, a frame of a body that we sent, and time. Resets are counted by requests
//! ([`Credit`](super::Credit)), header blocks by the crate.

use std::time::{Duration, Instant};

/// Frames that a client may send for nothing, at once.
const MOST: u32 = 10_000;

/// As many more in a second. Who measures a connection's quality sends a PING every second or so.
const PER_SECOND: u64 = 20;

/// For a request: priorities of a page's streams, their windows.
const FOR_REQUEST: u32 = 8;

/// For a frame of a body of ours: a window may be opened for the stream and the connection, in two steps each.
const FOR_DATA: u32 = 4;

/// The client's preface (RFC 9113 section 3.4).
const PREFACE: u32 = 24;

const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// Finds the frames in what goes over a connection, in whatever pieces.
#[derive(Debug)]
struct Frames {
    /// Bytes until the next frame begins.
    skip: u32,
    head: [u8; HEAD],
    have: usize,
}

impl Frames {
    const fn behind(bytes: u32) -> Self {
        Self { skip: bytes, head: [0; HEAD], have: 0 }
    }

    /// Tells kind and length of each frame whose head ends in these bytes.
    fn see(&mut self, mut bytes: &[u8], mut tell: impl FnMut(u8, u32)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = bytes.len().min(self.skip as usize);
                self.skip -= count as u32;
                bytes = &bytes[count..];
                continue;
            }
            let count = bytes.len().min(HEAD - self.have);
            let (now, rest) = bytes.split_at(count);
            self.head[self.have..self.have + count].copy_from_slice(now);
            self.have += count;
            bytes = rest;
            if self.have == HEAD {
                self.have = 0;
                let [high, middle, low, kind, ..] = self.head;
                self.skip = u32::from_be_bytes([0, high, middle, low]);
                tell(kind, self.skip);
            }
        }
    }
}

/// Whether a client keeps calm.
#[derive(Debug)]
pub(super) struct Calm {
    from_client: Frames,
    to_client: Frames,
    credit: u32,
    since: Instant,
}

impl Calm {
    pub(super) fn new() -> Self {
        let (from_client, to_client) = (Frames::behind(PREFACE), Frames::behind(0));
        Self { from_client, to_client, credit: MOST, since: Instant::now() }
    }

    /// The client has sent this. Whether that is still bearable.
    pub(super) fn received(&mut self, bytes: &[u8]) -> bool {
        let Self { from_client, credit, since, .. } = self;
        let mut calm = true;
        from_client.see(bytes, |kind, length| match kind {
            HEADERS => *credit = (*credit + FOR_REQUEST).min(MOST),
            DATA if length > 0 => {}
            // Counted by requests.
            RST_STREAM => {}
            _ => {
                if *credit == 0 {
                    *credit = earned(since);
                }
                calm &= *credit > 0;
                *credit = credit.saturating_sub(1);
            }
        });
        calm
    }

    /// It was sent this.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let Self { to_client, credit, .. } = self;
        to_client.see(bytes, |kind, _| {
            if kind == DATA {
                *credit = (*credit + FOR_DATA).min(MOST);
            }
        });
    }
}

/// What time has given back since it was asked last, to somebody who has used up everything.
fn earned(since: &mut Instant) -> u32 {
    let now = Instant::now();
    let time = now.saturating_duration_since(*since).min(Duration::from_secs(3600));
    let frames = time.as_millis() as u64 * PER_SECOND / 1000;
    if frames > 0 {
        *since = now;
    }
    u32::try_from(frames).unwrap_or(MOST).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 1]);
        bytes.resize(HEAD + length, 0xee);
        bytes
    }

    #[test]
    fn frames_are_found_in_any_pieces() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (kind, length) in [(4, 0), (1, 300), (0, 70_000), (6, 8), (0, 0)] {
            bytes.extend(frame(kind, length));
        }
        for size in [1, 2, 8, 9, 10, 1000, bytes.len()] {
            let (mut frames, mut seen) = (Frames::behind(PREFACE), Vec::new());
            bytes.chunks(size).for_each(|piece| frames.see(piece, |kind, length| seen.push((kind, length))));
            assert_eq!(seen, [(4, 0), (1, 300), (0, 70_000), (6, 8), (0, 0)], "in pieces of {size}");
        }
    }

    #[test]
    fn floods_are_noticed_and_work_is_not() {
        for kind in [0, 2, 4, 6, 7, 8, 9, 0xee] {
            let (mut calm, mut sent) = (Calm::new(), 0);
            calm.from_client.skip = 0;
            while calm.received(&frame(kind, 0)) {
                sent += 1;
                assert!(sent < 3 * MOST, "kind {kind}");
            }
            assert!(sent >= MOST, "kind {kind}: {sent}");
        }
        let mut calm = Calm::new();
        calm.from_client.skip = 0;
        for _ in 0..100_000 {
            // Two windows for each frame of a body, and for each request some priorities.
            calm.sent(&frame(0, 10));
            assert!(calm.received(&frame(8, 4)) && calm.received(&frame(8, 4)));
            assert!(
                calm.received(&frame(1, 10)) && calm.received(&frame(2, 5)) && calm.received(&frame(0, 1))
            );
        }
    }
}
