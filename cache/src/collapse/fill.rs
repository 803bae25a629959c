//! What the writer and the readers of one fill share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Retention;
use crate::budget::{Charge, piece_cost};

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
    /// Bytes that ever were in `chunks`.
    pub(super) poured_bytes: u64,
    pub(super) end: End,
    /// How many readers stand at which chunk. A chunk that a reader has in its hands is not behind it yet.
    readers: BTreeMap<u64, u32>,
    /// Readers besides the one who caused the fetch.
    pub(super) followers: u32,
    /// Goes on whoever reads it: a refresh in the background.
    pub(super) unattended: bool,
    /// `chunks` on the account; nothing once they are views of a body that was handed over.
    charge: Charge,
    handed_over: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Open,
    Complete,
    Failed,
    Withdrawn,
}

impl<H> Fill<H> {
    pub(super) fn new(charge: Charge) -> Self {
        Self {
            state: Mutex::new(State {
                head: None,
                retention: Retention::Whole,
                chunks: VecDeque::new(),
                dropped: 0,
                kept_bytes: 0,
                poured_bytes: 0,
                end: End::Open,
                readers: BTreeMap::new(),
                followers: 0,
                unattended: false,
                charge,
                handed_over: false,
            }),
            poured: Notify::new(),
            drained: Notify::new(),
        }
    }
}

impl<H> State<H> {
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.kept_bytes += chunk.len();
        self.poured_bytes += chunk.len() as u64;
        if !self.handed_over {
            self.charge.add_piece(chunk.len());
        }
        self.chunks.push_back(chunk);
    }

    /// What is kept from now on is only on its way through.
    pub(super) fn pass_through(&mut self, window: usize) {
        self.retention = Retention::Window(window);
        self.charge.pass_through();
    }

    /// A reader comes; it begins with the first chunk there is.
    pub(super) fn enter(&mut self) -> u64 {
        *self.readers.entry(self.dropped).or_default() += 1;
        self.dropped
    }

    /// A reader is done with the chunks before `to`.
    pub(super) fn advance(&mut self, from: u64, to: u64) {
        self.leave(from);
        *self.readers.entry(to).or_default() += 1;
    }

    /// A reader that stood at `at` goes.
    pub(super) fn leave(&mut self, at: u64) {
        if let Some(count) = self.readers.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                self.readers.remove(&at);
            }
        }
    }

    pub(super) fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Whether the fill is for somebody who is not there any more.
    pub(super) fn is_deserted(&self) -> bool {
        !self.unattended && !self.has_readers()
    }

    /// Forgets what every reader is done with, when nobody can come late.
    pub(super) fn trim(&mut self) {
        if self.retention == Retention::Whole {
            return;
        }
        let end = self.dropped + self.chunks.len() as u64;
        let slowest = self.readers.first_key_value().map_or(end, |(at, _)| *at);
        while self.dropped < slowest {
            if let Some(chunk) = self.chunks.pop_front() {
                self.kept_bytes -= chunk.len();
                if !self.handed_over {
                    self.charge.remove_piece(chunk.len());
                }
            }
            self.dropped += 1;
        }
    }

    /// How far the writer may run ahead now, if the body only passes through.
    pub(super) fn window(&self) -> Option<usize> {
        match self.retention {
            Retention::Whole => None,
            Retention::Window(most) => Some(self.charge.budget().window(most)),
        }
    }

    /// The chunks become views of `whole`, which is on somebody else's account from now on.
    pub(super) fn hand_over(&mut self, whole: &Bytes) {
        let mut start = 0;
        for chunk in &mut self.chunks {
            let end = start + chunk.len();
            *chunk = whole.slice(start..end);
            start = end;
        }
        self.handed_over = true;
        self.charge.set(0);
    }

    /// Nobody else has the body on his account after all.
    pub(super) fn take_back(&mut self) {
        self.handed_over = false;
        self.charge.set(piece_cost(self.kept_bytes));
    }

    /// Bytes on the account beside the chunks, while a copy is made.
    pub(super) fn charge_copy(&mut self, bytes: usize) {
        self.charge.add(piece_cost(bytes));
    }
}
