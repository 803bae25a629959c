//! From a checked configuration to the running parts, and to their end.
//!
//! The crates and rooms below know nothing of the configuration file: each has settings of its own, and only here one
//! is turned into the other.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use clearcoat_cache::coding::Coding;
use clearcoat_cache::{
    DefaultTtls, Footprint, FreshnessSettings, Governor, KeySecret, Statuses, Store, TargetedFields,
};
use clearcoat_conf as conf;
use clearcoat_purge::Guard;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::background::{BackgroundService, background_service};
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;
use tokio::sync::Semaphore;
use tracing::info;

use crate::admin;
use crate::admin::{Counters, Limit};
use crate::clock::Clock;
use crate::encode::{EncodeSettings, Encoder};
use crate::fetch::{FetchSettings, Fetcher};
use crate::front::cookies::CookieRules;
use crate::front::explain::Explainer;
use crate::front::names::NamePattern;
use crate::front::normalise::{self, By, Normaliser};
use crate::front::parts::KeyParts;
use crate::front::pass::PassRoad;
use crate::front::query::{Parameters, QueryRules};
use crate::front::route::{HashOn, HostRule, PathRule, Route, RouteTable, Site, Treatment};
use crate::front::seen::RequestRules;
use crate::front::{DecodeTurns, Front, FrontSettings};
use crate::listen::connection::Waits;
use crate::listen::head::{HeadLimits, MAX_HEADERS};
use crate::listen::lane::{Lane, LaneSettings};
use crate::listen::service::{BoundSocket, Edge};
use crate::memory;
use crate::pool::{self, Pools};

