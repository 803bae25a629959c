//! Ready-made rules for the applications that Clearcoat stands in front of.
//!
//! A preset is configuration text like any other, in `presets/`: what it says could stand in the site itself. Which rules it
//! comes to is `check`'s work.

use std::str::FromStr;

use super::purge::PurgeDialect;
use super::text::shown_as_text;
use crate::error::Invalid;

/// Ready-made values for the rules of a site; what the site says itself goes before them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Preset {
    /// Nothing beyond HTTP (RFC 9111).
    #[default]
    Http,
    /// Symfony with FOSHttpCache: ESI, and the user-context hash with its defaults.
    Symfony,
    /// eZ Platform 3, as its Varnish configuration has it.
    EzPlatform,
    /// eZ Platform 2, as its Varnish configuration has it: with the older header.
    EzPlatform2,
    /// eZ Platform 1, as its Varnish configuration has it: with the older header, and a fixed hash for anonymous visitors.
    EzPlatform1,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Http, Self::Symfony, Self::EzPlatform, Self::EzPlatform2, Self::EzPlatform1];

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Symfony => "symfony",
            Self::EzPlatform => "ez-platform",
            Self::EzPlatform2 => "ez-platform-2",
            Self::EzPlatform1 => "ez-platform-1",
        }
    }

    /// The ways in which its application asks for purges. Of one of which nothing is known all are understood; a client whose `PURGE` is
    /// read in another way than it is meant would be told of a success that is none.
    #[must_use]
    pub fn dialects(self) -> &'static [PurgeDialect] {
        use PurgeDialect::{Ban, Key, LocationId, Purge, PurgeKeys};
        match self {
            Self::Http => &PurgeDialect::ALL,
            Self::Symfony => &[Purge, PurgeKeys, Ban],
            Self::EzPlatform => &[Purge, PurgeKeys],
            Self::EzPlatform2 => &[Purge, Key, LocationId],
            Self::EzPlatform1 => &[Purge, Ban, Key, LocationId],
        }
    }

    /// Its rules as they would stand under `[[site]]`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Http => include_str!("../../presets/http.toml"),
            Self::Symfony => include_str!("../../presets/symfony.toml"),
            Self::EzPlatform => include_str!("../../presets/ez-platform.toml"),
            Self::EzPlatform2 => include_str!("../../presets/ez-platform-2.toml"),
            Self::EzPlatform1 => include_str!("../../presets/ez-platform-1.toml"),
        }
    }
}

impl FromStr for Preset {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new(format!("{text:?} is not a preset"), format!("write one of {known}"))
        })
    }
}

shown_as_text!(Preset);
