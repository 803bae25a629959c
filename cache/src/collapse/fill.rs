//! What the writer and the readers of one fill share.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Retention;

#[derive(Debug)]
pub(super) struct Fill<H> {
    pub(super) state: Mutex<State<H>>,
    /// Woken at every step of the writer.
    pub(super) poured: Notify,
    /// Woken when a reader took something or left; only the writer waits for it.
    pub(super) drained: Notify,
}

#[derive(Debug)]
pub(super) struct State<H> {
    pub(super) head: Option<Arc<H>>,
    pub(super) retention: Retention,
    pub(super) chunks: VecDeque<Bytes>,
    /// How many chunks were dropped in front of `chunks`; zero while the retention is `Whole`.
    pub(super) dropped: u64,
    /// Bytes in `chunks`.
    pub(super) kept_bytes: usize,
    pub(super) end: End,
    /// The next chunk of every reader, by the reader's number.
    pub(super) positions: HashMap<u64, u64>,
    pub(super) next_reader: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Open,
    Complete,
    Failed,
    Withdrawn,
}

impl<H> Fill<H> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                head: None,
                retention: Retention::Whole,
                chunks: VecDeque::new(),
                dropped: 0,
                kept_bytes: 0,
                end: End::Open,
                positions: HashMap::new(),
                next_reader: 0,
            }),
            poured: Notify::new(),
            drained: Notify::new(),
        }
    }
}

impl<H> State<H> {
    /// Forgets what every reader has taken, when nobody can come late.
    pub(super) fn trim(&mut self) {
        if self.retention == Retention::Whole {
            return;
        }
        let end = self.dropped + self.chunks.len() as u64;
        let slowest = self.positions.values().copied().min().unwrap_or(end);
        while self.dropped < slowest {
            if let Some(chunk) = self.chunks.pop_front() {
                self.kept_bytes -= chunk.len();
            }
            self.dropped += 1;
        }
    }
}
