//! Where the value of each rule of a site or route comes from, for those who read the whole of it.
//!
//! This only looks at which keys are written where. What they come to is decided elsewhere, in the same order: the cache,
//! the preset, the site, the route.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::Preset;
use crate::file::CacheTable;

/// Who said a value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Origin {
    /// Nobody.
    #[default]
    Default,
    /// The `[cache]` table.
    Cache,
    /// The preset of the site.
    Preset(Preset),
    /// The site.
    Site,
    /// The route.
    Route,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::Cache => out.write_str("[cache]"),
            Self::Preset(preset) => write!(out, "preset {preset}"),
            Self::Site => out.write_str("site"),
            Self::Route => out.write_str("route"),
        }
    }
}

/// Who said each rule of a site or route. What is not in it is a default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Origins(BTreeMap<&'static str, Origin>);

/// Who said the rules of a site and those of its routes, in their order.
#[derive(Debug)]
pub(crate) struct SiteOrigins {
    pub(crate) site: Origins,
    pub(crate) routes: Vec<Origins>,
}

impl Origins {
    /// Of the rules of a site that says nothing itself.
    pub(super) fn of_cache(table: Option<&CacheTable>) -> Self {
        let Some(table) = table else { return Self::default() };
        let compress = table.compress.as_ref().is_some_and(|compress| compress.value.enabled.is_some());
        let written = [
            ("default_ttl", table.default_ttl.is_some()),
            ("status_ttl", table.status_ttl.is_some()),
            ("grace", table.grace.is_some()),
            ("keep", table.keep.is_some()),
            ("stale_if_error", table.stale_if_error.is_some()),
            ("uncacheable_ttl", table.uncacheable_ttl.is_some()),
            ("compress", compress),
        ];
        Self(written.into_iter().filter(|(_, is)| *is).map(|(key, _)| (key, Origin::Cache)).collect())
    }

    /// With what is written one step further in.
    pub(super) fn under(&self, written: &[&'static str], origin: Origin) -> Self {
        let mut origins = self.clone();
        for key in written {
            if *key == USER_CONTEXT {
                // Turned off, it is forgotten as a whole.
                origins.0.retain(|key, _| !key.starts_with(USER_CONTEXT));
            }
            origins.0.insert(key, origin);
        }
        origins
    }

    /// Who said a key, or the table that it belongs to.
    pub(crate) fn of(&self, key: &str) -> Origin {
        let table = key.split('.').next().filter(|table| *table != USER_CONTEXT);
        let found = self.0.get(key).or_else(|| self.0.get(table?));
        found.copied().unwrap_or_default()
    }
}

/// The one table whose keys are inherited one by one.
const USER_CONTEXT: &str = "user_context";
