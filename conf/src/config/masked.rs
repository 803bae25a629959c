//! Names of parameters whose values no log shows.

use std::str::FromStr;

use super::text::shown_as_text;
use crate::error::Invalid;

/// The name of a parameter (`sig`), or what stands at its begin (`eZSESSID*`), its end (`*token`) or anywhere in it (`*secret*`).
/// In lower case, for case does not count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MaskedName(String);

impl MaskedName {
    /// The longest name.
    const MOST_BYTES: usize = 64;

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Those that are masked where nothing is said.
    pub(crate) fn usual() -> Vec<Self> {
        const USUAL: [&str; 17] = [
            "*token",
            "*password*",
            "*passwd*",
            "*passphrase*",
            "pwd",
            "*secret*",
            "key",
            "*api_key",
            "*api-key",
            "*apikey",
            "*signature",
            "sig",
            "*hash",
            "jwt",
            "authorization",
            "PHPSESSID",
            "eZSESSID*",
        ];
        USUAL.iter().map(|name| Self(name.to_ascii_lowercase())).collect()
    }
}

impl FromStr for MaskedName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let inner = text.strip_prefix('*').unwrap_or(text);
        let inner = inner.strip_suffix('*').unwrap_or(inner);
        let is_name = (1..=Self::MOST_BYTES).contains(&inner.len())
            && inner.bytes().all(|byte| byte.is_ascii_graphic() && !b"*&=?#;%+".contains(&byte));
        if !is_name {
            return Err(Invalid::new(
                format!("{text:?} is not the name of a parameter"),
                "write a name, with * at its begin or end if anything may stand there, such as *token",
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

shown_as_text!(MaskedName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for (text, expected) in [
            ("sig", Some("sig")),
            ("*_Token", Some("*_token")),
            ("eZSESSID*", Some("ezsessid*")),
            ("*secret*", Some("*secret*")),
            ("", None),
            ("*", None),
            ("**", None),
            ("a*b", None),
            ("a=b", None),
            ("a b", None),
        ] {
            assert_eq!(text.parse::<MaskedName>().ok().as_ref().map(MaskedName::as_str), expected, "{text}");
        }
        for name in MaskedName::usual() {
            assert_eq!(name.as_str().parse(), Ok(name.clone()));
        }
    }
}
