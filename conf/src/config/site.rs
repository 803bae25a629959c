//! Sites: which host goes to which pool, and what is cached there.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use super::access::{Access, BasicAuth, HeaderValue, Hsts, Maintenance, RateLimit};
use super::cache::Cache;
use super::normalise::Normaliser;
use super::pattern::{HeaderName, HostPattern, PathPattern};
use super::preset::Preset;
use super::rules::Rules;
use crate::check::{self, Origins};
use crate::error::Invalid;

/// A group of hosts with the same rules.
///
/// For a request the most exact host pattern of all sites wins: a name before `*.example.com`, a longer suffix before a
/// shorter one, `*` last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Site {
    /// At least one; no pattern stands in two places of the file.
    pub hosts: Vec<HostPattern>,
    /// The name of a pool that exists.
    pub pool: String,
    /// Ready-made values that stand below the site's own rules; filled in in `rules`. Default [`Preset::Http`].
    pub preset: Preset,
    /// Visitors who come by http are sent to https. Default false.
    pub redirect_to_https: bool,
    /// What browsers are told of https. `None`, the default: nothing.
    pub hsts: Option<Hsts>,
    /// Who may come and what is set, where no route says otherwise.
    pub gate: Gate,
    /// A page in place of the site. `None`, the default: there is none.
    pub maintenance: Option<Maintenance>,
    /// How often somebody may ask; each counts for itself. Default: any number of times.
    pub rate_limits: Vec<RateLimit>,
    /// Requests at a time that are not answered from memory. `None`, the default: any number.
    pub max_concurrent: Option<NonZeroU32>,
    /// Rules for some paths, in the order of the file; the first that matches counts.
    pub routes: Vec<Route>,
    /// What happens where no route matches or the route does not say. Default [`CachePolicy::Cache`].
    pub cache: CachePolicy,
    /// How requests and responses are treated where no route matches. Default: as `[cache]` says.
    pub rules: Rules,
    /// Request headers of which only a few values are told apart, on all routes, in the order of the file.
    pub normalise: Vec<Normaliser>,
}

impl Site {
    /// The site for every host, without routes.
    ///
    /// # Errors
    ///
    /// What is wrong with the preset, should it ship with a mistake.
    pub(crate) fn everywhere(pool: &str, preset: Preset, cache: &Cache) -> Result<Self, Invalid> {
        let outer = (&Rules::of_cache(cache), &Origins::default());
        let (rules, _, mistakes) = check::preset::expand(preset, outer);
        if let Some(mistake) = mistakes.into_iter().next() {
            return Err(Invalid::new(mistake.message, mistake.hint));
        }
        Ok(Self {
            hosts: vec![HostPattern::Any],
            pool: pool.to_owned(),
            preset,
            redirect_to_https: false,
            hsts: None,
            gate: Gate::default(),
            maintenance: None,
            rate_limits: Vec::new(),
            max_concurrent: None,
            routes: Vec::new(),
            cache: CachePolicy::default(),
            rules,
            normalise: Vec::new(),
        })
    }
}

/// What stands before a site or route.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Gate {
    /// Which addresses may come. Default: all.
    pub access: Access,
    /// A password. `None`, the default: none is asked for.
    pub basic_auth: Option<BasicAuth>,
    /// Bytes that the body of a request may have. `None`, the default: as `limits.max_body` says.
    pub max_body: Option<NonZeroU64>,
    /// Response headers that visitors are shown in place of the node's. Default: none.
    pub response_headers: BTreeMap<HeaderName, HeaderValue>,
}

/// A rule for some paths of a site.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Which paths.
    pub path: PathPattern,
    /// Whether they are cached. Default: as the site says; filled in here.
    pub cache: CachePolicy,
    /// Another pool than the site's; one that exists. `None`, the default: the site's.
    pub pool: Option<String>,
    /// What stands before it; what the route leaves open is filled in from its site.
    pub gate: Gate,
    /// How requests and responses are treated here; what the route leaves open is filled in from its site.
    pub rules: Rules,
}

/// Whether responses may be stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CachePolicy {
    /// What HTTP allows to be stored is stored (RFC 9111).
    #[default]
    Cache,
    /// Nothing is stored or served from memory (Varnish's `return (pass)`).
    Pass,
}

impl CachePolicy {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Pass => "pass",
        }
    }
}
