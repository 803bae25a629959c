//! A configuration written out in full: every key with the value that counts, defaults filled in.
//!
//! What is written reads back as the same configuration, but for secrets: they are only mentioned.

use std::fmt::{Display, Write};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::check::{Origins, SiteOrigins};
use crate::config::{
    AccessTarget, Admin, Balance, Cache, CachePolicy, Certificate, Class, Config, Gate, HashOn, HeaderName,
    KeepCookies, Limits, ListenAddress, Node, NormaliseHow, Normaliser, Pin, Pool, Probe, Process, Purge,
    QueryNames, RateLimit, Rules, Secret, Sessions, Site, SocketFile, StatusTtls,
};
use crate::units::{show_duration, show_size};

impl Config {
    /// The whole configuration as TOML, every default filled in. Secrets are left out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.explained(&[])
    }

    /// The same, and behind each rule of the sites whose origins are given, in their order, where it comes from.
    pub(crate) fn explained(&self, origins: &[SiteOrigins]) -> String {
        let mut page = Page::default();
        page.duration("shutdown_timeout", self.shutdown_timeout);
        page.optional("threads", self.threads);
        for listen in &self.listen {
            page.header("[[listen]]");
            page.text("address", &listen.address);
            page.raw("http2", listen.http2);
            page.list("purge_dialects", listen.purge_dialects.iter().map(|dialect| quoted(dialect.as_str())));
            page.list("proxy_protocol", listen.proxy_protocol.iter().map(quoted));
            page.list("trusted_proxies", listen.trusted_proxies.iter().map(quoted));
            page.text("client_header", listen.client_header.as_str());
            if let Some(hosts) = &listen.hosts {
                page.list("hosts", hosts.iter().map(quoted));
            }
            socket(&mut page, &listen.address, &listen.socket);
            if let Some(tls) = &listen.tls {
                page.list("tls.certificates", tls.certificates.iter().map(certificate));
                page.raw("tls.http2", tls.http2);
                if let Some(auth) = &tls.client_auth {
                    page.text("tls.client_auth.ca", auth.ca.display());
                    page.raw("tls.client_auth.required", auth.required);
                    if let Some(header) = &auth.subject_header {
                        page.text("tls.client_auth.subject_header", header);
                    }
                }
            }
        }
        admin(&mut page, self.admin.as_ref());
        cache(&mut page, &self.cache);
        for (name, pool_settings) in &self.pools {
            // A dot in a name would open another table.
            page.header(&format!("[pools.{}]", quoted(name)));
            pool(&mut page, pool_settings);
        }
        for (index, site_settings) in self.sites.iter().enumerate() {
            site(&mut page, site_settings, origins.get(index));
        }
        purge(&mut page, &self.purge);
        sessions(&mut page, &self.sessions);
        limits(&mut page, &self.limits);
        process(&mut page, &self.process);
        page.header("[log]");
        page.text("level", self.log.level.as_str());
        page.text("format", self.log.format.as_str());
        page.list("mask", self.log.mask.iter().map(quoted));
        if let Some(access) = &self.log.access {
            page.header("[log.access]");
            match &access.target {
                AccessTarget::Stdout => page.text("file", "stdout"),
                AccessTarget::File(path) => page.text("file", path.display()),
            }
            page.text("format", access.format.as_str());
            page.size("buffer", access.buffer_bytes);
        }
        page.header("[log.request_id]");
        page.raw("enabled", self.log.request_id.enabled);
        page.text("header", &self.log.request_id.header);
        page.text
    }
}

fn certificate(pair: &Certificate) -> String {
    let (cert, key) = (quoted(pair.cert.display()), quoted(pair.key.display()));
    let ocsp = pair.ocsp.as_ref().map(|ocsp| format!(", ocsp = {}", quoted(ocsp.display())));
    format!("{{ cert = {cert}, key = {key}{} }}", ocsp.unwrap_or_default())
}

fn admin(page: &mut Page<'_>, admin: Option<&Admin>) {
    page.header("[admin]");
    page.raw("enabled", admin.is_some());
    if let Some(admin) = admin {
        page.text("address", &admin.address);
        page.secret("token", admin.token.as_ref());
        socket(page, &admin.address, &admin.socket);
    }
}

/// Who may use a listener that is a Unix socket.
fn socket(page: &mut Page<'_>, address: &ListenAddress, socket: &SocketFile) {
    if let ListenAddress::Unix(_) = address {
        page.text("socket_mode", format_args!("{:04o}", socket.mode));
        page.optional("socket_user", socket.user.as_ref().map(quoted));
        page.optional("socket_group", socket.group.as_ref().map(quoted));
    }
}