/// Starts everything and runs until the process is told to end.
///
/// Does not return after a graceful shutdown: the process ends with code 0 as soon as nothing is in flight.
///
/// # Errors
///
/// What keeps the parts from starting, such as an address that is taken. Nothing has served a request then.
pub(crate) fn run(config: conf::Config, extra: Option<Arc<dyn admin::Extra>>) -> anyhow::Result<()> {
    let config = &config;
    if let Err(error) = memory::set_up() {
        tracing::warn!(%error, "the allocator cannot be set: freed memory will be kept longer");
    }
    let mut sockets = Vec::new();
    for listen in &config.listen {
        match &listen.address {
            conf::ListenAddress::Tcp(address) => sockets.push(BoundSocket::bind(*address)?),
            conf::ListenAddress::Unix(path) => check_free(path)?,
        }
    }
    let clock = Clock::start();
    let counters = Counters::new();
    let mut secret = [0; 16];
    secret.iter_mut().for_each(|byte| *byte = fastrand::u8(..));
    let store = Arc::new(Store::new(store_settings(config), KeySecret::new(secret)));
    let pools = Pools::new(pool_settings(config)?);
    let tag_headers = header_names(&config.purge.tag_headers)?;
    let encoder =
        Encoder::new(encode_settings(&config.cache.compress), store.clone(), counters.clone(), clock.clone());
    let fetcher = Fetcher::new(
        store.clone(),
        counters.clone(),
        clock.clone(),
        encoder.clone(),
        FetchSettings {
            max_entry_bytes: config.cache.max_entry,
            tag_headers: tag_headers.clone(),
            max_tag_bytes: usize::try_from(config.cache.max_tag_bytes).unwrap_or(usize::MAX),
            keep_tag_headers: config.purge.keep_tag_headers,
            idle_connections: IDLE_CONNECTIONS,
            collapse_waiters: config.limits.collapse_waiters.get(),
            finish_abandoned: config.cache.finish_abandoned,
        },
    );
    let routes = Arc::new(ArcSwap::from_pointee(route_table(config, &pools)?));
    let front = Arc::new(Front {
        routes: routes.clone(),
        store: store.clone(),
        fetcher: fetcher.clone(),
        encoder: encoder.clone(),
        decode_turns: DecodeTurns::default(),
        guard: Guard::new(clearcoat_purge::Settings {
            allow: config.purge.allow.clone(),
            token: config.purge.token.as_ref().map(|token| token.expose().as_bytes().to_vec()),
        }),
        counters: counters.clone(),
        clock: clock.clone(),
        settings: FrontSettings { collapse_timeout: config.limits.collapse_timeout },
    });

    let threads = match config.threads {
        Some(threads) => threads.get(),
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let mut server = Server::new_with_opt_and_conf(None, server_conf(config, threads));
    server.bootstrap();

    let pass = http_proxy(
        &server.configuration,
        PassRoad {
            routes,
            counters: counters.clone(),
            clock: clock.clone(),
            unwanted: if config.purge.keep_tag_headers { Vec::new() } else { tag_headers },
            fresh_connections: AtomicU64::new(0),
            idle_seconds: config.limits.idle_timeout.as_secs().max(1),
            body_timeout: config.limits.body_timeout,
            write_timeout: config.limits.write_timeout,
            invalidates: config.cache.unsafe_invalidates.then(|| store.clone()),
            max_body: config.limits.max_body,
        },
    );
    let lane = Lane {
        front: front.clone(),
        pass: Arc::new(pass),
        settings: lane_settings(config),
        connections: Arc::new(Semaphore::new(config.limits.max_connections.get() as usize)),
    };
    let mut edge = Service::new("edge".to_owned(), lane);
    edge.threads = Some(threads);
    for listen in &config.listen {
        edge.add_listener(listener(&listen.address));
        info!(address = %listen.address, "serving");
    }
    server.add_service(Edge::new(edge, sockets));

    let observed = Arc::new(Observer {
        store: store.clone(),
        fetcher: fetcher.clone(),
        explainer: Explainer { front, limits: lane_settings(config).head },
        encoder,
        pools: pools.clone(),
        memory: config.cache.memory,
    });
    if let Some(settings) = &config.admin {
        let settings = admin::Settings {
            address: settings.address.clone(),
            token: settings.token.as_ref().map(|token| token.expose().to_owned()),
            names: Vec::new(),
        };
        server.add_service(admin::AdminService::bind(&settings, counters.clone(), observed, extra)?);
    }
    server.add_service(background_service("pools", Watching { pools }));
    server.add_service(background_service(
        "store",
        Tidying { store, counters: counters.clone(), clock: clock.clone(), memory: config.cache.memory },
    ));
    server.add_service(background_service("drain", Draining { counters, timeout: config.shutdown_timeout }));
    server.run(RunArgs { shutdown_signal: Box::new(Signals) });
    Ok(())
}

/// Kept-alive connections to nodes, over all pools. pingora's own default of 128 is short of one busy node.
const IDLE_CONNECTIONS: usize = 1024;

/// How often the store drops what has outlived every use while nobody asked for it.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

fn server_conf(config: &conf::Config, threads: usize) -> ServerConf {
    ServerConf {
        threads,
        work_stealing: true,
        // `Draining` ends the process as soon as it may; this bounds it should that fail.
        grace_period_seconds: Some(config.shutdown_timeout.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(0),
        upstream_keepalive_pool_size: IDLE_CONNECTIONS,
        // Each pool has its own limit; this one must not be in its way.
        max_retries: 16,
        ..ServerConf::default()
    }
}

fn listener(address: &conf::ListenAddress) -> ListenerConfig {
    let listener = match address {
        conf::ListenAddress::Tcp(address) => ListenerConfig::tcp(address.to_string()),
        // Whoever may write to the socket may speak to the nodes; pingora's default would be everybody.
        conf::ListenAddress::Unix(path) => ListenerConfig::uds(path.display().to_string())
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o660)),
    };
    // The lane has buffers of its own; pingora's would cost 64 KiB a connection and a copy.
    listener.l4_buffer(L4BufferSettings::unbuffered())
}

/// pingora binds Unix sockets itself and would take one away from a process that lives.
fn check_free(path: &Path) -> anyhow::Result<()> {
    // A socket that nobody answers on is left over from a process that died.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!("listening on {}: another process does already", path.display());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    anyhow::ensure!(
        folder.is_dir(),
        "listening on {}: there is no folder {}",
        path.display(),
        folder.display()
    );
    Ok(())
}

