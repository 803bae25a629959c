//! The `[[site]]` tables as they are written, with their routes and normalisers.
//!
//! A site and its routes share the keys of [`RulesTable`]. They are written once, in a macro: serde's `flatten` would lose
//! the places of the values.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use serde::Deserialize;

use super::access::{AccessTable, BasicAuthEntry, HstsTable, MaintenanceTable, RateLimitTable};
use super::user_context::UserContextEntry;
use super::value::{At, DurationText, SizeText};

/// A table with keys of its own and with those that a site and its routes share.
macro_rules! table_with_rules {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $($own)*
            /// Goes before what a response says of its own lifetime, if it may be stored at all. Default: the
            /// response's own word.
            #[schemars(extend("examples" = ["1h"]))]
            pub(crate) ttl: Option<At<DurationText>>,
            /// Instead of cache.default_ttl here; 0 stores no response without any word about freshness. Default: that
            /// one.
            pub(crate) default_ttl: Option<At<DurationText>>,
            /// Instead of cache.status_ttl as a whole. Default: that one.
            #[schemars(extend("examples" = [{ "404": "10s", "5xx": "1s" }]))]
            pub(crate) status_ttl: Option<At<BTreeMap<At<String>, At<DurationText>>>>,
            /// Instead of cache.grace here. Default: that one.
            pub(crate) grace: Option<At<DurationText>>,
            /// Instead of cache.keep here. Default: that one.
            pub(crate) keep: Option<At<DurationText>>,
            /// Instead of cache.stale_if_error here. Default: that one.
            pub(crate) stale_if_error: Option<At<DurationText>>,
            /// Instead of cache.uncacheable_ttl here. Default: that one.
            pub(crate) uncacheable_ttl: Option<At<DurationText>>,
            /// Whether a visitor who asks for a new copy (Ctrl+F5) gets one. Default ignore.
            pub(crate) request_no_cache: Option<At<RequestNoCacheWord>>,
            /// Whether requests with cookies share what is stored. Default share.
            pub(crate) cookies: Option<At<CookiesWord>>,
            /// Request cookies that go on, names or NAME*; others are dropped. [] drops all. Default: all.
            #[schemars(extend("examples" = [["eZSESSID*", "PHPSESSID"], ["*"]]))]
            pub(crate) keep_cookies: Option<At<Vec<At<String>>>>,
            /// What becomes of a response that sets a cookie. Default refuse.
            pub(crate) set_cookie: Option<At<SetCookieWord>>,
            /// What of the query counts; replaces the site's as a whole. Default: all of it, as it is.
            pub(crate) query: Option<At<QueryTable>>,
            /// Request headers that are part of the key. Default: none.
            #[schemars(extend("examples" = [["X-Currency"]]))]
            pub(crate) key_headers: Option<At<Vec<At<String>>>>,
            /// Cookies that are part of the key, by their exact names. Default: none.
            #[schemars(extend("examples" = [["currency"]]))]
            pub(crate) key_cookies: Option<At<Vec<At<String>>>>,
            /// A page under the name of a file, such as HTML under .css, is not stored on the operator's word alone.
            /// Default true.
            pub(crate) deception_guard: Option<At<bool>>,
            /// Whether responses are compressed once they are stored. Default: as cache.compress.enabled says.
            pub(crate) compress: Option<At<bool>>,
            /// Edge Side Includes: pages whose response asks for it (Surrogate-Control) are put together here. Default
            /// false.
            pub(crate) esi: Option<At<bool>>,
            /// false lets requests with a session (a cookie that goes on, or Authorization) wait for a fresh page instead
            /// of getting a stale one, as long as a node is up. Default true.
            pub(crate) grace_for_sessions: Option<At<bool>>,
            /// Response headers that visitors do not see. Default: none.
            #[schemars(extend("examples" = [["X-User-Context-Hash", "x-lang"]]))]
            pub(crate) hide_headers: Option<At<Vec<At<String>>>>,
            /// A response header whose value every tag gets as its end too, so that pages go by their language: `c7` and `x-lang:
            /// fre-FR` make the tags c7 and c7fre-FR. Default: none.
            #[schemars(extend("examples" = ["x-lang"]))]
            pub(crate) tag_suffix_header: Option<At<String>>,
            /// A response header by which the application asks for X-Cache on that response, and for its tags and hidden headers to
            /// stay (FOSHttpCache's debug header). Default: none.
            #[schemars(extend("examples" = ["X-Cache-Debug"]))]
            pub(crate) debug_header: Option<At<String>>,
            /// Path of the URL, on the host of a purge, that tells the token for X-Invalidate-Token, as eZ Platform does; it is
            /// asked for as application/vnd.ezplatform.invalidate-token. "" for none. Default: none.
            #[schemars(extend("examples" = ["/_ez_http_invalidatetoken"]))]
            pub(crate) purge_token_path: Option<At<String>>,
            /// Groups of visitors that share pages: their hash is looked up before the page. {} for the defaults, false for
            /// none. What is left out is as outside. Default: none.
            pub(crate) user_context: Option<At<UserContextEntry>>,
        }
    };
}

