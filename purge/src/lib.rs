//! What a purge request means, who may send it, and carrying it out.
//!
//! Three steps: [`read`] turns method and headers into a [`PurgeRequest`], [`Guard::admit`] makes an [`Admitted`] of
//! it, and [`apply`](apply()) takes nothing else. The crate opens no sockets and reads no clock.

mod apply;
mod guard;
mod request;

pub use apply::{Outcome, apply};
pub use guard::{Admitted, Guard, Settings};
pub use request::{PurgeRequest, is_purge_method, read};

/// Why a purge is not carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PurgeError {
    /// The sender is on no list, or the token is not the right one. Which of the two is not told.
    #[error("{} may not purge", sender.map_or_else(|| "a local client".to_owned(), |address| address.to_string()))]
    Denied {
        /// Who sent it; none for a local socket.
        sender: Option<std::net::IpAddr>,
    },
    /// The method is none of those that purge.
    #[error("the method does not purge")]
    Method,
    /// A purge by tags that brought no header with tags. The words are those of the VCL that clients know.
    #[error("Neither header XKey-Purge or XKey-SoftPurge set")]
    NoKeys,
    /// A tag cannot be one.
    #[error("the tag list is not usable")]
    BadTags(#[from] clearcoat_cache::tag::InvalidTag),
}

impl PurgeError {
    /// The status of the answer. A refused sender gets 405, as from the VCL that clients know.
    pub const fn status(self) -> u16 {
        match self {
            Self::Denied { .. } | Self::Method => 405,
            Self::NoKeys | Self::BadTags(_) => 400,
        }
    }

    /// The reason phrase of the answer.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Denied { .. } | Self::Method => "Method not allowed",
            Self::NoKeys => "Neither header XKey-Purge or XKey-SoftPurge set",
            Self::BadTags(_) => "Bad tag list",
        }
    }
}