fn store_settings(config: &conf::Config) -> clearcoat_cache::Settings {
    clearcoat_cache::Settings {
        memory_bytes: config.cache.memory,
        max_variants: config.cache.max_variants.get(),
        max_marks: usize::try_from(config.cache.memory / MEMORY_OF_A_MARK)
            .unwrap_or(MAX_MARKS)
            .min(MAX_MARKS),
    }
}

/// Marks of URLs that were not for sharing; 64 bytes each at most.
const MAX_MARKS: usize = 100_000;

/// For so many bytes of memory there is one mark: they come off it beforehand, and must not take more than a sixteenth.
const MEMORY_OF_A_MARK: u64 = 1024;

fn lane_settings(config: &conf::Config) -> LaneSettings {
    let limits = &config.limits;
    LaneSettings {
        head: HeadLimits {
            bytes: limits.header_bytes as usize,
            count: (limits.header_count.get() as usize).min(MAX_HEADERS),
            url_bytes: limits.url_bytes as usize,
        },
        waits: Waits {
            header: limits.header_timeout,
            idle: limits.idle_timeout,
            write: limits.write_timeout,
        },
        requests_per_connection: limits.requests_per_connection,
    }
}

fn encode_settings(compress: &conf::Compress) -> EncodeSettings {
    let coding = |coding: &conf::Coding| match coding {
        conf::Coding::Brotli => Coding::Br,
        conf::Coding::Zstd => Coding::Zstd,
        conf::Coding::Gzip => Coding::Gzip,
    };
    EncodeSettings {
        codings: compress.codings.iter().map(coding).collect(),
        types: compress.types.clone(),
        min_bytes: compress.min_size,
        max_bytes: compress.max_size,
    }
}

fn header_names(names: &[conf::HeaderName]) -> anyhow::Result<Vec<HeaderName>> {
    names.iter().map(|name| HeaderName::from_bytes(name.as_str().as_bytes()).map_err(Into::into)).collect()
}

fn route_table(config: &conf::Config, pools: &Pools) -> anyhow::Result<RouteTable> {
    let treatment = |pool: &str, policy: conf::CachePolicy, rules: &conf::Rules, normalise: &Arc<[_]>| {
        let settings = config.pools.get(pool).with_context(|| format!("there is no pool {pool}"))?;
        anyhow::Ok(Treatment {
            pool: pools.get(pool).with_context(|| format!("there is no pool {pool}"))?,
            hash_on: match &settings.balance {
                conf::Balance::Hash { on, .. } => Some(hash_on(on)),
                conf::Balance::RoundRobin | conf::Balance::LeastRequests | conf::Balance::RandomTwo => None,
            },
            pass: policy == conf::CachePolicy::Pass,
            request: request_rules(rules, normalise)?,
            freshness: freshness(&config.cache, rules)?,
            deception_guard: rules.deception_guard,
            uncacheable_for: rules.uncacheable_ttl,
            compress: rules.compress,
        })
    };
    let mut sites = Vec::new();
    for site in &config.sites {
        let hosts = site.hosts.iter().map(host_rule).collect();
        let normalise = site.normalise.iter().map(normaliser).collect::<anyhow::Result<Arc<[_]>>>()?;
        let routes = site.routes.iter().map(|route| {
            let pool = route.pool.as_deref().unwrap_or(&site.pool);
            let treatment = treatment(pool, route.cache, &route.rules, &normalise)?;
            anyhow::Ok(Route { path: path_rule(&route.path), treatment })
        });
        let routes = routes.collect::<anyhow::Result<Vec<_>>>()?;
        let default = treatment(&site.pool, site.cache, &site.rules, &normalise)?;
        sites.push((hosts, Site { routes, default }));
    }
    Ok(RouteTable::new(sites))
}