/// The same, with the keys of what stands before it.
macro_rules! table_with_gate {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        table_with_rules! {
            $(#[$meta])*
            $name {
                $($own)*
                /// Which addresses may come; each key goes before the site's. Default: all.
                pub(crate) access: Option<At<AccessTable>>,
                /// A password in front, by users as htpasswd writes them; false for none. Default: none.
                pub(crate) basic_auth: Option<At<BasicAuthEntry>>,
                /// The largest request body. Default: as limits.max_body.
                #[schemars(extend("examples" = ["8MiB"]))]
                pub(crate) max_body: Option<At<SizeText>>,
                /// Response headers that visitors get, in place of what nodes say; "" takes one of the site's back. Default: none.
                #[schemars(extend("examples" = [{ "X-Frame-Options": "SAMEORIGIN" }]))]
                pub(crate) response_headers: Option<At<BTreeMap<At<String>, At<String>>>>,
            }
        }

        impl $name {
            /// The keys of what stands before it, whatever is stored.
            pub(crate) fn take_gate(&mut self) -> GateTable {
                GateTable {
                    access: self.access.take(),
                    basic_auth: self.basic_auth.take(),
                    max_body: self.max_body.take(),
                    response_headers: self.response_headers.take(),
                }
            }
        }
    };
}

/// What stands before a site or route.
#[derive(Debug, Default)]
pub(crate) struct GateTable {
    pub(crate) access: Option<At<AccessTable>>,
    pub(crate) basic_auth: Option<At<BasicAuthEntry>>,
    pub(crate) max_body: Option<At<SizeText>>,
    pub(crate) response_headers: Option<At<BTreeMap<At<String>, At<String>>>>,
}

table_with_rules! {
    /// The keys that a site and its routes share.
    RulesTable {}
}

/// Hands the names of the shared keys to another macro, after what it gets first.
macro_rules! with_rule_keys {
    ($then:ident $($first:tt)*) => {
        $then!($($first)* ttl default_ttl status_ttl grace keep stale_if_error uncacheable_ttl request_no_cache cookies
            keep_cookies set_cookie query key_headers key_cookies deception_guard compress esi grace_for_sessions
            hide_headers tag_suffix_header debug_header purge_token_path user_context)
    };
}

/// Takes the shared keys out of a table that has others as well.
macro_rules! take_rules {
    ($table:ident: $($key:ident)*) => {
        RulesTable { $($key: $table.$key.take(),)* }
    };
}

impl RulesTable {
    /// The keys that are written; of `user_context`, which is inherited key by key, its own.
    pub(crate) fn written(&self) -> Vec<&'static str> {
        macro_rules! written {
            ($($key:ident)*) => {
                [$((stringify!($key), self.$key.is_some()),)*]
            };
        }
        let written = with_rule_keys!(written);
        let mut keys: Vec<_> = written.into_iter().filter(|(_, is)| *is).map(|(key, _)| key).collect();
        if let Some(UserContextEntry::Table(table)) = self.user_context.as_ref().map(|at| &at.value) {
            keys.retain(|key| *key != "user_context");
            keys.extend(table.written());
        }
        keys
    }

    /// Where the values stand of all keys that are written and mean nothing where nothing is stored.
    pub(crate) fn spans(&self) -> Vec<Range<usize>> {
        macro_rules! spans {
            ($($key:ident)*) => {{
                // By a pattern, so that no key can be left out.
                let Self { $($key,)* } = self;
                [$($key.as_ref().map(|at| at.span.clone()),)*]
            }};
        }
        let spans = with_rule_keys!(spans);
        // What is hidden is hidden on every response.
        let hidden = self.hide_headers.as_ref().map(|at| &at.span);
        spans.into_iter().flatten().filter(|span| Some(span) != hidden).collect()
    }
}

table_with_gate! {
    /// A group of hosts with the same rules.
    SiteTable {
        /// Names, *.example.com for all names below it, or * for every host; without port.
        #[schemars(required, extend("examples" = [["*"], ["www.example.com", "*.example.com"]]))]
        pub(crate) hosts: Option<At<Vec<At<String>>>>,
        /// The name of a pool.
        #[schemars(required, extend("examples" = ["web"]))]
        pub(crate) pool: Option<At<String>>,
        /// Ready-made values for the rules below; those that stand here go before it. Default http.
        pub(crate) preset: Option<At<PresetWord>>,
        /// true sends visitors who come without TLS to the same URL by https, but for the paths of ACME. Default false.
        pub(crate) redirect_to_https: Option<At<bool>>,
        /// Strict-Transport-Security on what comes by https; {} for the defaults. Default: none.
        pub(crate) hsts: Option<At<HstsTable>>,
        /// A page in place of the site. Default: none.
        pub(crate) maintenance: Option<At<MaintenanceTable>>,
        /// How often somebody may ask; each limit counts for itself. Default: any number of times.
        pub(crate) rate_limit: Option<At<Vec<At<RateLimitTable>>>>,
        /// Requests at a time that are not answered from memory; more get 503. Default: any number.
        #[schemars(range(min = 1, max = 1_000_000), extend("examples" = [200]))]
        pub(crate) max_concurrent: Option<At<u64>>,
        /// Whether responses may be stored. Default cache.
        pub(crate) cache: Option<At<CacheWord>>,
        /// Rules for some paths; the first that matches counts.
        pub(crate) route: Option<At<Vec<At<RouteTable>>>>,
        /// Request headers of which only a few values are told apart.
        pub(crate) normalise: Option<At<Vec<At<NormaliseTable>>>>,
    }
}

