//! Values that must not show up in logs.

use std::fmt;
use std::str::FromStr;

use crate::error::Invalid;

/// A token. `Debug` hides it. `==` is for comparing configurations; compare what a client sent in constant time.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The token itself: one or more visible ASCII characters, so that it fits a header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("the secret is empty", "leave the key out to have none"));
        }
        // The text is not repeated: messages end up in logs.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid::new(
                "the secret has characters that do not fit a header",
                "use letters, digits and punctuation of ASCII, without spaces",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_are_hidden_and_fit_a_header() {
        let secret: Secret = "s3cr3t".parse().unwrap();
        assert_eq!(secret.expose(), "s3cr3t");
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        for bad in ["", "two words", "line\nbreak", "ü"] {
            assert!(bad.parse::<Secret>().is_err(), "input: {bad:?}");
        }
    }
}
