//! The admin listener: metrics, health for balancers, the status document, and whatever an [`Extra`] adds.
//!
//! A pingora service with a socket of its own instead of pingora's listeners, for two reasons. It is bound before
//! anything starts, so that a taken port is a clear error and port 0 can be asked for. And it goes on accepting while
//! the process drains, so that `/ready` can say so; pingora closes its listeners at that moment. Pingora's HTTP server
//! is not used because its time limits are per read and end with the first request of a connection.
//!
//! Connections are bounded in number; each is a task of its own. The only lock guards the samples of the hit ratio.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use clearcoat_conf::ListenAddress;
use parking_lot::Mutex;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, error, info, warn};

use super::counters::Counters;
use super::guard::Guard;
use super::http1::{self, Answer, Ending, Handler, Limits, Request};
use super::kinds::Limit;
use super::metrics::{CONTENT_TYPE, Exporter};
use super::status::Status;
use super::view::{Observed, Readiness};
use super::why;
use super::window::{self, Window};

/// Connections that may be open at once. Scrapers and probes need a handful; a refused one is counted as
/// [`Limit::AdminConnections`].
const MOST_CONNECTIONS: usize = 256;

/// How long accepting rests after an error such as "too many open files", which would otherwise repeat at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What can be configured.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where to listen; port 0 for any free one. A Unix socket is for its owner alone.
    pub(crate) address: ListenAddress,
    /// What `Authorization: Bearer` must carry, except for `/live` and `/ready`. Without it everybody who can connect
    /// may read.
    pub(crate) token: Option<String>,
    /// Names by which this listener is addressed, beside loopback and its own address.
    pub(crate) names: Vec<String>,
}

/// More routes on the admin listener.
#[async_trait]
pub(crate) trait Extra: Send + Sync {
    /// What there is, as lines for the index: a method with a path, and what it does.
    fn index(&self) -> Vec<(&'static str, &'static str)>;

    /// The answer, or `None` if the path is none of its own. Requests come here after the listener's checks.
    async fn answer(&self, request: &Request) -> Option<Answer>;
}

/// A socket that is bound and not used yet; it needs no runtime.
enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// The same inside a runtime.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection of either kind.
enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The bound listener; `add_service` of pingora's server takes it.
pub(crate) struct AdminService {
    /// Taken when the service starts.
    bound: Option<Bound>,
    address: ListenAddress,
    routes: Arc<Routes>,
}

impl AdminService {
    /// Binds the listener. Connections are accepted once the service starts.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub(crate) fn bind(
        settings: &Settings,
        counters: Arc<Counters>,
        observed: Arc<dyn Observed>,
        extra: Option<Arc<dyn Extra>>,
    ) -> anyhow::Result<Self> {
        let (bound, address, ip) = bind(&settings.address)
            .with_context(|| format!("listening on {} for the admin interface", settings.address))?;
        let guard = Guard::new(settings.token.clone(), &settings.names, ip);
        let routes = Arc::new(Routes::new(counters, observed, guard, extra)?);
        Ok(Self { bound: Some(bound), address, routes })
    }

    /// Where it listens, with the port that was chosen for port 0.
    #[cfg(test)]
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    fn take_connection(&self, connection: Connection, room: &Arc<Semaphore>) {
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
            self.routes.counters.limit(Limit::AdminConnections);
            return warn!(limit = MOST_CONNECTIONS, "too many connections to the admin listener");
        };
        let routes = Arc::clone(&self.routes);
        tokio::spawn(async move {
            let _permit = permit;
            let ending = match connection {
                Connection::Tcp(mut stream) => {
                    // Answers are written in one piece; waiting for more would only delay them.
                    let _ = stream.set_nodelay(true);
                    http1::serve(&mut stream, &*routes, &Limits::SMALL).await
                }
                Connection::Unix(mut stream) => http1::serve(&mut stream, &*routes, &Limits::SMALL).await,
            };
            match ending {
                Ending::Done | Ending::Idle => {}
                Ending::Refused(_) | Ending::Broken => {
                    debug!(?ending, "a connection to the admin listener ended early");
                }
            }
        });
    }
}

