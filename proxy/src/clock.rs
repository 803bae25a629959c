//! The time, for those who must not ask themselves: monotonic for freshness, and a date for headers.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use clearcoat_cache::Moment;

/// Clones share one beginning and one cached date.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    began: Instant,
    date: Arc<ArcSwap<(u64, Arc<str>)>>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), date: Arc::new(ArcSwap::from_pointee((0, Arc::from("")))) }
    }

    /// Time since the process began; steps of the wall clock do not touch it.
    pub(crate) fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    /// The same of a time that was read already.
    pub(crate) fn moment(&self, at: Instant) -> Moment {
        let since = at.saturating_duration_since(self.began);
        Moment::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Now as an HTTP date (RFC 9110 section 5.6.7); formatted once a second.
    pub(crate) fn http_date(&self) -> Arc<str> {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let cached = self.date.load();
        if cached.0 == second {
            return cached.1.clone();
        }
        let text: Arc<str> = httpdate::fmt_http_date(now).into();
        self.date.store(Arc::new((second, text.clone())));
        text
    }
}
