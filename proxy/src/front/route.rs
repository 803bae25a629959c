//! Which site and route a request belongs to: tables made once from the configuration, no pattern matching by regex.
//!
//! Sites: the exact host first, then the longest matching `*.suffix`, then `*`. Routes of a site: in the order of the
//! file, the first that matches; none is the site's own default.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clearcoat_cache::{FreshnessSettings, SelectingHeaders};
use siphasher::sip::SipHasher13;

use super::context::ContextRules;
use super::context::delivery::Delivery;
use super::context::forged::Forgeries;
use super::gate::{self, Gate, Maintenance};
use super::seen::RequestRules;
use crate::pool::Pool;
use crate::session::pin::Pins;

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
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(text) => path == text.as_bytes(),
            Self::Prefix(text) => path.starts_with(text.as_bytes()),
            Self::Suffix(text) => path.ends_with(text.as_bytes()),
        }
    }
}

impl std::fmt::Display for PathRule {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => out.write_str(text),
            Self::Prefix(text) => write!(out, "{text}*"),
            Self::Suffix(text) => write!(out, "*{text}"),
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
    Cookie(clearcoat_conf::NamePattern),
    /// The client's address.
    Client,
}

/// What is to be done with requests of one route.
#[derive(Clone, Debug)]
pub(crate) struct Treatment {
    pub(crate) pool: Arc<Pool>,
    /// What the pool hashes, when it balances so.
    pub(crate) hash_on: Option<HashOn>,
    /// Which sessions stay at which node; `None`: none do.
    pub(crate) pins: Option<Arc<Pins>>,
    /// What stands before it; `None`: nothing does.
    pub(crate) gate: Option<Arc<Gate>>,
    /// Requests go to the node as they are and answers are not stored.
    pub(crate) pass: bool,
    /// What is made of requests before they are looked up.
    pub(crate) request: RequestRules,
    pub(crate) freshness: FreshnessSettings,
    /// Whether an answer whose type does not fit the extension of its path is stored only on its own word, not on the
    /// operator's.
    pub(crate) deception_guard: bool,
    pub(crate) uncacheable_for: Duration,
    /// Answers that are stored are compressed.
    pub(crate) compress: bool,
    /// How its visitors' contexts are found out; `None`: they have none.
    pub(crate) context: Option<Arc<ContextRules>>,
    /// How the token is found out that lets purges in; `None`: no node is asked.
    pub(crate) purge_token: Option<Arc<ContextRules>>,
    /// What requests of its site may not say; `None`: nothing is held against them.
    pub(crate) forgeries: Option<Arc<Forgeries>>,
    pub(crate) delivery: Arc<Delivery>,
    /// Whether visitors with a session get stale pages within grace too, while a node is up.
    pub(crate) grace_for_sessions: bool,
    /// Pages that nodes mark are put together here.
    pub(crate) esi: bool,
}

impl Treatment {
    /// Whether some route of its site knows its visitors' contexts.
    pub(crate) fn guards_context(&self) -> bool {
        self.forgeries.is_some()
    }
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

/// Whether a host (any case, maybe with a port) is one of these.
pub(crate) fn is_among(hosts: &[HostRule], host: &[u8]) -> bool {
    let mut room = [0; 256];
    let Some(name) = plain_name(host, &mut room) else { return false };
    hosts.iter().any(|rule| match rule {
        HostRule::Any => true,
        HostRule::Below(suffix) => is_below(name, suffix),
        HostRule::Exact(exact) => name == exact.as_bytes(),
    })
}

/// A site and where it stands in the file, from one.
#[derive(Debug)]
struct Numbered {
    number: usize,
    site: Site,
}

/// All sites, by host.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    exact: HashMap<Box<[u8]>, Arc<Numbered>>,
    /// Longest suffix first.
    below: Vec<(Box<str>, Arc<Numbered>)>,
    any: Option<Arc<Numbered>>,
    /// Whether something stands before any of them.
    gated: bool,
}

/// Where a request belongs, for people.
#[derive(Debug)]
pub(crate) struct Place<'t> {
    /// Which site of the file, from one.
    pub(crate) site: usize,
    /// Its pattern that matched, as the file has it.
    pub(crate) host: String,
    /// Which route of it, from one, and its pattern; `None`: the site's own default.
    pub(crate) route: Option<(usize, String)>,
    pub(crate) treatment: &'t Treatment,
}