/// Binds `address`; also gives what it became, and the IP address that a `Host` may name for it.
fn bind(address: &ListenAddress) -> io::Result<(Bound, ListenAddress, IpAddr)> {
    match address {
        ListenAddress::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((Bound::Tcp(listener), ListenAddress::Tcp(address), address.ip()))
        }
        ListenAddress::Unix(path) => {
            remove_abandoned(path)?;
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok((Bound::Unix(listener), address.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST)))
        }
    }
}

/// Removes a socket file that a dead process left behind; nothing else can be bound in its place.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Listener {
    fn new(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Tcp(listener) => TcpListener::from_std(listener).map(Self::Tcp),
            Bound::Unix(listener) => UnixListener::from_std(listener).map(Self::Unix),
        }
    }

    /// The next connection. Cancel safe: none is lost.
    async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Connection::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
        }
    }
}

#[async_trait]
impl Service for AdminService {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let Some(bound) = self.bound.take() else { return };
        let listener = match Listener::new(bound) {
            Ok(listener) => listener,
            Err(error) => return error!(%error, "the admin listener cannot be used"),
        };
        info!(address = %self.address, "the admin interface listens");
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut tick = tokio::time::interval(window::STEP);
        let mut watching = true;
        // Without an end: the runtime drops this task when the process has drained.
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(connection) => self.take_connection(connection, &room),
                    Err(error) => {
                        warn!(%error, "the admin listener could not accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = tick.tick() => self.routes.sample(),
                changed = shutdown.changed(), if watching => {
                    watching = changed.is_ok();
                    if *shutdown.borrow() {
                        self.routes.draining.store(true, Relaxed);
                    }
                }
            }
        }
    }

    fn name(&self) -> &str {
        "admin"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        // None of pingora's: this socket is not handed over in an upgrade.
        Some(Vec::new())
    }
}

/// What answers.
struct Routes {
    counters: Arc<Counters>,
    observed: Arc<dyn Observed>,
    exporter: Exporter,
    window: Arc<Mutex<Window>>,
    guard: Guard,
    extra: Option<Arc<dyn Extra>>,
    /// Set once, when the shutdown begins.
    draining: AtomicBool,
    started: Instant,
}

impl Routes {
    fn new(
        counters: Arc<Counters>,
        observed: Arc<dyn Observed>,
        guard: Guard,
        extra: Option<Arc<dyn Extra>>,
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        let window = Arc::<Mutex<Window>>::default();
        let exporter =
            Exporter::new(Arc::clone(&counters), Arc::clone(&observed), Arc::clone(&window), started)?;
        let draining = AtomicBool::new(false);
        Ok(Self { counters, observed, exporter, window, guard, extra, draining, started })
    }

    fn sample(&self) {
        let totals = self.counters.totals();
        self.window.lock().sample(totals.hits(), totals.lookups(), Instant::now());
    }

    fn readiness(&self) -> Readiness {
        if self.draining.load(Relaxed) { Readiness::Draining } else { self.observed.ready() }
    }

    fn ready(&self) -> Answer {
        match self.readiness() {
            Readiness::Ready => Answer::text(200, "ready"),
            Readiness::NotYet(reason) => Answer::text(503, reason),
            Readiness::Draining => Answer::text(503, "draining"),
        }
    }

    fn metrics(&self) -> Answer {
        match self.exporter.text() {
            Ok(text) => Answer::new(200, CONTENT_TYPE, text),
            Err(error) => failed(&error),
        }
    }

    fn status(&self) -> Answer {
        let totals = self.counters.totals();
        let last_minute = self.window.lock().ratio(totals.hits(), totals.lookups());
        let observed = &self.observed;
        let (cache, pools, sessions) = (observed.cache(), observed.pools(), observed.sessions());
        let status = Status::new(
            &totals,
            last_minute,
            self.readiness(),
            cache,
            pools,
            sessions,
            observed.pins(),
            self.started,
        );
        json(&status)
    }

