//! What a purge request means, who may send it, and carrying it out.
//!
//! Three steps: [`Reader::read`] turns method and headers into a [`PurgeRequest`], [`Guard::admit`] makes an [`Admitted`] of
//! it, and [`apply`](apply()) takes nothing else. The crate opens no sockets and reads no clock.

mod apply;
mod ban;
mod guard;
mod pattern;
mod request;

use http::HeaderName;

pub use apply::{Outcome, apply};
pub use ban::BanCondition;
pub use guard::{Admitted, Guard, Settings};
pub use pattern::InvalidPattern;
pub use request::{Dialect, Dialects, PurgeRequest, Reader};

/// What is wrong with a ban.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadBan {
    /// It says nothing of what it is about.
    #[error("none of X-Host, X-Url, X-Content-Type and the tag headers is set")]
    Nothing,
    /// The same line came twice.
    #[error("{name} is there twice")]
    Twice {
        /// Its name.
        name: HeaderName,
    },
    /// Two headers have expressions for tags.
    #[error("two headers have expressions for tags")]
    TagsTwice,
    /// An expression cannot be used.
    #[error("the expression in {name} cannot be used: {source}")]
    Pattern {
        /// The line that has it.
        name: HeaderName,
        /// What is wrong with it.
        source: InvalidPattern,
    },
    /// A purge by location has no number.
    #[error("X-Location-Id and X-Group-Location-Id take numbers, or *")]
    NoLocation,
}

/// Why a purge is not carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
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
    /// A ban cannot be one.
    #[error(transparent)]
    BadBan(#[from] BadBan),
    /// More bans are waiting than are taken.
    #[error(transparent)]
    TooManyBans(#[from] clearcoat_cache::TooManyBans),
}

impl PurgeError {
    /// The status of the answer. A refused sender gets 405, as from the VCL that clients know.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Denied { .. } | Self::Method => 405,
            Self::NoKeys | Self::BadTags(_) | Self::BadBan(_) => 400,
            Self::TooManyBans(_) => 503,
        }
    }

    /// The reason phrase of the answer.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Denied { .. } | Self::Method => "Method not allowed",
            Self::NoKeys => "Neither header XKey-Purge or XKey-SoftPurge set",
            Self::BadTags(_) => "Bad tag list",
            Self::BadBan(_) => "Bad ban",
            Self::TooManyBans(_) => "Too many bans",
        }
    }
}