impl RouteTable {
    pub(crate) fn new(sites: impl IntoIterator<Item = (Vec<HostRule>, Site)>) -> Self {
        let mut table = Self::default();
        for (number, (hosts, site)) in (1..).zip(sites) {
            let is_gated = |treatment: &Treatment| treatment.gate.is_some();
            table.gated |=
                is_gated(&site.default) || site.routes.iter().any(|route| is_gated(&route.treatment));
            let site = Arc::new(Numbered { number, site });
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
        let site = &self.numbered(host)?.site;
        Some(site.route(target).map_or(&site.default, |(_, route)| &route.treatment))
    }

    /// The pages that stand in place of sites.
    pub(crate) fn maintenances(&self) -> Vec<Arc<Maintenance>> {
        let sites = self.exact.values().chain(self.below.iter().map(|(_, site)| site)).chain(&self.any);
        let mut found: Vec<Arc<Maintenance>> = Vec::new();
        // The routes of a site share it, and its hosts the site.
        for maintenance in sites.filter_map(|site| site.site.default.gate.as_ref()?.maintenance.clone()) {
            if !found.iter().any(|other| Arc::ptr_eq(other, &maintenance)) {
                found.push(maintenance);
            }
        }
        found
    }

    /// What stands before what is asked for, and before what a web server may take it for if that is something else.
    pub(crate) fn gates(&self, host: &[u8], target: &[u8]) -> [Option<&Gate>; 2] {
        // Where nothing stands before anything, hits do not even look.
        if !self.gated {
            return [None, None];
        }
        let gate = |target: &[u8]| self.find(host, target)?.gate.as_deref();
        let asked = gate(target);
        let meant = match gate::meant(target) {
            Cow::Borrowed(_) => None,
            Cow::Owned(meant) => gate(&meant),
        };
        let is_same = |meant: &&Gate| asked.is_some_and(|asked| std::ptr::eq(asked, *meant));
        [asked, meant.filter(|meant| !is_same(meant))]
    }

    /// A target as the cache knows it: by the rules of its route, if there is one.
    pub(crate) fn known_target<'a>(&self, host: &[u8], target: &'a [u8]) -> Cow<'a, [u8]> {
        match self.find(host, target) {
            Some(treatment) => treatment.request.query.apply(target),
            None => Cow::Borrowed(target),
        }
    }

    /// The same, and by which patterns.
    pub(crate) fn place(&self, host: &[u8], target: &[u8]) -> Option<Place<'_>> {
        let found = self.numbered(host)?;
        let Numbered { number, site } = &**found;
        let is_this = |other: &Arc<Numbered>| Arc::ptr_eq(other, found);
        let mut room = [0; 256];
        let name = plain_name(host, &mut room).unwrap_or_default();
        let pattern = match self.exact.get(name) {
            Some(_) => String::from_utf8_lossy(name).into_owned(),
            None => {
                match self.below.iter().find(|(suffix, other)| is_below(name, suffix) && is_this(other)) {
                    Some((suffix, _)) => format!("*{suffix}"),
                    None => "*".to_owned(),
                }
            }
        };
        let route = site.route(target);
        Some(Place {
            site: *number,
            host: pattern,
            route: route.map(|(index, route)| (index + 1, route.path.to_string())),
            treatment: route.map_or(&site.default, |(_, route)| &route.treatment),
        })
    }

    /// Whether a site is for this host (any case, maybe with a port) by its name, not only because it takes all.
    pub(crate) fn names(&self, host: &[u8]) -> bool {
        let mut room = [0; 256];
        plain_name(host, &mut room).is_some_and(|name| {
            self.exact.contains_key(name) || self.below.iter().any(|(suffix, _)| is_below(name, suffix))
        })
    }

    fn numbered(&self, host: &[u8]) -> Option<&Arc<Numbered>> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.any.as_ref();
        }
        let mut room = [0; 256];
        let name = plain_name(host, &mut room)?;
        self.exact
            .get(name)
            .or_else(|| self.below.iter().find(|(suffix, _)| is_below(name, suffix)).map(|(_, site)| site))
            .or(self.any.as_ref())
    }
}

impl Site {
    /// The first route for this target, and which it is.
    fn route(&self, target: &[u8]) -> Option<(usize, &Route)> {
        let path = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
        self.routes.iter().enumerate().find(|(_, route)| route.path.matches(path))
    }
}

/// Whether `name` ends in `suffix`, which begins with a dot, and has something before it.
fn is_below(name: &[u8], suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix.as_bytes())
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
fn cookie(pattern: &clearcoat_conf::NamePattern, headers: &dyn SelectingHeaders) -> Option<Vec<u8>> {
    let mut found = None;
    headers.visit("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';') {
            let pair = pair.trim_ascii_start();
            let Some(equals) = memchr::memchr(b'=', pair) else { continue };
            if found.is_none() && pattern.matches(pair[..equals].iter().copied()) {
                found = Some(pair[equals + 1..].to_vec());
            }
        }
    });
    found
}
