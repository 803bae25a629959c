//! The one place where a request that is over is counted and, where there is an access log, recorded.

use std::sync::Arc;
use std::time::Instant;

use super::mask;
use super::tail::Tail;
use super::{AccessLog, Asked, Ended, Record};
use crate::admin::{Counters, RequestResult};
use crate::front::request_id::RequestIds;

/// What a client got.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) result: RequestResult,
    /// Zero when no answer was begun.
    pub(crate) status: u16,
    /// What went out of the answer's body.
    pub(crate) bytes: u64,
    /// The node that gave the answer, if one was asked.
    pub(crate) node: Option<&'a str>,
}

impl Sent<'_> {
    /// Something for which no node was asked now, or none that is known.
    pub(crate) const fn own(result: RequestResult, status: u16, bytes: u64) -> Self {
        Self { result, status, bytes, node: None }
    }
}

/// Counts and records. Clones share everything.
#[derive(Clone)]
pub(crate) struct Accounts {
    pub(crate) counters: Arc<Counters>,
    /// `None`: there is no access log.
    pub(crate) log: Option<Arc<AccessLog>>,
    /// For those who look on.
    pub(crate) tail: Arc<Tail>,
    /// What stands for requests.
    pub(crate) ids: Arc<RequestIds>,
}

impl Accounts {
    /// Counts, and records in the log if there is one.
    pub(crate) fn new(counters: Arc<Counters>, log: Option<Arc<AccessLog>>, ids: RequestIds) -> Self {
        let tail = Tail::new(counters.clone());
        Self { counters, log, tail, ids: Arc::new(ids) }
    }

    /// Whether heads are wanted at the end of their requests.
    pub(crate) fn is_recording(&self) -> bool {
        self.log.is_some() || self.tail.is_heard()
    }

    /// A request is over that came whole at `arrived`; `asked` tells what it was, if anybody wants to know. Returns the
    /// time, which was read for it.
    pub(crate) fn over<'a>(
        &self,
        asked: impl FnOnce() -> Asked<'a>,
        arrived: Instant,
        sent: Sent<'_>,
    ) -> Instant {
        let Sent { result, status, bytes, node } = sent;
        let now = Instant::now();
        let took = now.saturating_duration_since(arrived);
        self.counters.request(result, status, bytes, took);
        if self.is_recording() {
            let ended = Ended { result, status, sent_bytes: bytes, took, node };
            self.record(&Record { asked: asked(), ended }, now);
        }
        now
    }

    fn record(&self, record: &Record<'_>, now: Instant) {
        let Record { asked, ended } = *record;
        let mask = mask::current();
        let (target, referer) = (mask.apply(asked.target), mask.apply(asked.referer));
        let target = target.as_deref().unwrap_or(asked.target);
        let referer = referer.as_deref().unwrap_or(asked.referer);
        let record = &Record { asked: Asked { target, referer, ..asked }, ended };
        if let Some(log) = &self.log {
            log.record(record, now);
        }
        // Of a request that had come before anybody listened, and was not kept, there is nothing to show.
        if self.tail.is_heard() && !record.asked.is_forgotten {
            self.tail.show(record);
        }
    }
}