fn request_rules(rules: &conf::Rules, normalise: &Arc<[Normaliser]>) -> anyhow::Result<RequestRules> {
    Ok(RequestRules {
        query: QueryRules {
            sort: rules.query.sort,
            parameters: match &rules.query.names {
                conf::QueryNames::All => Parameters::All,
                conf::QueryNames::Keep(names) => Parameters::Keep(name_patterns(names)),
                conf::QueryNames::Drop(names) => Parameters::Drop(name_patterns(names)),
            },
        },
        cookies: CookieRules {
            keep: match &rules.keep_cookies {
                conf::KeepCookies::All => None,
                conf::KeepCookies::Only(names) => Some(name_patterns(names)),
            },
            pass: rules.cookies == conf::CookiePolicy::Pass,
        },
        parts: KeyParts::new(
            header_names(&rules.key_headers)?,
            rules.key_cookies.iter().map(conf::CookieName::as_str),
        ),
        normalise: normalise.clone(),
        revalidate_on_request: rules.request_no_cache == conf::RequestNoCache::Revalidate,
    })
}

fn name_patterns(names: &[impl std::fmt::Display]) -> Box<[NamePattern]> {
    names.iter().map(|name| NamePattern::new(&name.to_string())).collect()
}

fn normaliser(settings: &conf::Normaliser) -> anyhow::Result<Normaliser> {
    let name = |name: &conf::HeaderName| HeaderName::from_bytes(name.as_str().as_bytes());
    let by = match &settings.how {
        conf::NormaliseHow::Languages(tags) => {
            let tags = tags.iter().map(|tag| HeaderValue::from_str(tag.as_str()));
            By::Languages(tags.collect::<Result<_, _>>()?)
        }
        conf::NormaliseHow::Classes { classes, otherwise } => {
            let classes = classes.iter().map(|class| {
                let pattern = normalise::pattern(class.pattern.as_str())?;
                anyhow::Ok((HeaderValue::from_str(class.value.as_str())?, pattern))
            });
            By::Classes {
                classes: classes.collect::<anyhow::Result<_>>()?,
                otherwise: match otherwise {
                    Some(value) => Some(HeaderValue::from_str(value.as_str())?),
                    None => None,
                },
            }
        }
    };
    Ok(Normaliser {
        header: name(&settings.header)?,
        by,
        goes_to: settings.into.as_ref().map(name).transpose()?,
    })
}

fn freshness(cache: &conf::Cache, rules: &conf::Rules) -> anyhow::Result<FreshnessSettings> {
    let targeted = TargetedFields::new(header_names(&cache.targeted_fields)?);
    // Codes come before classes, and both before the lifetime for all.
    let mut by_status = Vec::new();
    for (statuses, ttl) in rules.status_ttl.iter() {
        let statuses = match statuses {
            conf::StatusKey::Code(code) => Statuses::One(StatusCode::from_u16(code)?),
            conf::StatusKey::Class(digit) => Statuses::Class(digit),
        };
        by_status.push((statuses, ttl));
    }
    let with_rest = |ttl| DefaultTtls::new(by_status.iter().copied().chain([(Statuses::Usual, ttl)]));
    Ok(FreshnessSettings {
        overrides: rules.ttl.map(with_rest).unwrap_or_default(),
        defaults: with_rest(rules.default_ttl),
        heuristic_percent: cache.heuristic_percent,
        grace: rules.grace,
        keep: rules.keep,
        stale_if_error: rules.stale_if_error,
        grace_over_revalidate: cache.grace_over_revalidate,
        targeted: if cache.keep_targeted_fields { targeted } else { targeted.kept_back() },
        surrogate_control: cache.surrogate_control,
        reverse_proxy_ttl: cache.reverse_proxy_ttl,
        strip_set_cookie: match rules.set_cookie {
            conf::SetCookiePolicy::Refuse => false,
            conf::SetCookiePolicy::Strip => true,
        },
    })
}

fn hash_on(on: &conf::HashOn) -> HashOn {
    match on {
        conf::HashOn::Path => HashOn::Path,
        conf::HashOn::Header(name) => HashOn::Header(name.as_str().to_ascii_lowercase().into()),
        conf::HashOn::Cookie(pattern) => HashOn::Cookie(pattern.clone()),
        conf::HashOn::Client => HashOn::Client,
    }
}