    fn index(&self) -> Answer {
        let mut text = concat!("Clearcoat ", env!("CARGO_PKG_VERSION"), "\n\n").to_owned();
        let own = [
            ("GET /metrics", "for Prometheus"),
            ("GET /api/status", "the same and more as JSON"),
            (
                "GET /api/why?url=URL",
                "what the next request of a URL would meet; also method=, host=, header=Name:value",
            ),
            (
                "POST /api/pools/POOL/nodes/NODE/drain",
                "take a node out; also /disable, and /ready to give it back",
            ),
            ("POST /api/purge", "a purge as JSON: tags, urls, ban, all; soft, dry_run"),
            ("GET /api/purges", "the last purges: who, what, how many"),
            ("GET /api/bans", "the bans that are not over"),
            ("GET /api/tags?url=URL", "the tags of what is stored of a URL"),
            ("GET /api/urls?tag=TAG", "URLs that carry a tag; also limit="),
            ("GET /live", "200 while the process runs"),
            ("GET /ready", "200 if traffic should be sent here, else 503 and why"),
        ];
        let extra = self.extra.as_ref().map(|extra| extra.index()).unwrap_or_default();
        for (route, meaning) in own.into_iter().chain(extra) {
            text.push_str(&format!("{route:<40}{meaning}\n"));
        }
        Answer::text(200, text)
    }
}

/// A page in JSON, with its last line ended.
pub(super) fn json(page: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec_pretty(page) {
        Ok(mut text) => {
            text.push(b'\n');
            Answer::new(200, "application/json", text)
        }
        Err(error) => failed(&error.into()),
    }
}

fn failed(error: &anyhow::Error) -> Answer {
    error!(error = format!("{error:#}"), "an admin page could not be made");
    Answer::text(500, "this page could not be made; the log says why")
}

/// Answers a request to read with `page`, and any other by 405.
fn read_only(request: &Request, page: impl FnOnce() -> Answer) -> Answer {
    match request.method.as_str() {
        "GET" | "HEAD" => page(),
        _ => Answer::method_not_allowed("GET, HEAD"),
    }
}

#[async_trait]
impl Handler for Routes {
    async fn answer(&self, request: Request) -> Answer {
        // Balancers and container platforms cannot be given a token.
        let answer = match request.path.as_str() {
            "/live" => read_only(&request, || Answer::text(200, "live")),
            "/ready" => read_only(&request, || self.ready()),
            path => match (self.guard.refusal(&request), path) {
                (Some(refusal), _) => refusal,
                (None, "/") => read_only(&request, || self.index()),
                (None, "/metrics") => read_only(&request, || self.metrics()),
                (None, "/api/status") => read_only(&request, || self.status()),
                (None, why::PATH) => read_only(&request, || why::answer(&request, &*self.observed)),
                (None, "/api/purge" | "/api/purges" | "/api/bans" | "/api/tags" | "/api/urls") => {
                    super::purging::answer(&request, &*self.observed).unwrap_or_else(not_found)
                }
                (None, path) if path.starts_with("/api/pools/") => {
                    super::nodes::answer(&request, &*self.observed).unwrap_or_else(not_found)
                }
                (None, _) => match &self.extra {
                    Some(extra) => extra.answer(&request).await.unwrap_or_else(not_found),
                    None => not_found(),
                },
            },
        };
        answer.with("Cache-Control", "no-store").with("X-Content-Type-Options", "nosniff")
    }

    fn closing(&self) -> bool {
        self.draining.load(Relaxed)
    }
}

