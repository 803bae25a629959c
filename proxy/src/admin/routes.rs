//! What the admin listener answers, by path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;
use tracing::error;

use super::counters::Counters;
use super::guard::Guard;
use super::http1::{Answer, Handler, Request};
use super::metrics::{CONTENT_TYPE, Exporter};
use super::status::Status;
use super::tailing;
use super::view::{Observed, Readiness};
use super::why;
use super::window::Window;

/// More routes on the admin listener.
#[async_trait]
pub(crate) trait Extra: Send + Sync {
    /// What there is, as lines for the index: a method with a path, and what it does.
    fn index(&self) -> Vec<(&'static str, &'static str)>;

    /// The answer, or `None` if the path is none of its own. Requests come here after the listener's checks.
    async fn answer(&self, request: &Request) -> Option<Answer>;
}

/// What answers.
pub(super) struct Routes {
    pub(super) counters: Arc<Counters>,
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
    pub(super) fn new(
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

    pub(super) fn sample(&self) {
        let totals = self.counters.totals();
        self.window.lock().sample(totals.hits(), totals.lookups(), Instant::now());
    }

    /// Says from now on that the process drains.
    pub(super) fn drain(&self) {
        self.draining.store(true, Relaxed);
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
        let status = Status::new(&totals, last_minute, self.readiness(), &*self.observed, self.started);
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
            ("POST /api/reload", "read the configuration again and put it into force"),
            ("POST /api/rollback", "put the one before into force again; also number="),
            ("GET /api/configurations", "the last configurations, those that were refused too"),
            ("GET /api/configuration", "the one in force; also number=, and /diff with from= and to="),
            ("GET /api/log", "requests while they are answered, as JSON lines or events; also filter="),
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
                (None, tailing::PATH) => read_only(&request, || tailing::answer(&request, &*self.observed)),
                (None, "/api/purge" | "/api/purges" | "/api/bans" | "/api/tags" | "/api/urls") => {
                    super::purging::answer(&request, &*self.observed).unwrap_or_else(not_found)
                }
                (None, path)
                    if path.starts_with("/api/configuration")
                        || ["/api/reload", "/api/rollback"].contains(&path) =>
                {
                    super::configurations::answer(&request, &*self.observed).unwrap_or_else(not_found)
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
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::super::kinds::{Limit, RequestResult};
    use super::super::purging::{BanView, Order, PurgeView, Report, TagsView, UrlsView};
    use super::super::view::{CacheView, NodeState, NodeView, PoolView};
    use super::*;
    use crate::access::filter::Filter;
    use crate::access::tail::{Crowded, Reader, Tail};

    pub(crate) struct Edge(pub(crate) Readiness);

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

        fn explain(&self, url: String, _: why::Asker, request: &[u8]) -> why::Explanation {
            let answer = String::from_utf8_lossy(request).into_owned();
            why::Explanation { url, answer, ..why::Explanation::default() }
        }

        fn reload(&self, _: &str) -> crate::admin::configurations::Changed {
            crate::admin::configurations::Changed::Impossible("no file".into())
        }

        fn roll_back(&self, _: Option<u64>, _: &str) -> crate::admin::configurations::Changed {
            crate::admin::configurations::Changed::Done(Default::default())
        }

        fn configurations(&self) -> Vec<crate::admin::configurations::ConfigurationView> {
            Vec::new()
        }

        fn configuration(&self, number: Option<u64>) -> Option<String> {
            number.is_none().then(|| "threads = 1\n".to_owned())
        }

        fn listen(&self, filter: Filter) -> Result<Reader, Crowded> {
            Tail::new(Counters::new()).listen(filter)
        }

        fn log_readers(&self) -> u64 {
            2
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
            ("POST", "/api/log", 405, "GET, HEAD"),
            ("GET", "/api/log", 200, ""),
            ("HEAD", "/api/log", 200, ""),
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
        ready.drain();
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
}
