//! From the file as written to the checked values, collecting all mistakes.
//!
//! Three steps, each on what the one before left over:
//! 1. TOML. A syntax error is the only mistake that is reported alone: what follows it cannot be understood.
//! 2. `shape`: unknown keys, wrong types, unknown words, numbers out of range, missing keys, all by the schema. What is
//!    wrong is reported and taken out, so that the rest still becomes `file` types.
//! 3. The meaning of the values, in the modules named as the parts of the file.
//!
//! A value that is wrong is reported once and stands as its default from then on; the configuration is only handed out if
//! nothing was reported.

mod access;
mod cache;
mod listen;
mod misc;
mod nets;
mod normalise;
mod origin;
mod pool;
pub(crate) mod preset;
mod process;
mod purge;
mod rules;
mod sessions;
mod shape;
mod site;
mod text_file;
mod user_context;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::IntoDeserializer;
use toml::de::DeTable;

pub(crate) use self::origin::{Origins, SiteOrigins};
use crate::config::{Config, Site, default};
use crate::error::{Invalid, Lines, Mistake, Mistakes};
use crate::file::{At, DurationText, File, SizeText};
use crate::units;

/// Reads and checks a configuration.
///
/// `name` is what the mistakes call the file; relative paths in it start from its folder. `env` looks up environment
/// variables. No file is read but those of `{ file = "PATH" }` secrets.
///
/// # Errors
///
/// [`Mistakes`]: every mistake of the text, at least one.
pub fn parse(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Mistakes> {
    read(text, name, env).map(|(config, _)| config)
}

/// As [`parse`], and the whole configuration as text: every default filled in, and behind each rule of a site or route where it
/// comes from. It is a configuration again, but for secrets, which it does not show.
///
/// # Errors
///
/// [`Mistakes`]: every mistake of the text, at least one.
pub fn explain(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Mistakes> {
    read(text, name, env).map(|(config, origins)| config.explained(&origins))
}

fn read(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<SiteOrigins>), Mistakes> {
    let mut check = Check::new(text, name, env);
    let done = check.run();
    match (Mistakes::collect(check.mistakes), done) {
        (Some(mistakes), _) => Err(mistakes),
        (None, Some(done)) => Ok(done),
        (None, None) => Err(Mistakes::from(Mistake {
            file: name.to_owned(),
            place: None,
            key: String::new(),
            message: "the file cannot be understood".to_owned(),
            hint: "compare it with the examples".to_owned(),
        })),
    }
}

/// What all steps share: the text, where its keys are, and the mistakes so far.
struct Check<'a> {
    text: &'a str,
    lines: Lines<'a>,
    name: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    /// The key of every value, by the bytes where it stands; filled by `shape`. Of a table and its first key that share
    /// their bytes, the inner one counts.
    keys: HashMap<Range<usize>, String>,
    /// Lists and tables that lost something to `shape`: that they are now empty is no second mistake.
    damaged: HashSet<Range<usize>>,
    /// The keys that `shape` took out although they exist: what names them makes no second mistake.
    lost: HashSet<String>,
    mistakes: Vec<Mistake>,
    /// Files that were read.
    files: RefCell<Vec<PathBuf>>,
}

impl<'a> Check<'a> {
    fn new(text: &'a str, name: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            text,
            lines: Lines::of(text),
            name,
            env,
            keys: HashMap::new(),
            damaged: HashSet::new(),
            lost: HashSet::new(),
            mistakes: Vec::new(),
            files: RefCell::default(),
        }
    }

    /// The three steps. `None` only together with a mistake.
    fn run(&mut self) -> Option<(Config, Vec<SiteOrigins>)> {
        let mut tree = match DeTable::parse(self.text) {
            Ok(tree) => tree,
            Err(error) => {
                self.report_toml(&error);
                return None;
            }
        };
        shape::check(self, &mut tree);
        match serde::Deserialize::deserialize(tree.into_deserializer()) {
            Ok(file) => Some(self.config(file)),
            Err(error) => {
                // Not reached as long as `shape` knows all that serde minds.
                self.report_toml(&error);
                None
            }
        }
    }

    fn config(&mut self, file: File) -> (Config, Vec<SiteOrigins>) {
        let pools = pool::check(self, file.pools.unwrap_or_default());
        let cache_origins = Origins::of_cache(file.cache.as_ref().map(|at| &at.value));
        let cache = cache::check(self, file.cache);
        let (sites, origins) =
            site::check(self, file.site, &pools, (&cache, cache_origins)).into_iter().unzip();
        let sites: Vec<Site> = sites;
        let purge = purge::check(self, file.purge, sites.iter().map(|site| site.preset));
        let (listen, admin) = listen::check(self, file.listen, file.admin, &purge.dialects);
        let mut taken: Vec<_> = listen.iter().map(|listen| listen.address.clone()).collect();
        taken.extend(admin.iter().map(|admin| admin.address.clone()));
        let sessions = sessions::check(self, file.sessions, &taken);
        let config = Config {
            listen,
            admin,
            cache,
            sites,
            pools: pools.into_iter().filter_map(|(name, pool)| Some((name, pool?))).collect(),
            purge,
            sessions,
            limits: misc::limits(self, file.limits),
            process: process::check(self, file.process),
            log: misc::log(self, file.log),
            shutdown_timeout: self.duration(file.shutdown_timeout, default::SHUTDOWN_TIMEOUT),
            threads: file.threads.and_then(|at| usize::try_from(at.value).ok()).and_then(NonZeroUsize::new),
            files: self.files.take(),
        };
        (config, origins)
    }

    /// Reports a mistake at some bytes of the text; the key is found by them.
    fn report(&mut self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        let key = self.keys.get(span).cloned().unwrap_or_default();
        self.report_key(span, key, message, hint);
    }

    fn report_key(
        &mut self,
        span: &Range<usize>,
        key: String,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let place = Some(self.lines.place(span.start));
        self.mistakes.push(Mistake {
            file: self.name.to_owned(),
            place,
            key,
            message: message.into(),
            hint: hint.into(),
        });
    }

    fn report_invalid(&mut self, span: &Range<usize>, invalid: &Invalid) {
        self.report(span, invalid.problem(), invalid.hint());
    }

    fn report_toml(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        // One mistake is one line, whatever the parser says.
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let hint = if message.contains("duplicate") {
            "keep one of the two"
        } else {
            "text stands in quotes, a table begins with [name], a comment with #"
        };
        self.report(&span, format!("not TOML: {message}"), hint);
    }

    /// Whether something has been reported for a key or for what is inside it. A rule between two keys says nothing then.
    fn is_wrong(&self, key: &str) -> bool {
        self.mistakes.iter().any(|mistake| {
            let rest = mistake.key.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The key of the value that stands at some bytes, with another one under it.
    fn key_under(&self, span: &Range<usize>, name: &str) -> String {
        shape::join(self.keys.get(span).map_or("", String::as_str), name)
    }

    /// Whether a pool of this name is in the text, although `shape` took it out.
    fn lost_pool(&self, name: &str) -> bool {
        self.lost.contains("pools") || self.lost.contains(&shape::join("pools", name))
    }

    /// The line where something stands, for "as in line 5".
    fn line(&self, span: &Range<usize>) -> usize {
        self.lines.place(span.start).line
    }

    /// Reads a text value by its type's own rule; reported and `None` if that fails.
    fn value<T: FromStr<Err = Invalid>>(&mut self, at: &At<String>) -> Option<T> {
        self.read(&at.span, at.value.parse())
    }

    /// Takes a value out of its result; reported and `None` if it is none.
    fn read<T>(&mut self, span: &Range<usize>, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|invalid| self.report_invalid(span, &invalid)).ok()
    }

    /// A duration, or `default` where none is given.
    fn duration(&mut self, at: Option<At<DurationText>>, default: Duration) -> Duration {
        at.and_then(|at| self.read(&at.span, units::duration(&at.value.0))).unwrap_or(default)
    }

    /// A duration that is not zero; `instead` says what to write for "never" or "off".
    fn positive_duration(
        &mut self,
        at: Option<At<DurationText>>,
        default: Duration,
        instead: &str,
    ) -> Duration {
        let Some(at) = at else { return default };
        match self.read(&at.span, units::duration(&at.value.0)) {
            Some(duration) if duration.is_zero() => {
                self.report(&at.span, "zero is not possible here", instead);
                default
            }
            Some(duration) => duration,
            None => default,
        }
    }

    /// A size within bounds, both included, or `default` where none is given.
    fn size(
        &mut self,
        at: Option<&At<SizeText>>,
        bounds: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let Some(at) = at else { return default };
        let Some(bytes) = self.read(&at.span, units::size(&at.value.0)) else { return default };
        if bounds.contains(&bytes) {
            return bytes;
        }
        let (least, most) = (units::show_size(*bounds.start()), units::show_size(*bounds.end()));
        let hint = if *bounds.end() == u64::MAX {
            format!("write {least} or more")
        } else {
            format!("write a size from {least} to {most}")
        };
        self.report(&at.span, format!("{} is not possible here", units::show_size(bytes)), hint);
        default
    }

    /// The most bytes that a request body may have; reported and `None` if there is no such size.
    fn body_size(&mut self, at: &At<SizeText>) -> Option<NonZeroU64> {
        let bytes = NonZeroU64::new(self.read(&at.span, units::size(&at.value.0))?);
        if bytes.is_none() {
            self.report(&at.span, "zero is not possible here", "leave the key out to have no limit");
        }
        bytes
    }

    /// A path; a relative one starts from the folder of the file.
    fn path(&self, text: &str) -> PathBuf {
        // `join` takes an absolute path as it is.
        Path::new(self.name).parent().unwrap_or(Path::new("")).join(text)
    }
}

/// A number whose range `shape` has checked already; `default` where none is given.
fn number<N: TryFrom<u64>>(at: Option<At<u64>>, default: N) -> N {
    at.and_then(|at| N::try_from(at.value).ok()).unwrap_or(default)
}

/// As [`number`], for what is at least one.
fn count(at: Option<At<u64>>, default: NonZeroU32) -> NonZeroU32 {
    optional_count(at).unwrap_or(default)
}

/// As [`count`], without a default.
fn optional_count(at: Option<At<u64>>) -> Option<NonZeroU32> {
    at.and_then(|at| u32::try_from(at.value).ok()).and_then(NonZeroU32::new)
}

/// Reads a list whose items may stand in it once.
fn distinct<T: PartialEq + ToString>(
    check: &mut Check<'_>,
    list: At<Vec<At<String>>>,
    what: &str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Vec<T> {
    let mut items: Vec<T> = Vec::with_capacity(list.value.len());
    for at in list.value {
        let Some(item) = check.read(&at.span, parse(&at.value)) else { continue };
        if items.contains(&item) {
            let message = format!("the {what} {} stands in this list already", item.to_string());
            check.report(&at.span, message, "take it out");
            continue;
        }
        items.push(item);
    }
    items
}

/// Of the names that exist, the one that is most like `name`, if one is alike at all.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    /// Below this, two names have less in common than a slip of the finger leaves.
    const ALIKE: f64 = 0.6;
    let name = name.to_lowercase();
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(&name, &other.to_lowercase());
    let best =
        known.into_iter().map(|other| (likeness(other), other)).max_by(|one, two| one.0.total_cmp(&two.0));
    best.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, other)| other)
}

/// The names that exist, for a hint; a long list is cut.
pub(crate) fn listed<'n>(known: impl IntoIterator<Item = &'n str>) -> String {
    const MOST: usize = 20;
    let names: Vec<_> = known.into_iter().collect();
    let shown = names.get(..MOST).unwrap_or(&names).join(", ");
    if names.len() > MOST { format!("{shown}, …") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        let known = ["health", "nodes", "balance"];
        for (name, expected) in [
            ("helth", Some("health")),
            ("node", Some("nodes")),
            ("Balance", Some("balance")),
            ("blaance", Some("balance")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "input: {name:?}");
        }
        assert_eq!(nearest("web", []), None);
    }
}