fn process(page: &mut Page<'_>, process: &Process) {
    page.header("[process]");
    page.optional("user", process.user.as_ref().map(quoted));
    page.optional("group", process.group.as_ref().map(quoted));
    page.text("sandbox", process.sandbox.as_str());
    page.raw("core_dumps", process.core_dumps);
}

fn cache(page: &mut Page<'_>, cache: &Cache) {
    page.header("[cache]");
    page.size("memory", cache.memory);
    page.size("max_entry", cache.max_entry);
    page.duration("default_ttl", cache.default_ttl);
    page.duration("grace", cache.grace);
    page.duration("keep", cache.keep);
    page.duration("uncacheable_ttl", cache.uncacheable_ttl);
    page.raw("unsafe_invalidates", cache.unsafe_invalidates);
    page.raw("max_variants", cache.max_variants);
    page.size("max_tag_bytes", cache.max_tag_bytes);
    page.duration("stale_if_error", cache.stale_if_error);
    page.raw("status_ttl", status_ttls(&cache.status_ttl));
    page.raw("heuristic_percent", cache.heuristic_percent);
    page.raw("grace_over_revalidate", cache.grace_over_revalidate);
    page.list("targeted_fields", cache.targeted_fields.iter().map(quoted));
    page.raw("keep_targeted_fields", cache.keep_targeted_fields);
    page.raw("surrogate_control", cache.surrogate_control);
    page.raw("reverse_proxy_ttl", cache.reverse_proxy_ttl);
    page.list("debug_clients", cache.debug_clients.iter().map(quoted));
    page.size("finish_abandoned", cache.finish_abandoned);
    page.header("[cache.compress]");
    page.raw("enabled", cache.compress.enabled);
    page.list("codings", cache.compress.codings.iter().map(quoted));
    page.list("types", cache.compress.types.iter().map(quoted));
    page.size("min_size", cache.compress.min_size);
    page.size("max_size", cache.compress.max_size);
}

fn pool(page: &mut Page<'_>, pool: &Pool) {
    page.list("nodes", pool.nodes.iter().map(node));
    match &pool.balance {
        Balance::RoundRobin => page.text("balance", "round-robin"),
        Balance::LeastRequests => page.text("balance", "least-requests"),
        Balance::RandomTwo => page.text("balance", "random-two"),
        Balance::Hash { on, balance_factor } => {
            page.text("balance", "hash");
            match on {
                HashOn::Path => page.text("hash_on", "path"),
                HashOn::Header(name) => page.text("hash_on", format_args!("header:{name}")),
                HashOn::Cookie(pattern) => page.text("hash_on", format_args!("cookie:{pattern}")),
                HashOn::Client => page.text("hash_on", "client"),
            }
            page.raw("hash_balance_factor", balance_factor);
        }
    }
    page.duration("slow_start", pool.slow_start);
    page.raw("refill_concurrency", pool.refill_concurrency);

    let health = &pool.health;
    match &health.probe {
        None => page.text("health.type", "off"),
        Some(Probe::Tcp) => page.text("health.type", "tcp"),
        Some(Probe::Http { method, path, host, expect, body }) => {
            page.text("health.type", "http");
            page.text("health.method", method.as_str());
            page.text("health.path", path);
            if let Some(host) = host {
                page.text("health.host", host);
            }
            let ranges = expect.ranges().iter();
            page.list(
                "health.expect",
                ranges.map(|(first, last)| match first == last {
                    true => first.to_string(),
                    false => format!("\"{first}-{last}\""),
                }),
            );
            if let Some(body) = body {
                page.text("health.body", body.as_str());
            }
        }
    }
    page.duration("health.interval", health.interval);
    page.duration("health.timeout", health.timeout);
    page.raw("health.fall", health.fall);
    page.raw("health.rise", health.rise);

    page.raw("passive.errors", pool.passive.errors);
    page.duration("passive.eject", pool.passive.eject);
    page.duration("passive.eject_max", pool.passive.eject_max);
    page.raw("passive.max_ejected_percent", pool.passive.max_ejected_percent);
    page.raw("queue.length", pool.queue.length);
    page.duration("queue.timeout", pool.queue.timeout);
    page.raw("retry.attempts", pool.retry.attempts);
    page.raw("retry.budget_percent", pool.retry.budget_percent);
    page.raw("retry.min_per_second", pool.retry.min_per_second);
    page.duration("timeouts.connect", pool.timeouts.connect);
    page.duration("timeouts.first_byte", pool.timeouts.first_byte);
    page.duration("timeouts.between_bytes", pool.timeouts.between_bytes);
    page.duration("timeouts.idle", pool.timeouts.idle);
    if let Some(tls) = &pool.tls {
        page.raw("tls.verify", tls.verify);
        if let Some(sni) = &tls.sni {
            page.text("tls.sni", sni);
        }
        if let Some(ca) = &tls.ca {
            page.text("tls.ca", ca.display());
        }
    }
    if let Some(version) = pool.proxy_protocol {
        page.text("proxy_protocol", version.as_str());
    }
    page.raw("forwarded", pool.forwarded);
    page.duration("dns.min_ttl", pool.dns.min_ttl);
    page.duration("dns.max_ttl", pool.dns.max_ttl);
}