impl SiteTable {
    /// The keys that routes have too.
    pub(crate) fn take_rules(&mut self) -> RulesTable {
        with_rule_keys!(take_rules self:)
    }
}

table_with_gate! {
    /// A rule for some paths of a site.
    RouteTable {
        /// /x exactly, /api/* by its beginning, *.css by its end.
        #[schemars(required, extend("examples" = ["/api/*", "/login", "*.css"]))]
        pub(crate) path: Option<At<String>>,
        /// Whether responses may be stored. Default: as the site says.
        pub(crate) cache: Option<At<CacheWord>>,
        /// Another pool than the site's. Default: the site's.
        pub(crate) pool: Option<At<String>>,
    }
}

impl RouteTable {
    /// The keys that sites have too.
    pub(crate) fn take_rules(&mut self) -> RulesTable {
        with_rule_keys!(take_rules self:)
    }
}

/// Ready-made rules.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum PresetWord {
    /// What HTTP says and no more.
    Http,
    /// Symfony with FOSHttpCache: ESI and the user-context hash.
    Symfony,
    /// eZ Platform 3.
    EzPlatform,
    /// eZ Platform 2.
    #[serde(rename = "ez-platform-2")]
    EzPlatform2,
    /// eZ Platform 1.
    #[serde(rename = "ez-platform-1")]
    EzPlatform1,
}

/// Whether responses may be stored.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum CacheWord {
    /// What HTTP allows to be stored is stored.
    Cache,
    /// Nothing is stored or served from memory.
    Pass,
}

/// Whether a visitor who asks for a new copy gets one.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum RequestNoCacheWord {
    /// The stored copy is served as long as it is fresh.
    Ignore,
    /// The node is asked first, and its answer renews the copy for everybody.
    Revalidate,
    /// The same for addresses that may purge, and for nobody else: FOSHttpCache's refresh.
    Refresh,
}

/// Whether requests with cookies share what is stored.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum CookiesWord {
    /// A cookie alone makes no difference.
    Share,
    /// Requests with a cookie go to a node as they are.
    Pass,
}

/// What becomes of a response that sets a cookie.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum SetCookieWord {
    /// It is not stored.
    Refuse,
    /// It is stored and served without Set-Cookie.
    Strip,
}

/// What of the query counts. The node sees the same URL as the key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryTable {
    /// Whether the parameters are put in order. Default false.
    pub(crate) sort: Option<At<bool>>,
    /// Parameters that count, names or NAME*; others are dropped. Default: all.
    #[schemars(extend("examples" = [["page", "filter*"]]))]
    pub(crate) keep: Option<At<Vec<At<String>>>>,
    /// Parameters that are dropped, names or NAME*. Default: none.
    #[schemars(extend("examples" = [["utm_*", "gclid", "fbclid"]]))]
    pub(crate) drop: Option<At<Vec<At<String>>>>,
}

/// A request header of which only a few values are told apart; either languages or classes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NormaliseTable {
    /// The request header.
    #[schemars(required, extend("examples" = ["Accept-Language", "User-Agent"]))]
    pub(crate) header: Option<At<String>>,
    /// The languages that the nodes speak: the best of them for the request, else the first, is the value.
    #[schemars(extend("examples" = [["en", "de", "fr"]]))]
    pub(crate) languages: Option<At<Vec<At<String>>>>,
    /// The first pattern that matches gives the value.
    #[schemars(extend("examples" = [[{ "value": "mobile", "pattern": "(?i)mobi|android" }]]))]
    pub(crate) classes: Option<At<Vec<At<ClassTable>>>>,
    /// With classes: the value where none matches. Default: the header is taken away.
    #[schemars(extend("examples" = ["desktop"]))]
    pub(crate) otherwise: Option<At<String>>,
    /// The header that carries the value; the original is withheld then. Default: the same header.
    #[serde(rename = "as")]
    #[schemars(extend("examples" = ["X-Device"]))]
    pub(crate) into: Option<At<String>>,
}

/// A value and what it stands for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClassTable {
    /// What the nodes see.
    #[schemars(required, extend("examples" = ["mobile"]))]
    pub(crate) value: Option<At<String>>,
    /// A regex that matches somewhere in the header.
    #[schemars(required, extend("examples" = ["(?i)mobi|android"]))]
    pub(crate) pattern: Option<At<String>>,
}
