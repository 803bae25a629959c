//! Who said for how long a response is fresh: for operators who ask why, and for rules that trust a response's own word
//! more than one that was said of many without looking.

use super::source::{Field, Word};

/// Who said for how long a response is fresh.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SaidBy {
    /// Nobody: it is never fresh.
    #[default]
    Nobody,
    /// The operator, over the head of the response.
    Override,
    /// `X-Reverse-Proxy-TTL`.
    ReverseProxyTtl,
    /// `s-maxage` in a targeted field (RFC 9213).
    TargetedSMaxage,
    /// `max-age` in a targeted field.
    TargetedMaxAge,
    /// `max-age` in `Surrogate-Control`.
    SurrogateControl,
    /// `s-maxage` in `Cache-Control`.
    SMaxage,
    /// `max-age` in `Cache-Control`.
    MaxAge,
    /// `Expires`.
    Expires,
    /// The operator, for responses of this status or class that say nothing.
    StatusTtl,
    /// A guess from `Last-Modified` (RFC 9111 §4.2.2).
    Heuristic,
    /// The operator, for responses that say nothing.
    DefaultTtl,
}

impl SaidBy {
    /// Whether the operator did, who knows no single response, or it was guessed on his word. Else the response was made to
    /// be shared for so long.
    pub const fn is_operator(self) -> bool {
        match self {
            Self::Override | Self::StatusTtl | Self::Heuristic | Self::DefaultTtl => true,
            Self::Nobody | Self::ReverseProxyTtl | Self::TargetedSMaxage | Self::TargetedMaxAge => false,
            Self::SurrogateControl | Self::SMaxage | Self::MaxAge | Self::Expires => false,
        }
    }

    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Override => "ttl in the configuration",
            Self::ReverseProxyTtl => "X-Reverse-Proxy-TTL",
            Self::TargetedSMaxage => "s-maxage in a targeted field (RFC 9213)",
            Self::TargetedMaxAge => "max-age in a targeted field (RFC 9213)",
            Self::SurrogateControl => "max-age in Surrogate-Control",
            Self::SMaxage => "s-maxage in Cache-Control",
            Self::MaxAge => "max-age in Cache-Control",
            Self::Expires => "Expires",
            Self::StatusTtl => "status_ttl in the configuration",
            Self::Heuristic => "a guess from Last-Modified (heuristic_percent)",
            Self::DefaultTtl => "default_ttl in the configuration",
        }
    }

    /// The directives that name a lifetime in `word`, if they do: `s-maxage` goes before `max-age`.
    pub(super) fn of_directives(word: &Word) -> Self {
        match (word.field, word.control.s_maxage.is_some()) {
            (Field::Targeted, true) => Self::TargetedSMaxage,
            (Field::Targeted, false) => Self::TargetedMaxAge,
            (Field::Surrogate, _) => Self::SurrogateControl,
            (Field::CacheControl, true) => Self::SMaxage,
            (Field::CacheControl, false) => Self::MaxAge,
        }
    }
}
