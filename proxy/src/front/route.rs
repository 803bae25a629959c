//! Which site and route a request belongs to: tables made once from the configuration, no pattern matching by regex.
//!
//! Sites: the exact host first, then the longest matching `*.suffix`, then `*`. Routes of a site: in the order of the
//! file, the first that matches; none is the site's own default.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clearcoat_cache::{FreshnessSettings, SelectingHeaders};
use siphasher::sip::SipHasher13;

use crate::pool::Pool;

/// A pattern for paths (without the query).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum PathRule {
    /// This path.
    Exact(Box<str>),
    /// Paths that begin so.
    Prefix(Box<str>),
    /// Paths that end so.
    Suffix(Box<str>),
}

impl PathRule {
    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(text) => path == text.as_bytes(),
            Self::Prefix(text) => path.starts_with(text.as_bytes()),
            Self::Suffix(text) => path.ends_with(text.as_bytes()),
        }
    }
}

/// What hashing over the nodes goes by.
#[derive(Clone, Debug)]
pub(crate) enum HashOn {
    /// Path and query.
    Path,
    /// The value of a request header, by its lower-case name.
    Header(Box<str>),
    /// The value of the first cookie whose name matches.
    Cookie(clearcoat_conf::CookiePattern),
    /// The client's address.
    Client,
}

/// What is to be done with requests of one route.
#[derive(Clone, Debug)]
pub(crate) struct Treatment {
    pub(crate) pool: Arc<Pool>,
    /// What the pool hashes, when it balances so.
    pub(crate) hash_on: Option<HashOn>,
    /// Requests go to the node as they are and answers are not stored.
    pub(crate) pass: bool,
    pub(crate) freshness: FreshnessSettings,
    pub(crate) uncacheable_for: Duration,
}

/// One route: a path and what is done there.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) path: PathRule,
    pub(crate) treatment: Treatment,
}

/// Routes and default of one site.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) routes: Vec<Route>,
    pub(crate) default: Treatment,
}

/// A pattern for hosts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum HostRule {
    /// Any.
    Any,
    /// Names below this one; with the leading dot, lower-case.
    Below(Box<str>),
    /// This one, lower-case.
    Exact(Box<str>),
}

/// All sites, by host.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    exact: HashMap<Box<[u8]>, Arc<Site>>,
    /// Longest suffix first.
    below: Vec<(Box<str>, Arc<Site>)>,
    any: Option<Arc<Site>>,
}

impl RouteTable {
    pub(crate) fn new(sites: impl IntoIterator<Item = (Vec<HostRule>, Site)>) -> Self {
        let mut table = Self::default();
        for (hosts, site) in sites {
            let site = Arc::new(site);
            for host in hosts {
                match host {
                    HostRule::Any => table.any = Some(site.clone()),
                    HostRule::Below(suffix) => table.below.push((suffix, site.clone())),
                    HostRule::Exact(name) => {
                        table.exact.insert(name.into_boxed_bytes(), site.clone());
                    }
                }
            }
        }
        table.below.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        table
    }

    /// What is to be done with a request for this host (any case, maybe with a port) and target; `None` when no site
    /// is for it.
    pub(crate) fn find(&self, host: &[u8], target: &[u8]) -> Option<&Treatment> {
        let site = self.site(host)?;
        let path = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
        let route = site.routes.iter().find(|route| route.path.matches(path));
        Some(route.map_or(&site.default, |route| &route.treatment))
    }

    fn site(&self, host: &[u8]) -> Option<&Site> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.any.as_deref();
        }
        let mut room = [0; 256];
        let name = plain_name(host, &mut room)?;
        self.exact
            .get(name)
            .or_else(|| {
                let found = self
                    .below
                    .iter()
                    .find(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix.as_bytes()));
                found.map(|(_, site)| site)
            })
            .or(self.any.as_ref())
            .map(Arc::as_ref)
    }
}

/// The host in lower case, without port and closing dot; `None` when it is longer than a name may be.
fn plain_name<'a>(host: &[u8], room: &'a mut [u8; 256]) -> Option<&'a [u8]> {
    let name = match host.first() {
        Some(b'[') => &host[..memchr::memchr(b']', host).map_or(host.len(), |end| end + 1)],
        _ => &host[..memchr::memchr(b':', host).unwrap_or(host.len())],
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    let into = room.get_mut(..name.len())?;
    into.copy_from_slice(name);
    into.make_ascii_lowercase();
    Some(into)
}

impl HashOn {
    /// The number that stands for this request. Not keyed: all edges have to agree on it.
    pub(crate) fn number(
        &self,
        target: &[u8],
        headers: &dyn SelectingHeaders,
        client: Option<IpAddr>,
    ) -> u64 {
        let hasher = SipHasher13::new();
        match self {
            Self::Path => hasher.hash(target),
            Self::Header(name) => {
                let mut number = 0;
                headers.visit(name, &mut |value| number = hasher.hash(value));
                number
            }
            Self::Cookie(pattern) => cookie(pattern, headers).map_or(0, |value| hasher.hash(&value)),
            Self::Client => client.map_or(0, |address| match address.to_canonical() {
                IpAddr::V4(address) => hasher.hash(&address.octets()),
                IpAddr::V6(address) => hasher.hash(&address.octets()),
            }),
        }
    }
}

/// The value of the first cookie whose name matches (RFC 6265 section 4.2.1).
fn cookie(pattern: &clearcoat_conf::CookiePattern, headers: &dyn SelectingHeaders) -> Option<Vec<u8>> {
    let mut found = None;
    headers.visit("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';') {
            let pair = pair.trim_ascii_start();
            let Some(equals) = memchr::memchr(b'=', pair) else { continue };
            if found.is_none() && pattern.matches(&pair[..equals]) {
                found = Some(pair[equals + 1..].to_vec());
            }
        }
    });
    found
}
