//! What a web node of the demonstration answers: a handful of pages, each showing one thing that an edge does.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::admin::http1::{Answer, Handler, Request};

/// How many articles there are: `/article/1` and so on.
const ARTICLES: u32 = 9;

/// What `/slow` takes: long enough to start a hundred requests meanwhile by hand.
const SLOW: Duration = Duration::from_secs(2);

/// The pages of one node.
pub(super) struct Pages {
    number: usize,
    served: AtomicU64,
}

/// A page that is about to be put together.
struct Page<'a> {
    title: &'a str,
    /// What it shows, as HTML.
    text: String,
    /// The tags it carries, for the `xkey` field; may be empty.
    tags: &'a str,
    /// The `Cache-Control` field.
    cache: &'a str,
}

impl Pages {
    /// The pages of node `number`.
    pub(super) fn new(number: usize) -> Self {
        Self { number, served: AtomicU64::new(0) }
    }

    /// Requests answered so far, health probes not among them.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Relaxed)
    }

    fn route(&self, request: &Request) -> Answer {
        let reading = matches!(request.method.as_str(), "GET" | "HEAD");
        match request.path.as_str() {
            "/form" if request.method == "POST" => self.echo(request),
            _ if !reading => Answer::method_not_allowed("GET, HEAD"),
            "/" => self.front(),
            "/news" => self.show(&Page {
                title: "News",
                text: "<p>Fresh for 30 seconds. After that, or after a soft purge, you are given this copy at once while \
                       the edge fetches a newer one behind your back.</p>"
                    .into(),
                tags: "news",
                cache: "s-maxage=30, stale-while-revalidate=30",
            }),
            "/now" if request.has_parameter("plain") => self.plain_now(),
            "/now" => self.show(&Page {
                title: "Now",
                text: "<p>Never stored: each reload comes from a node, one after the other.</p>".into(),
                tags: "",
                cache: "no-store",
            }),
            "/slow" => self.show(&Page {
                title: "Slow",
                text: "<p>This page took a node two seconds. However many ask for it meanwhile, a node is asked once.</p>"
                    .into(),
                tags: "slow",
                cache: "s-maxage=20",
            }),
            "/cart" => self.cart(request),
            "/form" => self.show(&Page {
                title: "Form",
                text: "<form method=\"post\"><input name=\"name\" value=\"Ada\"> <button>Send</button></form>\
                       <p>A POST goes through to a node and is never stored.</p>"
                    .into(),
                tags: "form",
                cache: "s-maxage=60",
            }),
            "/healthz" => Answer::text(200, "healthy"),
            path => match article(path) {
                Some(number) => self.article(number),
                None => self.missing(),
            },
        }
    }

    fn front(&self) -> Answer {
        let mut text = "<p>This page was made by a web node and is kept by the edge for a minute. Reload it: as long as \
                        the time below stands still, no node was asked.</p><ul class=\"links\">"
            .to_owned();
        for number in 1..=ARTICLES {
            let _ = write!(text, "<li><a href=\"/article/{number}\">Article {number}</a></li>");
        }
        for (path, what) in [
            ("/news", "stale while a newer copy is fetched"),
            ("/slow", "takes two seconds, once for all who ask"),
            ("/now", "never stored"),
            ("/cart", "private: a cookie per visitor"),
            ("/form", "a POST"),
        ] {
            let _ = write!(text, "<li><a href=\"{path}\">{path}</a> {what}</li>");
        }
        text.push_str("</ul>");
        self.show(&Page { title: "Front page", text, tags: "front p1", cache: "s-maxage=60" })
    }

    fn article(&self, number: u32) -> Answer {
        let text = format!(
            "<p>It carries two tags: <code>article</code>, as all articles do, and <code>article-{number}</code>. \
             A purge of either takes it out of the cache at once.</p>\
             <p class=\"links\"><a href=\"/article/{}\">previous</a> <a href=\"/article/{}\">next</a></p>",
            if number == 1 { ARTICLES } else { number - 1 },
            if number == ARTICLES { 1 } else { number + 1 },
        );
        let title = format!("Article {number}");
        let tags = format!("article article-{number}");
        self.show(&Page { title: &title, text, tags: &tags, cache: "s-maxage=300" })
    }

    fn cart(&self, request: &Request) -> Answer {
        let known = request.field("cookie").is_some_and(|cookies| cookies.contains("cart="));
        let text = if known { "<p>Welcome back.</p>" } else { "<p>A new cart, and a cookie for it.</p>" };
        let page = Page { title: "Cart", text: text.into(), tags: "", cache: "private, no-store" };
        let answer = self.show(&page);
        if known {
            return answer;
        }
        let cookie = format!("cart={:016x}; Path=/; HttpOnly; SameSite=Lax", fastrand::u64(..));
        answer.with("Set-Cookie", cookie)
    }

    fn echo(&self, request: &Request) -> Answer {
        let sent = escape(&String::from_utf8_lossy(&request.body));
        let text = format!("<p>The node received {} bytes:</p><pre>{sent}</pre>", request.body.len());
        self.show(&Page { title: "Form", text, tags: "", cache: "no-store" })
    }

    fn plain_now(&self) -> Answer {
        let text = format!("node {}  {}\n", self.number, clock(SystemTime::now()));
        Answer::text(200, text).with("Cache-Control", "no-store").with("X-Node", self.number.to_string())
    }

    fn missing(&self) -> Answer {
        let text = "<p>There is no such page on the nodes. Remembered for five seconds.</p>";
        let mut answer =
            self.show(&Page { title: "Not found", text: text.into(), tags: "missing", cache: "s-maxage=5" });
        answer.status = 404;
        answer
    }

    fn show(&self, page: &Page<'_>) -> Answer {
        let Page { title, text, tags, cache } = page;
        let (node, time) = (self.number, clock(SystemTime::now()));
        let shown_tags = if tags.is_empty() { "none" } else { tags };
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head>\
             <body><main><p class=\"home\"><a href=\"/\">Clearcoat demo</a></p><h1>{title}</h1>{text}\
             <dl><dt>Node</dt><dd class=\"node n{node}\">{node}</dd><dt>Made at</dt><dd>{time}</dd>\
             <dt>Tags</dt><dd>{shown_tags}</dd><dt>Cache-Control</dt><dd>{cache}</dd></dl></main></body></html>\n"
        );
        let answer = Answer::new(200, "text/html; charset=utf-8", html)
            .with("Cache-Control", *cache)
            .with("X-Node", node.to_string());
        if tags.is_empty() { answer } else { answer.with("xkey", *tags) }
    }
}

