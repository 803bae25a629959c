//! Spans of time as entries keep them.

use std::time::Duration;

/// A span of time in four bytes: milliseconds up to 24 days, above that whole seconds, rounded down, up to 68 years,
/// which is as long as a response can ask for (RFC 9111 §1.2.2).
#[derive(Clone, Copy)]
pub(super) struct Span(u32);

impl Span {
    /// Set when the rest counts seconds.
    const SECONDS: u32 = 1 << 31;

    pub(super) fn new(span: Duration) -> Self {
        match u32::try_from(span.as_millis()) {
            Ok(millis) if millis < Self::SECONDS => Self(millis),
            Ok(_) | Err(_) => Self(Self::SECONDS | whole_seconds(span).min(Self::SECONDS - 1)),
        }
    }

    pub(super) fn duration(self) -> Duration {
        if self.0 & Self::SECONDS == 0 {
            Duration::from_millis(u64::from(self.0))
        } else {
            Duration::from_secs(u64::from(self.0 & !Self::SECONDS))
        }
    }
}

/// `span` without its fraction; what does not fit is clamped.
pub(super) fn whole_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}