fn host_rule(pattern: &conf::HostPattern) -> HostRule {
    match pattern {
        conf::HostPattern::Any => HostRule::Any,
        // Kept with its dot, so that the end of a longer name does not match.
        conf::HostPattern::Below(name) => HostRule::Below(format!(".{name}").into()),
        conf::HostPattern::Exact(name) => HostRule::Exact(name.as_str().into()),
    }
}

fn path_rule(pattern: &conf::PathPattern) -> PathRule {
    match pattern {
        conf::PathPattern::Exact(path) => PathRule::Exact(path.as_str().into()),
        conf::PathPattern::Prefix(prefix) => PathRule::Prefix(prefix.as_str().into()),
        conf::PathPattern::Suffix(suffix) => PathRule::Suffix(suffix.as_str().into()),
    }
}

fn pool_settings(config: &conf::Config) -> anyhow::Result<Vec<pool::PoolSettings>> {
    config.pools.iter().map(|(name, settings)| one_pool(name, settings)).collect()
}

fn one_pool(name: &str, settings: &conf::Pool) -> anyhow::Result<pool::PoolSettings> {
    let nodes = settings.nodes.iter().map(|node| pool::NodeSettings {
        address: match &node.address {
            conf::NodeAddress::Ip(address) => pool::NodeAddress::Ip(*address),
            conf::NodeAddress::Name { host, port } => {
                pool::NodeAddress::Name { host: host.as_str().to_owned(), port: *port }
            }
            conf::NodeAddress::Unix(path) => pool::NodeAddress::Unix(path.clone()),
        },
        weight: node.weight.get(),
        backup: node.backup,
        max_connections: node.max_connections.map(std::num::NonZero::get),
    });
    let health = &settings.health;
    let tls = settings.tls.as_ref().map(|tls| {
        let ca = tls.ca.as_deref().map(|path| {
            let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            pool::TrustedCas::from_pem(&pem).with_context(|| format!("reading {}", path.display()))
        });
        anyhow::Ok(pool::NodeTls { verify: tls.verify, sni: tls.sni.clone(), ca: ca.transpose()? })
    });
    Ok(pool::PoolSettings {
        name: name.to_owned(),
        nodes: nodes.collect(),
        balance: match &settings.balance {
            conf::Balance::RoundRobin => pool::Balance::RoundRobin,
            conf::Balance::LeastRequests => pool::Balance::LeastRequests,
            conf::Balance::RandomTwo => pool::Balance::RandomTwo,
            conf::Balance::Hash { balance_factor, .. } => {
                pool::Balance::Hash { balance_factor: *balance_factor }
            }
        },
        health: match &health.probe {
            None => pool::HealthSettings::OFF,
            Some(probe) => pool::HealthSettings {
                check: check(probe)?,
                interval: health.interval,
                timeout: health.timeout,
                fall: health.fall.get(),
                rise: health.rise.get(),
            },
        },
        passive: pool::PassiveSettings {
            failures: settings.passive.errors,
            eject: settings.passive.eject,
            eject_max: settings.passive.eject_max,
            max_ejected_percent: settings.passive.max_ejected_percent,
        },
        slow_start: settings.slow_start,
        queue_length: settings.queue.length as usize,
        queue_timeout: settings.queue.timeout,
        retry: pool::RetrySettings {
            attempts: settings.retry.attempts.get(),
            budget_percent: settings.retry.budget_percent,
            min_per_second: settings.retry.min_per_second,
        },
        timeouts: pool::Timeouts {
            connect: settings.timeouts.connect,
            first_byte: settings.timeouts.first_byte,
            between_bytes: settings.timeouts.between_bytes,
            idle: settings.timeouts.idle,
        },
        tls: tls.transpose()?,
        dns_min_ttl: settings.dns.min_ttl,
        dns_max_ttl: settings.dns.max_ttl,
    })
}

