//! The names of what is recorded of a request, for those who write formats and filters.

use crate::check::{listed, nearest};
use crate::error::Invalid;

/// What a field holds, and so what it is compared with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFieldKind {
    /// Bytes that somebody chose, or a word of ours.
    Text,
    /// An IP address.
    Address,
    /// A number without a unit.
    Number,
    /// Bytes.
    Size,
    /// Microseconds.
    Duration,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident $name:literal $kind:ident)+) => {
        /// One thing that is recorded of a request.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum LogField {
            $($(#[$doc])* $variant,)+
        }

        impl LogField {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it holds.
            #[must_use]
            pub const fn kind(self) -> LogFieldKind {
                match self {
                    $(Self::$variant => LogFieldKind::$kind,)+
                }
            }
        }
    };
}

fields! {
    /// Who asked.
    Client "client" Address
    /// The method.
    Method "method" Text
    /// The host, as it was asked for.
    Host "host" Text
    /// Path and query.
    Target "target" Text
    /// The target up to its `?`.
    Path "path" Text
    /// What stands behind the `?`.
    Query "query" Text
    /// The version of HTTP, such as `HTTP/1.1`.
    Version "version" Text
    /// The status of the answer; 499 if its client left before it began.
    Status "status" Number
    /// What went out of the answer's body.
    Bytes "bytes" Size
    /// From the end of the request's head to the last byte of the answer.
    Duration "duration" Duration
    /// How it was answered: `hit`, `miss`, `pass` and so on.
    Result "result" Text
    /// The node that answered, if one did.
    Node "node" Text
    /// The header Referer.
    Referer "referer" Text
    /// The header User-Agent.
    UserAgent "user_agent" Text
    /// What stands for the request in every log.
    RequestId "request_id" Text
}

impl LogField {
    /// The field of this name.
    ///
    /// # Errors
    ///
    /// [`Invalid`] with the name that is most like it.
    pub fn find(name: &str) -> Result<Self, Invalid> {
        if let Some(field) = Self::ALL.iter().find(|field| field.name() == name) {
            return Ok(*field);
        }
        let names = || Self::ALL.iter().map(|field| field.name());
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("the fields are {}", listed(names())),
        };
        Err(Invalid::new(format!("there is no field {name:?}"), hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_or_the_nearest_is_told() {
        for field in LogField::ALL {
            assert_eq!(LogField::find(field.name()), Ok(*field));
        }
        let told = |name| LogField::find(name).map_err(|invalid| invalid.hint().to_owned());
        assert_eq!(told("stauts"), Err("did you mean status?".into()));
        assert_eq!(told("duration_us"), Err("did you mean duration?".into()));
        assert!(told("zzzzzzzzz").is_err_and(|hint| hint.starts_with("the fields are client, method")));
    }
}