/// Looks the same in light and dark surroundings.
const STYLE: &str = "\
    :root{color-scheme:light dark;--soft:light-dark(#eef1f4,#22272e);--link:light-dark(#0b57d0,#8ab4f8)}\
    body{font:17px/1.5 system-ui,sans-serif;margin:0;background:light-dark(#fff,#16191d);\
    color:light-dark(#1c2127,#dfe3e8)}\
    main{max-width:36rem;margin:3rem auto;padding:0 1rem}h1{margin:.2em 0;font-size:2rem}\
    a{color:var(--link)}.home{margin:0;font-size:.9rem}.links li{margin:.2em 0}\
    dl{display:grid;grid-template-columns:auto 1fr;gap:.4rem 1.2rem;margin-top:2rem;padding:1rem 1.2rem;\
    background:var(--soft);border-radius:.6rem}dt{opacity:.7}dd{margin:0;font-family:ui-monospace,monospace}\
    .node{font-weight:700}.n1{color:light-dark(#9a3412,#fdba74)}.n2{color:light-dark(#166534,#86efac)}\
    .n3{color:light-dark(#6b21a8,#d8b4fe)}pre{background:var(--soft);padding:1rem;overflow:auto}";

#[async_trait]
impl Handler for Pages {
    async fn answer(&self, request: Request) -> Answer {
        if request.path != "/healthz" {
            self.served.fetch_add(1, Relaxed);
        }
        if request.path == "/slow" {
            tokio::time::sleep(SLOW).await;
        }
        self.route(&request)
    }
}

/// The number in `/article/N`.
fn article(path: &str) -> Option<u32> {
    let text = path.strip_prefix("/article/")?;
    let number = text.parse().ok()?;
    // `+1` and `01` would be other names of the same page.
    (text == format!("{number}") && (1..=ARTICLES).contains(&number)).then_some(number)
}

/// The time of day in UTC with milliseconds.
fn clock(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (seconds, milliseconds) = (since.as_secs(), since.subsec_millis());
    format!("{:02}:{:02}:{:02}.{milliseconds:03} UTC", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Text that means nothing else inside HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;

    fn request(method: &str, path: &str, body: &str) -> Request {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Request { method: method.into(), path: path.into(), body, ..Request::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_say_who_may_keep_them() {
        let pages = Pages::new(2);
        for (method, path, status, cache, tags) in [
            ("GET", "/", 200, Some("s-maxage=60"), Some("front p1")),
            ("HEAD", "/article/1", 200, Some("s-maxage=300"), Some("article article-1")),
            ("GET", "/article/9", 200, Some("s-maxage=300"), Some("article article-9")),
            ("GET", "/article/10", 404, Some("s-maxage=5"), Some("missing")),
            ("GET", "/article/01", 404, Some("s-maxage=5"), Some("missing")),
            ("GET", "/article/", 404, Some("s-maxage=5"), Some("missing")),
            ("GET", "/news", 200, Some("s-maxage=30, stale-while-revalidate=30"), Some("news")),
            ("GET", "/now", 200, Some("no-store"), None),
            ("GET", "/slow", 200, Some("s-maxage=20"), Some("slow")),
            ("GET", "/cart", 200, Some("private, no-store"), None),
            ("POST", "/form", 200, Some("no-store"), None),
            ("GET", "/healthz", 200, None, None),
            ("DELETE", "/", 405, None, None),
            ("POST", "/article/1", 405, None, None),
        ] {
            let answer = pages.answer(request(method, path, "")).await;
            let field = |wanted| {
                answer.fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
            };
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!((field("Cache-Control"), field("xkey")), (cache, tags), "{method} {path}");
        }
        assert_eq!(pages.served(), 13, "probes are not counted");
    }

    #[test]
    fn what_was_posted_comes_back_as_text() {
        let answer = Pages::new(1).route(&request("POST", "/form", "name=<script>&x='\""));
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(body.contains("<pre>name=&lt;script&gt;&amp;x=&#39;&quot;</pre>"), "{body}");
        assert!(!body.contains("<script"), "{body}");
    }

    #[test]
    fn a_cart_gets_one_cookie() {
        let pages = Pages::new(1);
        let has_cookie = |answer: &Answer| answer.fields.iter().any(|(name, _)| *name == "Set-Cookie");
        let mut visit = request("GET", "/cart", "");
        assert!(has_cookie(&pages.route(&visit)));
        visit.fields.push(("cookie".into(), "a=b; cart=0123".into()));
        assert!(!has_cookie(&pages.route(&visit)));
    }

    #[test]
    fn the_clock_is_utc() {
        assert_eq!(clock(UNIX_EPOCH + Duration::from_millis(86_400_000 + 3_723_004)), "01:02:03.004 UTC");
    }
}