fn check(probe: &conf::Probe) -> anyhow::Result<pool::Check> {
    Ok(match probe {
        conf::Probe::Tcp => pool::Check::Tcp,
        conf::Probe::Http { method, path, host, expect, body } => pool::Check::Http(pool::HttpCheck {
            method: method.as_str().parse().unwrap_or(http::Method::GET),
            path: path.clone(),
            host: host.clone(),
            statuses: expect.ranges().iter().flat_map(|&(first, last)| first..=last).collect(),
            body: match body {
                Some(body) => Some(pool::BodyPattern(regex::bytes::Regex::new(body.as_str())?)),
                None => None,
            },
        }),
    })
}

/// Runs the pools' probes and resolution on a runtime of their own, so that busy request threads do not delay them.
struct Watching {
    pools: Arc<Pools>,
}

#[async_trait]
impl BackgroundService for Watching {
    async fn start(&self, shutdown: ShutdownWatch) {
        self.pools.clone().run(shutdown).await;
    }
}

/// Lets the store do what is due although nobody asks it anything.
struct Tidying {
    store: Arc<Store>,
    counters: Arc<Counters>,
    clock: Clock,
    memory: u64,
}

#[async_trait]
impl BackgroundService for Tidying {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = tokio::time::interval(TIDY_INTERVAL);
        let mut variants_dropped = 0;
        let mut governor = memory::footprint().map(|idle| Governor::new(self.memory, idle));
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.store.settle(self.clock.now());
                    if let (Some(governor), Some(now)) = (&mut governor, memory::footprint()) {
                        self.govern(governor, now);
                    }
                    let dropped = self.store.stats().variants_dropped;
                    self.counters.limit_times(Limit::Variants, dropped - variants_dropped);
                    variants_dropped = dropped;
                }
                _ = shutdown.changed() => return,
            }
        }
    }
}

impl Tidying {
    /// Keeps the process within the budget: what it takes for nothing comes off what the store may hold.
    fn govern(&self, governor: &mut Governor, now: Footprint) {
        let before = governor.capacity_bytes();
        let Some(capacity) = governor.measure(now) else { return };
        self.store.set_memory(capacity);
        let waste_mib = governor.waste_bytes(now) >> 20;
        // Once when it begins and once when it is over; what is between shows in the gauge.
        if before == self.memory {
            self.counters.limit(Limit::Memory);
            tracing::warn!(
                capacity_mib = capacity >> 20,
                waste_mib,
                "the process takes more memory than is in use: the cache is made smaller for it"
            );
        } else if capacity == self.memory {
            info!(waste_mib, "the cache has all of its memory again");
        }
    }
}

/// Ends the process once a shutdown has begun and no connection is left, at the latest when the time is over.
struct Draining {
    counters: Arc<Counters>,
    timeout: Duration,
}

#[async_trait]
impl BackgroundService for Draining {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let told = shutdown.wait_for(|down| *down).await.is_ok();
        if !told {
            return;
        }
        let deadline = tokio::time::Instant::now() + self.timeout;
        info!(connections = self.counters.totals().connections_open, "shutting down");
        loop {
            let open = self.counters.totals().connections_open;
            if open == 0 {
                info!("stopped, nothing was cut off");
                break;
            }
            if tokio::time::Instant::now() >= deadline {
                tracing::warn!(
                    connections = open,
                    "stopped with connections still open: shutdown_timeout is over"
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // pingora would wait for the whole of its grace period.
        std::process::exit(0);
    }
}

/// SIGTERM and SIGQUIT drain; SIGINT ends at once; SIGHUP does not end anything.
struct Signals;

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut quit), Ok(mut interrupt), Ok(mut hangup)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::quit()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
        ) else {
            tracing::error!("signals cannot be received: only SIGKILL will end this process");
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => return ShutdownSignal::GracefulTerminate,
                _ = quit.recv() => return ShutdownSignal::GracefulTerminate,
                _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
                // A terminal that goes away, or an operator who is used to it, must not take the edge down.
                _ = hangup.recv() => tracing::warn!("SIGHUP: the configuration is read at the start only"),
            }
        }
    }
}

