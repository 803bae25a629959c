//! Why a fetch brought no answer.

use crate::pool::Unavailable;

/// Why no node answered. Tells the client little and the operator, through the log, all.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FetchError {
    /// No node could be had.
    #[error("no node can be had")]
    Unavailable(Unavailable),
    /// The last node that was tried could not be reached.
    #[error("the connection to the node failed")]
    ConnectFailed,
    /// The last node that was tried did not answer in time.
    #[error("the node did not answer in time")]
    TimedOut,
    /// The last node that was tried broke off, or did not speak HTTP.
    #[error("the node's answer was broken off or not readable")]
    Broken,
    /// As many requests wait for the same fetch as may.
    #[error("too many requests wait for this page already")]
    Crowded,
    /// The application failed to tell what the visitor may see.
    #[error("the user context cannot be had")]
    Context,
    /// The application failed to tell the token by which purges are let in.
    #[error("the token for purges cannot be had")]
    Token,
    /// The fetch ended without a word: a defect, or the process is ending.
    #[error("the fetch was given up")]
    GivenUp,
}

impl FetchError {
    /// A short word for the detail of `Cache-Status` (RFC 9211 section 2.8).
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable(Unavailable::QueueFull) => "queue-full",
            Self::Unavailable(Unavailable::QueueTimeout) => "queue-timeout",
            Self::Unavailable(Unavailable::NoNode) => "no-node",
            Self::ConnectFailed => "connect-failed",
            Self::TimedOut => "timed-out",
            Self::Broken => "broken-off",
            Self::Crowded => "collapse-waiters",
            Self::Context => "user-context",
            Self::Token => "purge-token",
            Self::GivenUp => "given-up",
        }
    }
}