fn node(node: &Node) -> String {
    let mut text =
        format!("{{ address = {}, weight = {}, backup = {}", quoted(&node.address), node.weight, node.backup);
    if let Some(most) = node.max_connections {
        text.push_str(&format!(", max_connections = {most}"));
    }
    text.push_str(" }");
    text
}

fn site<'o>(page: &mut Page<'o>, site: &Site, origins: Option<&'o SiteOrigins>) {
    page.header("[[site]]");
    page.list("hosts", site.hosts.iter().map(quoted));
    page.text("pool", &site.pool);
    page.text("preset", site.preset);
    page.raw("redirect_to_https", site.redirect_to_https);
    if let Some(hsts) = site.hsts {
        page.duration("hsts.max_age", hsts.max_age);
        page.raw("hsts.subdomains", hsts.subdomains);
        page.raw("hsts.preload", hsts.preload);
    }
    page.optional("max_concurrent", site.max_concurrent);
    gate(page, &site.gate, None);
    if let Some(maintenance) = &site.maintenance {
        for (key, path) in [("maintenance.flag", &maintenance.flag), ("maintenance.page", &maintenance.page)]
        {
            page.optional(key, path.as_ref().map(|path| quoted(path.display())));
        }
        page.duration("maintenance.retry_after", maintenance.retry_after);
        page.list("maintenance.except", maintenance.except.iter().map(quoted));
    }
    page.text("cache", site.cache.as_str());
    let caches = |policy: CachePolicy| policy == CachePolicy::Cache;
    let any_caches = caches(site.cache) || site.routes.iter().any(|route| caches(route.cache));
    rules(page, &site.rules, any_caches, origins.map(|origins| &origins.site));
    for normaliser in &site.normalise {
        normalise(page, normaliser);
    }
    for limit in &site.rate_limits {
        rate_limit(page, limit);
    }
    for (index, route) in site.routes.iter().enumerate() {
        page.header("[[site.route]]");
        page.text("path", &route.path);
        page.text("cache", route.cache.as_str());
        if let Some(pool) = &route.pool {
            page.text("pool", pool);
        }
        gate(page, &route.gate, Some(&site.gate));
        rules(page, &route.rules, caches(route.cache), origins.and_then(|origins| origins.routes.get(index)));
    }
}

/// What stands before a site, or before a route of the site that `outer` stands before.
fn gate(page: &mut Page<'_>, gate: &Gate, outer: Option<&Gate>) {
    if let Some(allow) = &gate.access.allow {
        page.list("access.allow", allow.iter().map(quoted));
    }
    page.list("access.deny", gate.access.deny.iter().map(quoted));
    match &gate.basic_auth {
        Some(_) => page.line("# basic_auth is set and not shown"),
        None if outer.is_some() => page.raw("basic_auth", false),
        None => {}
    }
    page.optional("max_body", gate.max_body.map(|bytes| quoted(show_size(bytes.get()))));
    let own = gate.response_headers.iter().map(|(name, value)| (name, value.as_str()));
    let is_gone = |name: &&HeaderName| !gate.response_headers.contains_key(*name);
    let gone = outer.into_iter().flat_map(|outer| outer.response_headers.keys()).filter(is_gone);
    let headers = own.chain(gone.map(|name| (name, "")));
    let pairs: Vec<_> =
        headers.map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
    page.raw("response_headers", format_args!("{{ {} }}", pairs.join(", ")));
}

