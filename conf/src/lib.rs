//! The configuration file of Clearcoat: text as written, checked values, schema.
//!
//! Reading takes two steps. `file` mirrors the TOML and knows serde; `check` turns it into a [`Config`], which cannot be
//! wrong, or into [`Mistakes`], which name every wrong place with line, column and a hint. [`schema()`] is generated from
//! the same types, so that editors, the check and the reader know the same keys.
//!
//! This crate opens no sockets and reads no clock. The only files it reads are the configuration itself ([`load`]) and
//! the secrets that it names; [`parse`] takes the environment as an argument, [`load`] hands it that of the process.

mod check;
mod config;
mod error;
mod file;
mod render;
mod schema;
pub mod units;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use crate::check::{explain, parse};
pub use crate::config::{
    Access, AccessFormat, AccessLog, AccessTarget, Admin, Balance, BasicAuth, BodyPattern, Cache,
    CachePolicy, Certificate, Class, ClientAuth, ClientHeader, Coding, Compress, Config, CookieName,
    CookiePolicy, Dns, EsiLimits, Gate, HashOn, HeaderName, HeaderPattern, HeaderText, HeaderValue, Health,
    HostPattern, Hsts, KeepCookies, LanguageTag, Limits, Listen, ListenAddress, ListenTls, Log, LogField,
    LogFieldKind, LogFormat, LogLevel, Maintenance, MaskedName, MediaType, MemcachedAddress, Method,
    NamePattern, Node, NodeAddress, NodeName, NodeTls, NormaliseHow, Normaliser, Passive, PasswordHash,
    PathPattern, Peer, Pin, Pool, Preset, Probe, ProbeMethod, Process, ProxyVersion, Purge, PurgeDialect,
    QueryNames, QueryRules, Queue, Rate, RateKey, RateLimit, RequestIds, RequestNoCache, Retry, Route, Rules,
    Sandbox, Secret, SessionMode, Sessions, SetCookiePolicy, Site, SocketFile, StatusKey, StatusList,
    StatusTtls, Timeouts, TypePattern, UrlSuffix, UserContext, parse_net,
};
pub use crate::error::{Invalid, Mistake, Mistakes, Place};
pub use crate::schema::schema;

/// The largest configuration that is read, in bytes. Thousands of sites fit.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads and checks a configuration file. `env` looks up variables for `{ env = … }`.
///
/// # Errors
///
/// [`Mistakes`]: every mistake of the file, or the one reason why it could not be read.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Mistakes> {
    let (text, name) = named(path)?;
    let mut config = parse(&text, &name, env)?;
    config.files.insert(0, path.to_owned());
    Ok(config)
}

/// As [`explain`], from a file.
///
/// # Errors
///
/// As [`load`].
pub fn explain_file(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Mistakes> {
    let (text, name) = named(path)?;
    explain(&text, &name, env)
}

/// The text of a file, and what mistakes call it.
fn named(path: &Path) -> Result<(String, String), Mistakes> {
    let name = path.display().to_string();
    match read(path) {
        Ok(text) => Ok((text, name)),
        Err((message, hint, place)) => Err(Mistakes::from(Mistake {
            file: name,
            place,
            key: String::new(),
            message,
            hint: hint.to_owned(),
        })),
    }
}

/// Reads the text of a file, or says why not.
fn read(path: &Path) -> Result<String, (String, &'static str, Option<Place>)> {
    let unreadable = |error: std::io::Error| {
        (format!("the file cannot be read: {error}"), "give the path of a readable TOML file", None)
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err((
            format!("the file is larger than {}", units::show_size(MAX_FILE_BYTES)),
            "is it the right file?",
            None,
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default()).into_owned();
        (
            "the file is not UTF-8 here".to_owned(),
            "save it as UTF-8",
            Some(error::Lines::of(&before).place(before.len())),
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    #[test]
    fn a_missing_file_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let mistakes = load(&folder.path().join("none.toml"), &|_| None).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes.to_string().contains("none.toml: the file cannot be read: "), "{mistakes}");
    }

    #[test]
    fn bytes_that_are_not_utf8_have_a_place() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"threads = 1\n# \xff\n").unwrap();
        let mistakes = load(file.path(), &|_| None).unwrap_err();
        assert_eq!(mistakes.iter().next().unwrap().place, Some(Place { line: 2, column: 3 }), "{mistakes}");
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(load(file.path(), &|_| None).unwrap_err().to_string().contains("larger than 4MiB"));
    }

    #[test]
    fn a_good_file_is_loaded() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/minimal.toml");
        assert_eq!(load(&path, &|_| None).unwrap().sites.len(), 1);
    }
}