/// Shows the admin room what runs.
struct Observer {
    store: Arc<Store>,
    fetcher: Arc<Fetcher>,
    explainer: Explainer,
    encoder: Arc<Encoder>,
    pools: Arc<Pools>,
    memory: u64,
}

impl admin::Observed for Observer {
    fn pools(&self) -> Vec<admin::PoolView> {
        self.pools.status().into_iter().map(pool_view).collect()
    }

    fn cache(&self) -> admin::CacheView {
        let stats = self.store.stats();
        admin::CacheView {
            entries: stats.entries,
            bytes: stats.bytes,
            budget_bytes: self.memory,
            fill_bytes: stats.fill_bytes,
            fixed_bytes: self.store.fixed_bytes(),
            capacity_bytes: self.store.memory_bytes(),
            tags: stats.tags,
            marks: stats.marks,
            fetching: self.fetcher.fills.len() as u64,
            stored: stats.stored,
            evictions: stats.evictions,
            expirations: stats.expired,
            encoding: admin::EncodingView {
                entries: stats.encoded_entries,
                bytes: stats.encoded_bytes,
                gzip: self.encoder.forms_made(Coding::Gzip),
                br: self.encoder.forms_made(Coding::Br),
                zstd: self.encoder.forms_made(Coding::Zstd),
                identity: self.encoder.forms_made(Coding::Identity),
                saved_bytes: self.encoder.saved_bytes(),
                seconds: self.encoder.spent().as_secs_f64(),
            },
        }
    }

    fn explain(&self, url: String, request: &[u8]) -> admin::why::Explanation {
        self.explainer.explain(url, request)
    }

    fn set_node(&self, pool: &str, node: &str, wish: admin::Wish) -> bool {
        let state = match wish {
            admin::Wish::Ready => pool::AdminState::Ready,
            admin::Wish::Drain => pool::AdminState::Drain,
            admin::Wish::Disable => pool::AdminState::Disabled,
        };
        self.pools.set_admin_state(pool, node, state)
    }

    fn ready(&self) -> admin::Readiness {
        if self.pools.ready() {
            return admin::Readiness::Ready;
        }
        let waiting = self.pools.status().into_iter().find(|pool| !pool.any_up);
        admin::Readiness::NotYet(match waiting {
            Some(pool) => format!("pool {}: no node is up", pool.name),
            None => "the nodes are being probed".to_owned(),
        })
    }
}

fn pool_view(pool: pool::PoolStatus) -> admin::PoolView {
    admin::PoolView {
        name: pool.name,
        queued: pool.queued as u64,
        nodes: pool.nodes.into_iter().map(node_view).collect(),
    }
}

fn node_view(node: pool::NodeStatus) -> admin::NodeView {
    let since = std::time::SystemTime::now()
        .checked_sub(node.since)
        .and_then(|since| since.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs());
    admin::NodeView {
        address: node.resolved.first().cloned().unwrap_or_else(|| node.address.clone()),
        name: node.address,
        state: match node.state {
            pool::NodeState::Unknown => admin::NodeState::Unknown,
            pool::NodeState::Up => admin::NodeState::Up,
            pool::NodeState::SlowStart => admin::NodeState::SlowStart,
            pool::NodeState::Down => admin::NodeState::Down,
            pool::NodeState::Ejected => admin::NodeState::Ejected,
            pool::NodeState::Draining => admin::NodeState::Draining,
            pool::NodeState::Disabled => admin::NodeState::Disabled,
        },
        reason: node.reason,
        since,
        weight: node.weight,
        // The pool counts in hundredths.
        effective_weight: node.effective_weight as f64 / 100.0,
        backup: node.backup,
        in_flight: u64::from(node.in_flight),
        queued: 0,
        requests: node.requests,
        failures: admin::Failures(vec![
            ("connect", node.failures.connect),
            ("timeout", node.failures.timeout),
            ("broken", node.failures.broken),
            ("status", node.failures.status),
        ]),
        ejections: node.ejections,
        probes_ok: node.probes_ok,
        probes_failed: node.probes_failed,
        probe_ms: node.probe_time.map(|time| time.as_secs_f64() * 1000.0),
    }
}