fn rate_limit(page: &mut Page<'_>, limit: &RateLimit) {
    page.header("[[site.rate_limit]]");
    page.text("name", &limit.name);
    page.list("paths", limit.paths.iter().map(quoted));
    page.list("methods", limit.methods.iter().map(quoted));
    page.text("by", &limit.by);
    page.text("rate", limit.rate);
    page.raw("burst", limit.burst);
    page.list("except", limit.except.iter().map(quoted));
}

/// The rules of a site or route. Where nothing is stored, keys about that are mistakes.
fn rules<'o>(page: &mut Page<'o>, rules: &Rules, caches: bool, origins: Option<&'o Origins>) {
    page.origins = origins;
    if caches {
        rules_about_storing(page, rules);
    }
    page.list("hide_headers", rules.hide_headers.iter().map(quoted));
    page.origins = None;
}

fn rules_about_storing(page: &mut Page<'_>, rules: &Rules) {
    match rules.ttl {
        Some(ttl) => page.duration("ttl", ttl),
        // Beside ttl it would be a mistake.
        None => page.duration("default_ttl", rules.default_ttl),
    }
    page.raw("status_ttl", status_ttls(&rules.status_ttl));
    page.duration("grace", rules.grace);
    page.duration("keep", rules.keep);
    page.duration("stale_if_error", rules.stale_if_error);
    page.duration("uncacheable_ttl", rules.uncacheable_ttl);
    page.text("request_no_cache", rules.request_no_cache.as_str());
    page.text("cookies", rules.cookies.as_str());
    match &rules.keep_cookies {
        KeepCookies::All => page.list("keep_cookies", ["*"].iter().map(quoted)),
        KeepCookies::Only(patterns) => page.list("keep_cookies", patterns.iter().map(quoted)),
    }
    page.text("set_cookie", rules.set_cookie.as_str());
    page.raw("query.sort", rules.query.sort);
    match &rules.query.names {
        QueryNames::All => {}
        QueryNames::Keep(patterns) => page.list("query.keep", patterns.iter().map(quoted)),
        QueryNames::Drop(patterns) => page.list("query.drop", patterns.iter().map(quoted)),
    }
    page.list("key_headers", rules.key_headers.iter().map(quoted));
    page.list("key_cookies", rules.key_cookies.iter().map(quoted));
    page.raw("deception_guard", rules.deception_guard);
    page.raw("compress", rules.compress);
    page.raw("esi", rules.esi);
    page.raw("grace_for_sessions", rules.grace_for_sessions);
    if let Some(name) = &rules.tag_suffix_header {
        page.text("tag_suffix_header", name);
    }
    if let Some(name) = &rules.debug_header {
        page.text("debug_header", name);
    }
    if let Some(path) = &rules.purge_token_path {
        page.text("purge_token_path", path);
    }
    match &rules.user_context {
        None => page.raw("user_context", false),
        Some(context) => {
            page.text("user_context.header", &context.header);
            page.text("user_context.accept", &context.accept);
            page.text("user_context.path", &context.path);
            page.list("user_context.except", context.except.iter().map(quoted));
            if let Some(hash) = &context.anonymous {
                page.text("user_context.anonymous", hash);
            }
            page.raw("user_context.authorized", context.authorized);
            page.raw("user_context.rewrite_cache_control", context.rewrite_cache_control);
        }
    }
}

