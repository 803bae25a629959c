//! How requests and responses of a site or route are treated.
//!
//! The values are final: what a route leaves open is filled in from its site, and from `[cache]` before that, so that
//! readers need no rule of their own about whose word counts.

use std::time::Duration;

use super::cache::Cache;
use super::name::{CookieName, NamePattern};
use super::pattern::HeaderName;
use super::status_ttl::StatusTtls;
use super::user_context::UserContext;

/// How requests and responses of a site or route are treated, where they are cached at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Goes before every lifetime that a response names, if it may be stored (nginx's `fastcgi_ignore_headers` with
    /// `fastcgi_cache_valid`, `beresp.ttl` in VCL). It is for the statuses of `status_ttl` and for those that
    /// `default_ttl` is for. `None`, the default: a response's own word counts; never zero.
    pub ttl: Option<Duration>,
    /// How long a response without any word about freshness is fresh. Default: as `cache.default_ttl`; zero does not
    /// store it.
    pub default_ttl: Duration,
    /// The same by status, which goes before `default_ttl`. Default: as `cache.status_ttl`.
    pub status_ttl: StatusTtls,
    /// How long a stale response may be served while a fresh one is fetched. Default: as `cache.grace`.
    pub grace: Duration,
    /// How long after that it stays to be revalidated. Default: as `cache.keep`.
    pub keep: Duration,
    /// How long after freshness it may stand in for a node that fails. Default: as `cache.stale_if_error`.
    pub stale_if_error: Duration,
    /// How long an uncacheable URL is remembered. Default: as `cache.uncacheable_ttl`.
    pub uncacheable_ttl: Duration,
    /// What becomes of a request that does not want a stored copy. Default [`RequestNoCache::Ignore`].
    pub request_no_cache: RequestNoCache,
    /// What becomes of a request with cookies. Default [`CookiePolicy::Share`].
    pub cookies: CookiePolicy,
    /// The request cookies that go on; the others are dropped before anything looks at them. Default: all.
    pub keep_cookies: KeepCookies,
    /// What becomes of a response that sets a cookie. Default [`SetCookiePolicy::Refuse`].
    pub set_cookie: SetCookiePolicy,
    /// What of the query counts. Default: all of it, as it is.
    pub query: QueryRules,
    /// Request headers that are part of the key, in the order of the file, each once. Default: none.
    pub key_headers: Vec<HeaderName>,
    /// Cookies that are part of the key, in the order of the file, each once; none that `keep_cookies` drops. Default:
    /// none.
    pub key_cookies: Vec<CookieName>,
    /// Whether a response whose type does not fit the extension of its path is kept out of the cache unless it asks to
    /// be stored itself (web cache deception). Default true.
    pub deception_guard: bool,
    /// Whether responses are compressed once they are stored. Default: as `cache.compress.enabled`.
    pub compress: bool,
    /// Whether pages whose response asks for it (`Surrogate-Control: content="ESI/1.0"`) are put together here from their
    /// fragments (Edge Side Includes). Default false.
    pub esi: bool,
    /// Whether a request with a session may get a stale page within its grace. When false, one with a cookie that goes on
    /// or with `Authorization` waits for a fresh page while any node is up, as in eZ Platform's VCL. Default true.
    pub grace_for_sessions: bool,
    /// Response headers that visitors do not see, in the order of the file, each once; none that the message cannot be read
    /// without. Default: none.
    pub hide_headers: Vec<HeaderName>,
    /// A response header whose value every tag gets as its end too. `None`, the default: tags are what they are.
    pub tag_suffix_header: Option<HeaderName>,
    /// A response header by which the application asks for `X-Cache` on that response, and for its tags and hidden headers to stay. `None`,
    /// the default: there is none.
    pub debug_header: Option<HeaderName>,
    /// Path of the URL that tells the token by which purges are let in (ezplatform-http-cache). `None`, the default: no node is asked.
    pub purge_token_path: Option<String>,
    /// Groups of visitors that share pages. `None`, the default: there are none.
    pub user_context: Option<UserContext>,
}

impl Rules {
    /// The rules of a site that says nothing itself.
    #[must_use]
    pub fn of_cache(cache: &Cache) -> Self {
        Self {
            ttl: None,
            default_ttl: cache.default_ttl,
            status_ttl: cache.status_ttl.clone(),
            grace: cache.grace,
            keep: cache.keep,
            stale_if_error: cache.stale_if_error,
            uncacheable_ttl: cache.uncacheable_ttl,
            request_no_cache: RequestNoCache::default(),
            cookies: CookiePolicy::default(),
            keep_cookies: KeepCookies::default(),
            set_cookie: SetCookiePolicy::default(),
            query: QueryRules::default(),
            key_headers: Vec::new(),
            key_cookies: Vec::new(),
            deception_guard: true,
            compress: cache.compress.enabled,
            esi: false,
            grace_for_sessions: true,
            hide_headers: Vec::new(),
            tag_suffix_header: None,
            debug_header: None,
            purge_token_path: None,
            user_context: None,
        }
    }
}

/// What becomes of a request with `Cache-Control: no-cache` or `max-age=0`, or with `Pragma: no-cache` and no
/// `Cache-Control` (RFC 9111 §5.2.1, §5.4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RequestNoCache {
    /// It is answered like any other, as by Varnish and nginx: visitors do not decide about the load of the nodes.
    #[default]
    Ignore,
    /// It is answered after a node was asked, and that renews the copy for everybody.
    Revalidate,
    /// The same for those who may purge by their address, and for nobody else: FOSHttpCache's `refresh`.
    Refresh,
}

impl RequestNoCache {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Revalidate => "revalidate",
            Self::Refresh => "refresh",
        }
    }
}

/// What becomes of a request that still has a cookie after [`KeepCookies`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CookiePolicy {
    /// It shares what is stored, as RFC 9111 has it: responses tell by `Vary` and `Cache-Control` what is for whom.
    #[default]
    Share,
    /// It goes to a node as it is and is not answered from memory, as in Varnish's builtin VCL; unless all that it has are
    /// cookies that are part of the key.
    Pass,
}

impl CookiePolicy {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Pass => "pass",
        }
    }
}

/// What becomes of a response with `Set-Cookie` that could be stored otherwise.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SetCookiePolicy {
    /// It is not stored, as in Varnish's builtin VCL.
    #[default]
    Refuse,
    /// It is stored and served without its `Set-Cookie` lines, to everybody, the first visitor included.
    Strip,
}

impl SetCookiePolicy {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Strip => "strip",
        }
    }
}

/// Which request cookies go on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum KeepCookies {
    /// Every cookie, and the `Cookie` field stays as it is.
    #[default]
    All,
    /// Only cookies that one of these matches; of an empty list, none.
    Only(Vec<NamePattern>),
}

/// What of the query counts: for the key, and in the URL that the node sees.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueryRules {
    /// Whether the parameters are put in order, so that `a=1&b=2` and `b=2&a=1` are one URL. Those that PHP puts into one
    /// variable keep theirs. Default false.
    pub sort: bool,
    /// Which parameters stay. Default all.
    pub names: QueryNames,
}

impl QueryRules {
    /// Whether every query stays as it is.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        !self.sort && self.names == QueryNames::All
    }
}

/// Which parameters of a query stay.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum QueryNames {
    /// All.
    #[default]
    All,
    /// Only those that one of these matches; of an empty list, none.
    Keep(Vec<NamePattern>),
    /// All but those that one of these matches. Never empty.
    Drop(Vec<NamePattern>),
}