fn not_found() -> Answer {
    Answer::text(404, "there is nothing here; / lists what there is")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};

    use tokio::sync::watch;

    use super::super::RequestResult;
    use super::super::purging::{BanView, Order, PurgeView, Report, TagsView, UrlsView};
    use super::super::view::{CacheView, NodeState, NodeView, PoolView};
    use super::*;

    struct Edge(Readiness);

    impl Observed for Edge {
        fn pools(&self) -> Vec<PoolView> {
            let node = NodeView { name: "a:80".into(), state: NodeState::Ejected, ..NodeView::default() };
            vec![PoolView { name: "web".into(), queued: 0, nodes: vec![node] }]
        }

        fn cache(&self) -> CacheView {
            CacheView { entries: 2, ..CacheView::default() }
        }

        fn ready(&self) -> Readiness {
            self.0.clone()
        }

        fn explain(&self, url: String, _: clearcoat_cache::Scheme, request: &[u8]) -> why::Explanation {
            let answer = String::from_utf8_lossy(request).into_owned();
            why::Explanation { url, answer, ..why::Explanation::default() }
        }

        fn set_node(&self, pool: &str, node: &str, _: crate::admin::Wish) -> bool {
            (pool, node) == ("web", "a:80")
        }

        fn purge(&self, order: &Order) -> Result<Report, String> {
            if order.tags.is_empty() {
                Err("nothing".into())
            } else {
                Ok(Report { id: 3, ..Report::default() })
            }
        }

        fn purges(&self) -> Vec<PurgeView> {
            Vec::new()
        }

        fn bans(&self) -> Vec<BanView> {
            Vec::new()
        }

        fn tags_of(&self, url: &str) -> Result<Vec<TagsView>, String> {
            Ok(vec![TagsView { url: url.into(), tags: vec!["a".into()] }])
        }

        fn urls_of(&self, tag: &str, limit: usize) -> Result<UrlsView, String> {
            Ok(UrlsView { entries: limit as u64, urls: vec![tag.into()] })
        }
    }

    struct Bell;

    #[async_trait]
    impl Extra for Bell {
        fn index(&self) -> Vec<(&'static str, &'static str)> {
            vec![("POST /bell", "rings")]
        }

        async fn answer(&self, request: &Request) -> Option<Answer> {
            (request.path == "/bell").then(|| Answer::text(200, "rang"))
        }
    }

    fn routes(readiness: Readiness, token: Option<&str>) -> Routes {
        let guard = Guard::new(token.map(Into::into), &[], Ipv4Addr::LOCALHOST.into());
        Routes::new(Counters::new(), Arc::new(Edge(readiness)), guard, Some(Arc::new(Bell))).unwrap()
    }

    async fn ask(routes: &Routes, method: &str, path: &str) -> (u16, String) {
        let request = Request {
            method: method.into(),
            path: path.into(),
            host: "127.0.0.1:1".into(),
            ..Request::default()
        };
        let answer = routes.answer(request).await;
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn routes_and_methods() {
        let routes = routes(Readiness::Ready, None);
        for (method, path, status, part) in [
            ("GET", "/", 200, "POST /bell"),
            ("POST", "/api/pools/web/nodes/a:80/drain", 200, "done"),
            ("POST", "/api/pools/web/nodes/b:80/drain", 404, "no node b:80"),
            ("POST", "/api/pools/web/nodes/a:80/destroy", 404, "nothing here"),
            ("GET", "/api/pools/web/nodes/a:80/drain", 405, "POST"),
            ("HEAD", "/", 200, ""),
            ("GET", "/metrics", 200, "clearcoat_requests_total{result=\"hit\"} 0"),
            ("GET", "/api/status", 200, "\"state\": \"ejected\""),
            ("GET", "/api/why", 400, "url is missing"),
            ("POST", "/api/why", 405, "GET, HEAD"),
            ("GET", "/live", 200, "live"),
            ("GET", "/ready", 200, "ready"),
            ("POST", "/bell", 200, "rang"),
            ("GET", "/nothing", 404, "/ lists"),
            ("GET", "/metrics/", 404, ""),
            ("POST", "/metrics", 405, "GET, HEAD"),
            ("DELETE", "/api/status", 405, ""),
            ("GET", "/api/purge", 405, "POST"),
            ("POST", "/api/purge", 400, "cannot be read"),
            ("POST", "/api/purges", 405, "GET, HEAD"),
            ("GET", "/api/purges", 200, "[]"),
            ("GET", "/api/bans", 200, "[]"),
            ("GET", "/api/tags", 400, "url is missing"),
            ("GET", "/api/urls", 400, "tag is missing"),
            ("POST", "/ready", 405, ""),
            ("POST", "/live", 405, ""),
        ] {
            let (got, body) = ask(&routes, method, path).await;
            assert_eq!(got, status, "{method} {path}: {body}");
            assert!(body.contains(part), "{method} {path}: {body}");
        }
    }

    #[tokio::test]
    async fn a_question_reaches_the_edge_as_a_request() {
        let routes = routes(Readiness::Ready, None);
        let request = Request {
            method: "GET".into(),
            path: "/api/why".into(),
            query: Some("url=http%3A%2F%2Fa%2Fb%3Fc&method=HEAD&header=Accept%3A%20x".into()),
            host: "edge.example".into(),
            ..Request::default()
        };
        let answer = routes.answer(request).await;
        assert_eq!(answer.status, 200);
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(document["url"], "http://a/b?c");
        assert_eq!(document["answer"], "HEAD /b?c HTTP/1.1\r\nHost: a\r\nAccept: x\r\n\r\n");
    }

    #[tokio::test]
    async fn readiness_tells_why_not() {
        let waiting = routes(Readiness::NotYet("pool web: not probed yet".into()), None);
        assert_eq!(ask(&waiting, "GET", "/ready").await, (503, "pool web: not probed yet\n".into()));
        assert_eq!(ask(&waiting, "GET", "/live").await.0, 200);
        let ready = routes(Readiness::Ready, None);
        ready.draining.store(true, Relaxed);
        assert_eq!(ask(&ready, "GET", "/ready").await, (503, "draining\n".into()));
        assert!(ask(&ready, "GET", "/api/status").await.1.contains("\"draining\""));
        assert!(ready.closing());
    }

    #[tokio::test]
    async fn a_token_guards_all_but_health() {
        let routes = routes(Readiness::Ready, Some("s3cret"));
        for (path, status) in [
            ("/", 401),
            ("/metrics", 401),
            ("/api/status", 401),
            ("/api/why", 401),
            ("/nothing", 401),
            ("/live", 200),
            ("/ready", 200),
        ] {
            assert_eq!(ask(&routes, "GET", path).await.0, status, "{path}");
        }
    }

    #[tokio::test]
    async fn the_status_document_has_its_fields() {
        let routes = routes(Readiness::Ready, None);
        routes.counters.request(RequestResult::Hit, 200, 10, Duration::ZERO);
        routes.counters.limit(Limit::QueueFull);
        let document: serde_json::Value =
            serde_json::from_str(&ask(&routes, "GET", "/api/status").await.1).unwrap();
        for (pointer, expected) in [
            ("/readiness/state", serde_json::json!("ready")),
            ("/requests/hit", serde_json::json!(1)),
            ("/responses/2xx", serde_json::json!(1)),
            ("/hit_ratio/since_start", serde_json::json!(1.0)),
            ("/limits", serde_json::json!({"queue_full": 1})),
            ("/cache/entries", serde_json::json!(2)),
            ("/pools/0/name", serde_json::json!("web")),
            ("/pools/0/nodes/0/failures", serde_json::json!({})),
        ] {
            assert_eq!(document.pointer(pointer), Some(&expected), "{pointer}");
        }
    }

    fn settings(address: &str) -> Settings {
        Settings { address: address.parse().unwrap(), token: None, names: Vec::new() }
    }

    fn service(address: &str) -> anyhow::Result<AdminService> {
        AdminService::bind(&settings(address), Counters::new(), Arc::new(Edge(Readiness::Ready)), None)
    }

    fn get(mut stream: impl Read + Write, path: &str) -> String {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_answers_over_the_wire_also_while_draining() {
        let mut admin = service("127.0.0.1:0").unwrap();
        let address = admin.address().to_string();
        let error = service(&address).err().unwrap();
        assert!(format!("{error:#}").contains(&address), "{error:#}");

        let (stop, shutdown) = watch::channel(false);
        let running = tokio::spawn(async move { admin.start_service(None, shutdown, 1).await });
        let ready = || {
            let address = address.clone();
            tokio::task::spawn_blocking(move || get(std::net::TcpStream::connect(address).unwrap(), "/ready"))
        };
        assert!(ready().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        stop.send(true).unwrap();
        // The service hears of it a moment later.
        let answer = loop {
            let answer = ready().await.unwrap();
            if !answer.starts_with("HTTP/1.1 200") {
                break answer;
            }
        };
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\ndraining\n"), "{answer}");
        running.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_unix_socket_is_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        // Left behind by a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let mut admin = service(&format!("unix:{}", path.display())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(service(&format!("unix:{}", path.display())).is_err(), "it is in use");

        let (_stop, shutdown) = watch::channel(false);
        let running = tokio::spawn(async move { admin.start_service(None, shutdown, 1).await });
        let asked = tokio::task::spawn_blocking(move || {
            get(std::os::unix::net::UnixStream::connect(path).unwrap(), "/live")
        });
        assert!(asked.await.unwrap().ends_with("\r\n\r\nlive\n"));
        running.abort();
    }
}