fn status_ttls(ttls: &StatusTtls) -> String {
    let pairs = ttls.iter().map(|(status, ttl)| format!("{status} = {}", quoted(show_duration(ttl))));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

fn normalise(page: &mut Page<'_>, normaliser: &Normaliser) {
    page.header("[[site.normalise]]");
    page.text("header", &normaliser.header);
    match &normaliser.how {
        NormaliseHow::Languages(tags) => page.list("languages", tags.iter().map(quoted)),
        NormaliseHow::Classes { classes, otherwise } => {
            let class = |class: &Class| {
                let (value, pattern) = (quoted(&class.value), quoted(class.pattern.as_str()));
                format!("{{ value = {value}, pattern = {pattern} }}")
            };
            page.list("classes", classes.iter().map(class));
            if let Some(value) = otherwise {
                page.text("otherwise", value);
            }
        }
    }
    if let Some(into) = &normaliser.into {
        page.text("as", into);
    }
}

fn purge(page: &mut Page<'_>, purge: &Purge) {
    page.header("[purge]");
    page.list("allow", purge.allow.iter().map(quoted));
    page.list("dialects", purge.dialects.iter().map(|dialect| quoted(dialect.as_str())));
    page.list("ban_headers", purge.ban_headers.iter().map(quoted));
    page.list("tag_headers", purge.tag_headers.iter().map(quoted));
    page.secret("token", purge.token.as_ref());
    page.raw("keep_tag_headers", purge.keep_tag_headers);
}

fn sessions(page: &mut Page<'_>, sessions: &Sessions) {
    page.header("[sessions]");
    page.text("mode", sessions.mode.as_str());
    page.list("cookies", sessions.cookies.iter().map(quoted));
    page.list("memcached", sessions.memcached.iter().map(quoted));
    page.text("pin", sessions.pin.as_str());
    page.duration("pin_ttl", sessions.pin_ttl);
    page.duration("pin_timeout", sessions.pin_timeout);
    if let Pin::Cookie { name, secret } = &sessions.pin {
        page.text("pin_cookie", name);
        page.secret("pin_secret", Some(secret));
    }
    if let Some(listen) = &sessions.listen {
        page.text("listen", listen);
        socket(page, listen, &sessions.socket);
    }
    page.list("allow", sessions.allow.iter().map(quoted));
    page.raw("replicas", sessions.replicas);
    page.raw("acknowledge", sessions.acknowledge.map_or(0, NonZeroU32::get));
    page.list(
        "prefix",
        sessions
            .prefixes
            .iter()
            .map(|(prefix, replicas)| format!("{{ prefix = {}, replicas = {replicas} }}", quoted(prefix))),
    );
    page.duration("recovery", sessions.recovery);
    page.duration("timeout", sessions.timeout);
    page.duration("lock_wait", sessions.lock_wait);
    page.size("item_size", sessions.item_size);
    page.raw("server_connections", sessions.server_connections);
    page.raw("max_connections", sessions.max_connections);
}

fn limits(page: &mut Page<'_>, limits: &Limits) {
    page.header("[limits]");
    page.size("header_bytes", limits.header_bytes.into());
    page.raw("header_count", limits.header_count);
    page.duration("header_timeout", limits.header_timeout);
    page.duration("idle_timeout", limits.idle_timeout);
    page.duration("body_timeout", limits.body_timeout);
    page.duration("write_timeout", limits.write_timeout);
    page.size("min_body_rate", limits.min_body_rate);
    page.size("min_response_rate", limits.min_response_rate);
    if let Some(lifetime) = limits.request_lifetime {
        page.duration("request_lifetime", lifetime);
    }
    page.duration("tunnel_timeout", limits.tunnel_timeout);
    page.size("url_bytes", limits.url_bytes.into());
    page.raw("max_connections", limits.max_connections);
    page.optional("connections_per_client", limits.connections_per_client);
    page.raw("requests_per_connection", limits.requests_per_connection);
    page.duration("collapse_timeout", limits.collapse_timeout);
    page.raw("collapse_waiters", limits.collapse_waiters);
    if let Some(bytes) = limits.max_body {
        page.size("max_body", bytes);
    }
    page.raw("esi_depth", limits.esi.depth);
    page.raw("esi_fragments", limits.esi.fragments);
    page.size("esi_bytes", limits.esi.bytes);
    page.duration("esi_timeout", limits.esi.timeout);
    page.raw("http2_streams", limits.http2_streams);
}

/// The text so far. One method per kind of value; each writes one line.
#[derive(Default)]
struct Page<'o> {
    text: String,
    /// Where the keys come from that are being written, if that is to be told.
    origins: Option<&'o Origins>,
}

impl Page<'_> {
    fn header(&mut self, header: &str) {
        self.line(format_args!("\n{header}"));
    }

    fn raw(&mut self, key: &str, value: impl Display) {
        match self.origins {
            None => self.line(format_args!("{key} = {value}")),
            Some(origins) => {
                let line = format!("{key} = {value}");
                self.line(format_args!("{line:<40}  # {}", origins.of(key)));
            }
        }
    }

    fn optional(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.raw(key, value);
        }
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.raw(key, quoted(value));
    }

    fn duration(&mut self, key: &str, value: Duration) {
        self.text(key, show_duration(value));
    }

    fn size(&mut self, key: &str, bytes: u64) {
        self.text(key, show_size(bytes));
    }

    fn list(&mut self, key: &str, items: impl Iterator<Item = String>) {
        self.raw(key, format_args!("[{}]", items.collect::<Vec<_>>().join(", ")));
    }

    fn secret(&mut self, key: &str, secret: Option<&Secret>) {
        if secret.is_some() {
            self.line(format_args!("# {key} is set and not shown"));
        }
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// Text as a TOML string.
fn quoted(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}
