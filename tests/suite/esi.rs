//! Pages that are put together of fragments (Edge Side Includes): each fragment cached by itself, all that is missing fetched at the
//! same time, and nothing of it ever in the way of the page.

use std::io::Write;

use clearcoat_tests::client::Answer;
use clearcoat_tests::purge::Counts;
use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup, wait};

/// A page with tags, marked as such.
fn page(body: impl Into<String>) -> Page {
    Page::text(body.into())
        .header("Surrogate-Control", "content=\"ESI/1.0\"")
        .header("Content-Type", "text/html")
}

/// Tags that include these paths, each in brackets.
fn includes(paths: &[&str]) -> String {
    paths.iter().map(|path| format!("[<esi:include src=\"{path}\"/>]")).collect()
}

async fn assembling(node: &Node) -> Proxy {
    Setup::before(node).site("esi = true").start().await
}

async fn limit(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", limit)])
}

async fn trouble(proxy: &Proxy, kind: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_esi_trouble_total", &[("kind", kind)])
}

fn is_private(answer: &Answer) -> bool {
    answer.headers("cache-control") == ["private, no-cache"]
}

#[tokio::test]
async fn a_page_is_put_together_and_then_comes_from_memory_alone() {
    let node = Node::start().await;
    let tags = "a <esi:include src=\"/one\" /><esi:remove>gone</esi:remove> b <!--esi <esi:include src='/two?x=1&amp;y=2'/> -->\
                <esi:comment text=\"x\"/> c";
    node.serve("/", page(tags).fresh_for(60).header("ETag", "\"1\"").header("Age", "7"));
    node.serve("/one", Page::numbered("one").fresh_for(60).header("X-Own", "1"));
    node.serve("/two", Page::text("2".repeat(6000)).fresh_for(60));
    let proxy = assembling(&node).await;
    let expected = format!("a one 1 b  {}  c", "2".repeat(6000));
    let cold = proxy.get("/").await.expect_status(200);
    assert_eq!(cold.text(), expected);
    assert!(is_private(&cold), "nobody knew yet what the fragments say: {cold}");
    for _ in 0..2 {
        let warm = proxy.get("/").await.expect_status(200);
        assert_eq!((warm.served(), warm.text()), (Served::Hit, expected.clone()));
        assert_eq!(warm.header("content-length"), Some(&*expected.len().to_string()));
        assert_eq!(warm.headers("cache-control"), ["public, max-age=60"]);
        assert_eq!(warm.age(), Some(7), "the page's own");
        for name in ["surrogate-control", "etag", "last-modified", "x-own", "accept-ranges"] {
            assert_eq!(warm.header(name), None, "{name}");
        }
    }
    assert_eq!((node.count("/"), node.count("/one"), node.count("/two")), (1, 1, 1));
    assert_eq!(node.last("/two").target, "/two?x=1&y=2");
    // The fragment is a page like any other.
    assert_eq!(proxy.get("/one").await.served(), Served::Hit);
}

#[tokio::test]
async fn nodes_are_told_by_us_and_only_where_it_is_wanted() {
    let node = Node::start().await;
    node.serve("/plain/", page("<esi:comment text='x'/>kept").fresh_for(60));
    node.serve("/", page("<esi:comment text='x'/>left").fresh_for(60));
    node.serve("/unmarked", Page::text("<esi:comment text='x'/>kept").fresh_for(60));
    let proxy = Setup::before(&node)
        .site("esi = true\n[[site.route]]\npath = \"/plain/*\"\nesi = false")
        .start()
        .await;
    let forged = |path| Request::get(path).header("Surrogate-Capability", "other=\"ESI/1.0\"");
    for _ in 0..2 {
        assert_eq!(proxy.ask(&forged("/")).await.text(), "left");
        assert_eq!(proxy.ask(&forged("/unmarked")).await.text(), "<esi:comment text='x'/>kept");
        assert_eq!(proxy.ask(&forged("/plain/")).await.text(), "<esi:comment text='x'/>kept");
    }
    assert_eq!(node.last("/").headers("surrogate-capability"), ["clearcoat=\"ESI/1.0\""]);
    assert_eq!(node.last("/plain/").header("surrogate-capability"), None);
    assert_eq!(node.total(), 3);
}

#[tokio::test]
async fn twenty_missing_fragments_are_fetched_at_the_same_time() {
    let node = Node::start().await;
    let paths: Vec<String> = (0..20).map(|number| format!("/f/{number}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let gate = Gate::closed();
    for path in &paths {
        node.serve(path, Page::text(path.to_string()).fresh_for(60).held_before_head(&gate));
    }
    node.serve("/", page(includes(&paths)).fresh_for(60));
    let proxy = assembling(&node).await;
    let mut crowd = proxy.crowd(1, &Request::get("/"));
    // None of them ends before all are there.
    gate.reached(20).await;
    gate.open();
    let expected: String = paths.iter().map(|path| format!("[{path}]")).collect();
    assert_eq!(crowd.next().await.unwrap().text(), expected);
    assert_eq!(node.peak(), 20);
    assert_eq!((proxy.get("/").await.served(), proxy.get("/").await.text()), (Served::Hit, expected));
}

#[tokio::test]
async fn a_page_goes_out_in_order_as_far_as_it_is_there() {
    let node = Node::start().await;
    let (first, second) = (Gate::closed(), Gate::closed());
    node.serve("/", page(format!("head{}foot", includes(&["/slow", "/quick", "/halved"]))).fresh_for(60));
    node.serve("/slow", Page::text("slow").fresh_for(60).held_before_head(&first));
    node.serve("/quick", Page::text("quick").fresh_for(60));
    node.serve("/halved", Page::text("first second").no_store().held_in_body(6, &second));
    let proxy = assembling(&node).await;
    let mut visitor = proxy.connect().await;
    visitor.send(Request::get("/").to_bytes()).await.unwrap();
    let mut head = visitor.head("GET").await.unwrap();
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    let mut got = String::new();
    let mut read_until = async |end: &str| {
        while !got.ends_with(end) {
            got.push_str(str::from_utf8(&visitor.piece(&mut head).await.unwrap()).unwrap());
        }
        got.clone()
    };
    assert_eq!(read_until("[").await, "head[");
    wait::until_true("the quick one to be there", || node.count("/quick") == 1).await;
    first.open();
    // A fragment streams too.
    assert_eq!(read_until("first ").await, "head[slow][quick][first ");
    second.open();
    assert_eq!(read_until("foot").await, "head[slow][quick][first second]foot");
}

#[tokio::test]
async fn purging_a_fragment_changes_the_page_at_once() {
    let node = Node::start().await;
    node.serve("/", page(includes(&["/news", "/menu"])).fresh_for(600).tags("page"));
    node.serve("/news", Page::numbered("news").fresh_for(600).tags("news"));
    node.serve("/menu", Page::numbered("menu").fresh_for(600).tags("menu"));
    let proxy = assembling(&node).await;
    for round in 1..=3 {
        assert_eq!(proxy.get("/").await.text(), format!("[news {round}][menu 1]"));
        assert_eq!(proxy.get("/").await.text(), format!("[news {round}][menu 1]"));
        assert_eq!(proxy.purge_tags("news").await, Counts { purged: 1, expired: 0 });
    }
    proxy.purge_url("/menu").await;
    assert_eq!(proxy.get("/").await.text(), "[news 4][menu 2]");
    assert_eq!(node.count("/"), 1);
    proxy.purge_tags("page").await;
    assert_eq!(proxy.get("/").await.text(), "[news 4][menu 2]");
    assert_eq!(node.count("/"), 2);
}

#[tokio::test]
async fn a_fragment_that_is_for_one_visitor_is_fetched_for_each() {
    let node = Node::start().await;
    node.serve("/", page(includes(&["/cart", "/menu"])).fresh_for(600));
    node.serve(
        "/cart",
        Page::written(|asked| format!("cart of {}", asked.header("cookie").unwrap_or("nobody")))
            .no_store()
            .header("Set-Cookie", "seen=1"),
    );
    node.serve("/menu", Page::numbered("menu").fresh_for(600));
    let proxy = assembling(&node).await;
    for visitor in ["sid=a", "sid=b", "sid=a"] {
        let request = Request::get("/")
            .header("Cookie", visitor)
            .header("If-None-Match", "\"x\"")
            .header("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("Range", "bytes=0-3")
            .header("Accept-Encoding", "gzip");
        let answer = proxy.ask(&request).await.expect_status(200);
        assert_eq!(answer.text(), format!("[cart of {visitor}][menu 1]"));
        assert!(is_private(&answer) && answer.header("set-cookie").is_none(), "{answer}");
    }
    let asked = node.last("/cart");
    for name in ["if-none-match", "if-modified-since", "range", "content-length", "accept-encoding"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!((node.count("/"), node.count("/cart"), node.count("/menu")), (1, 3, 1));
}

#[tokio::test]
async fn a_fragment_that_varies_makes_the_page_one_for_its_visitor() {
    let node = Node::start().await;
    node.serve("/", page(includes(&["/who"])).fresh_for(600));
    node.serve(
        "/who",
        Page::written(|asked| asked.header("x-group").unwrap_or("none").to_owned())
            .fresh_for(600)
            .header("Vary", "X-Group, Accept-Encoding"),
    );
    let proxy = assembling(&node).await;
    for round in 0..2 {
        for group in ["editors", "readers"] {
            let answer = proxy.ask(&Request::get("/").header("X-Group", group)).await;
            assert_eq!(answer.text(), format!("[{group}]"));
            assert!(is_private(&answer), "round {round}: {answer}");
        }
    }
    assert_eq!(node.count("/who"), 2);
}

#[tokio::test]
async fn pages_that_are_not_kept_are_put_together_too() {
    let node = Node::start().await;
    node.serve("/", Page::numbered("page").no_store());
    node.serve("/page", page(format!("x{}", includes(&["/news"]))).no_store());
    node.serve("/passed/page", page(format!("y{}", includes(&["/news"]))).fresh_for(60).chunked());
    node.serve("/news", Page::numbered("news").fresh_for(600));
    let proxy = Setup::before(&node)
        .site("esi = true\n[[site.route]]\npath = \"/passed/*\"\ncache = \"pass\"")
        .start()
        .await;
    for _ in 0..2 {
        for (path, expected) in [("/page", "x[news 1]"), ("/passed/page", "y[news 1]")] {
            let answer = proxy.get(path).await.expect_status(200);
            assert_eq!((answer.text().as_str(), answer.header("surrogate-control")), (expected, None));
        }
    }
    assert_eq!((node.count("/page"), node.count("/passed/page"), node.count("/news")), (2, 2, 1));
    assert_eq!(node.last("/passed/page").header("surrogate-capability"), Some("clearcoat=\"ESI/1.0\""));
}

#[tokio::test]
async fn fragments_may_be_pages() {
    let node = Node::start().await;
    node.serve("/dir/page", page(format!("1{}", includes(&["inner"]))).fresh_for(60));
    node.serve("/dir/inner", page(format!("2{}", includes(&["/dir/deep/x"]))).fresh_for(60));
    node.serve("/dir/deep/x", page(format!("3{}", includes(&["y", "/private"]))).no_store());
    node.serve("/dir/deep/y", Page::text("4").fresh_for(60));
    node.serve("/private", Page::numbered("p").no_store());
    let proxy = assembling(&node).await;
    for round in 1..=3 {
        assert_eq!(proxy.get("/dir/page").await.text(), format!("1[2[3[4][p {round}]]]"));
    }
    assert_eq!((node.count("/dir/page"), node.count("/dir/inner"), node.count("/dir/deep/y")), (1, 1, 1));
    assert_eq!(node.count("/dir/deep/x"), 3);
}

#[tokio::test]
async fn what_fails_is_replaced_left_out_or_shown_as_its_tag_says() {
    let node = Node::start().await;
    for (path, status) in [("/500", 500), ("/404", 404), ("/302", 302)] {
        node.serve(path, Page::text(format!("page {status}")).status(status).no_store());
    }
    node.serve("/gone", Page::text("").reset_before_head());
    node.serve("/ok", Page::text("ok").fresh_for(60));
    let proxy = Setup::before(&node).site("esi = true").more("").start().await;
    let include = |src: &str, more: &str| format!("[<esi:include src='{src}' {more}/>]");
    let attempt = |inside: String| {
        format!(
            "<esi:try><esi:attempt>a{inside}</esi:attempt><esi:except>else {}</esi:except></esi:try>",
            include("/ok", "")
        )
    };
    for (number, (body, expected)) in [
        (include("/500", ""), "[]"),
        (include("/gone", ""), "[]"),
        // As Varnish: what it answered.
        (include("/404", ""), "[page 404]"),
        (include("/302", ""), "[page 302]"),
        (include("/404", "onerror='continue'"), "[]"),
        (include("/500", "alt='/ok'"), "[ok]"),
        (include("/404", "alt='/ok'"), "[ok]"),
        (include("/404", "alt='/500'"), "[page 404]"),
        (include("/404", "alt='/500' onerror='continue'"), "[]"),
        (include("/ok", "alt='/500'"), "[ok]"),
        (attempt(include("/ok", "")), "a[ok]"),
        (attempt(include("/404", "")), "else [ok]"),
        (attempt(include("/gone", "")), "else [ok]"),
        (attempt(include("/gone", "onerror='continue'")), "a[]"),
        (attempt(include("/gone", "alt='/ok'") + &include("/500", "onerror='continue'")), "a[ok][]"),
        (attempt(include("/ok", "") + &include("/500", "")), "else [ok]"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/page/{number}");
        node.serve(&path, page(format!("<p>{body}</p>")).fresh_for(600));
        for round in ["cold", "warm"] {
            let answer = proxy.get(&path).await.expect_status(200);
            let text = answer.text();
            assert_eq!(text, format!("<p>{expected}</p>"), "{round}: {body}");
        }
    }
    assert!(trouble(&proxy, "failed").await > 0.0);
}

#[tokio::test]
async fn a_fragment_that_breaks_off_takes_nothing_else_with_it() {
    let node = Node::start().await;
    node.serve("/", page(format!("a{}z", includes(&["/cut", "/ok"]))).fresh_for(600));
    // More than is waited for before a head is given out.
    node.serve("/cut", Page::text("x".repeat(400_000)).no_store().cut_after(200_000));
    node.serve("/ok", Page::text("ok").fresh_for(60));
    let proxy = assembling(&node).await;
    let text = proxy.get("/").await.expect_status(200).text();
    assert!(text.starts_with("a[xxx") && text.ends_with("x][ok]z"), "{} bytes", text.len());
    assert_eq!(trouble(&proxy, "broken").await, 1.0);
}

#[tokio::test]
async fn only_our_own_sites_are_asked() {
    let node = Node::start().await;
    let stranger = Node::start().await;
    stranger.serve_everything(Page::text("stranger"));
    let address = format!("http://{}/x", clearcoat_tests::Address::address(&stranger));
    let sources = [
        "http://b.test/f",
        "//A.test/f",
        "https://a.test:80/f",
        "http://evil.test/f",
        "http://169.254.169.254/latest",
        &address,
        "file:///etc/passwd",
        "gopher://b.test/f",
        "http://b.test@evil.test/f",
    ];
    node.serve("/", page(includes(&sources)).fresh_for(600));
    node.serve(
        "/f",
        Page::written(|asked| asked.header("host").unwrap_or_default().to_owned()).fresh_for(600),
    );
    let sites = "[[site]]\nhosts = [\"b.test\"]\npool = \"web\"\nesi = true\n[[site]]\nhosts = [\"*\"]\npool = \"web\"\nesi = true";
    let proxy = Setup::before(&node).sites(sites).start().await;
    for _ in 0..2 {
        let answer = proxy.ask(&Request::get("/").host("a.test")).await;
        assert_eq!(answer.text(), "[b.test][a.test][][][][][][][]");
    }
    assert_eq!(stranger.total(), 0);
    let hosts: Vec<_> =
        node.requests().iter().map(|asked| asked.header("host").unwrap().to_owned()).collect();
    assert!(!hosts.iter().any(|host| host.contains("evil") || host.contains("169.254")), "{hosts:?}");
}

#[tokio::test]
async fn bombs_stop_at_their_limits_and_the_page_is_served() {
    let node = Node::start().await;
    node.serve("/self", page(format!("s{}", includes(&["/self"]))).fresh_for(600));
    node.serve("/self-private", page(format!("s{}", includes(&["/self-private"]))).no_store());
    // Ten to the fifth.
    node.serve("/tree", page(format!("t{}", includes(&["/tree"; 10]))).fresh_for(600));
    node.serve("/big", page(format!("b{}", includes(&["/large"; 30]))).fresh_for(600));
    node.serve("/large", Page::text("x".repeat(100_000)).fresh_for(600));
    node.serve("/large-private", Page::text("x".repeat(700_000)).no_store());
    node.serve("/big-private", page(format!("b{}z", includes(&["/large-private"; 3]))).fresh_for(600));
    let limits = "esi_depth = 5\nesi_fragments = 50\nesi_bytes = \"1MiB\"";
    let proxy = Setup::before(&node).site("esi = true").limits(limits).start().await;
    for _ in 0..2 {
        for path in ["/self", "/self-private"] {
            assert_eq!(proxy.get(path).await.text(), "s[s[s[s[s[s[]]]]]]", "{path}");
        }
        let tree = proxy.get("/tree").await.expect_status(200).text();
        assert_eq!((tree.matches('t').count(), tree.matches('[').count()), (51, 510));
        let big = proxy.get("/big").await.expect_status(200).text();
        assert_eq!((big.matches('x').count(), big.matches('[').count()), (1_000_000, 30));
        let big = proxy.get("/big-private").await.expect_status(200).text();
        assert!(big.matches('x').count() <= 1 << 20 && big.ends_with("]z"), "{} bytes", big.len());
    }
    for name in ["esi_depth", "esi_fragments", "esi_bytes"] {
        assert!(limit(&proxy, name).await > 0.0, "{name}");
        assert!(proxy.log().contains(name), "{name}");
    }
}

#[tokio::test]
async fn a_fragment_has_its_time_and_no_more() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/", page(format!("a{}z", includes(&["/never", "/stuck"]))).fresh_for(600));
    node.serve("/never", Page::text("never").no_store().held_before_head(&gate));
    node.serve("/stuck", Page::text("begun and stuck").no_store().held_in_body(5, &gate));
    let proxy = Setup::before(&node).site("esi = true").limits("esi_timeout = \"300ms\"").start().await;
    assert_eq!(proxy.get("/").await.expect_status(200).text(), "a[][begun]z");
    assert_eq!(limit(&proxy, "esi_timeout").await, 2.0);
}

#[tokio::test]
async fn nodes_that_compress_are_read_all_the_same() {
    let gzipped = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let node = Node::start().await;
    let coded = |body: &str| {
        Page::text(gzipped(body)).header("Content-Encoding", "gzip").header("Content-Type", "text/html")
    };
    let marked = |page: Page| page.header("Surrogate-Control", "content=\"ESI/1.0\"");
    let body = format!("<p>{}</p>", includes(&["/everybody", "/varied", "/private"]));
    node.serve("/kept", marked(coded(&body)).fresh_for(600));
    node.serve("/kept-varied", marked(coded(&body)).fresh_for(600).header("Vary", "Accept-Encoding"));
    node.serve("/unkept", marked(coded(&body)).no_store());
    node.serve("/plain", marked(coded("<p>no tags</p>")).fresh_for(600));
    node.serve("/broken", marked(Page::text("no gzip").header("Content-Encoding", "gzip")).fresh_for(600));
    node.serve("/everybody", coded("one").fresh_for(600));
    node.serve("/varied", coded("two").fresh_for(600).header("Vary", "Accept-Encoding"));
    node.serve("/private", coded("three").no_store());
    let proxy = assembling(&node).await;
    for _ in 0..2 {
        for codings in ["gzip", "identity", "br, gzip"] {
            for (path, expected) in [
                ("/kept", "<p>[one][two][three]</p>"),
                ("/kept-varied", "<p>[one][two][three]</p>"),
                ("/unkept", "<p>[one][two][three]</p>"),
                ("/plain", "<p>no tags</p>"),
            ] {
                let answer = proxy.ask(&Request::get(path).header("Accept-Encoding", codings)).await;
                assert_eq!(answer.header("content-encoding"), None, "{path}: {answer}");
                assert_eq!(answer.text(), expected, "{path} for {codings}");
            }
        }
    }
    assert_eq!((node.count("/kept"), node.count("/everybody")), (1, 1));
    proxy.get("/broken").await.expect_status(502);
}

#[tokio::test]
async fn a_head_is_a_head_and_nobody_has_the_page_already() {
    let node = Node::start().await;
    node.serve("/", page(includes(&["/f"])).fresh_for(600).header("ETag", "\"1\""));
    node.serve("/f", Page::numbered("f").no_store());
    let proxy = assembling(&node).await;
    for _ in 0..2 {
        let head = proxy.ask(&Request::head("/")).await.expect_status(200);
        assert_eq!((head.body.len(), head.header("content-length"), head.header("etag")), (0, None, None));
    }
    assert_eq!(node.count("/f"), 0, "nothing was put together");
    let conditional = Request::get("/").header("If-None-Match", "\"1\", *");
    assert_eq!(proxy.ask(&conditional).await.expect_status(200).text(), "[f 1]");
    let part = proxy.ask(&Request::get("/").header("Range", "bytes=0-1")).await.expect_status(200);
    assert_eq!(part.text(), "[f 2]");
}

#[tokio::test]
async fn old_clients_and_pipelines_get_their_pages() {
    let node = Node::start().await;
    node.serve("/", page(includes(&["/f"])).fresh_for(600));
    node.serve("/f", Page::numbered("f").no_store());
    node.serve("/g", Page::text("g").fresh_for(600));
    let proxy = assembling(&node).await;
    let old = proxy.ask(&Request::get("/").version_1_0()).await;
    assert_eq!((old.text().as_str(), old.header("transfer-encoding")), ("[f 1]", None));
    let mut visitor = proxy.connect().await;
    let requests = ["/g", "/", "/g", "/"].map(|path| Request::get(path).to_bytes()).concat();
    visitor.send(requests).await.unwrap();
    for expected in ["g", "[f 2]", "g", "[f 3]"] {
        assert_eq!(visitor.answer("GET").await.unwrap().text(), expected);
    }
}

#[tokio::test]
async fn a_stale_page_is_asked_after_and_stays_a_page() {
    let node = Node::start().await;
    let tags = includes(&["/f"]);
    node.serve(
        "/",
        Page::composed(move |asked| match asked.header("if-none-match") {
            Some(_) => Page::text("").status(304).fresh_for(600),
            None => page(tags.clone()).header("ETag", "\"1\"").fresh_for(600).tags("page"),
        }),
    );
    node.serve("/f", Page::numbered("f").fresh_for(600));
    let proxy = Setup::before(&node).cache("keep = \"10m\"").site("esi = true").start().await;
    for status in ["fwd=uri-miss", "hit", "fwd=stale; fwd-status=304", "hit"] {
        if status.starts_with("fwd=stale") {
            proxy.soft_purge_tags("page").await;
        }
        let answer = proxy.get("/").await;
        assert_eq!(answer.text(), "[f 1]", "{status}");
        assert!(answer.header("cache-status").unwrap().contains(status), "{answer}");
    }
    assert_eq!((node.count("/"), node.count("/f")), (2, 1));
}

#[tokio::test]
async fn who_leaves_takes_the_fetches_for_oneself_along() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/", page(includes(&["/cart", "/menu"])).fresh_for(600));
    node.serve("/cart", Page::text("cart").no_store().held_in_body(2, &gate));
    node.serve("/menu", Page::text("menu").fresh_for(600));
    let proxy = assembling(&node).await;
    let mut visitor = proxy.connect().await;
    visitor.send(Request::get("/").to_bytes()).await.unwrap();
    gate.reached(1).await;
    drop(visitor);
    wait::until("the node to be left", async || {
        let in_flight = proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]);
        (in_flight == 0.0).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(proxy.get("/").await.text(), "[cart][menu]");
}

#[tokio::test]
async fn tests_and_variables_tell_visitors_apart() {
    let node = Node::start().await;
    let body = "<esi:choose><esi:when test=\"$(HTTP_COOKIE{group})=='staff'\">staff<esi:include src='/staff'/></esi:when>\
                <esi:otherwise>all</esi:otherwise></esi:choose><esi:vars> $(QUERY_STRING{q}|'none')$(HTTP_COOKIE{name})</esi:vars><esi:nonsense/>";
    node.serve("/", page(body).fresh_for(600));
    node.serve("/staff", Page::text("!").fresh_for(600));
    let proxy = assembling(&node).await;
    for (target, cookie, expected) in [
        ("/?q=1", "group=staff", "staff! 1"),
        ("/?q=1", "group=other", "all 1"),
        ("/?q=2", "name=<script>", "all 2&lt;script&gt;"),
        ("/", "a=b; group=staff", "staff! none"),
    ] {
        for _ in 0..2 {
            let answer = proxy.ask(&Request::get(target).header("Cookie", cookie)).await;
            assert_eq!(answer.text(), expected, "{target}, {cookie}");
            assert!(is_private(&answer), "{answer}");
        }
    }
    assert!(trouble(&proxy, "stray_tag").await > 0.0);
}

#[tokio::test]
async fn fragments_have_contexts_of_their_own() {
    let node = Node::start().await;
    let group = |line: Option<&str>| {
        if line.is_some_and(|line| line.contains("eZSESSID=1")) { "editors" } else { "readers" }
    };
    node.serve(
        "/_fos_user_context_hash",
        Page::composed(move |asked| {
            Page::text("")
                .header("Content-Type", "application/vnd.fos.user-context-hash")
                .header("X-User-Context-Hash", group(asked.header("cookie")))
                .cache_control("public, max-age=600")
                .header("Vary", "Cookie, Authorization")
        }),
    );
    node.serve("/", page(includes(&["/rights", "/menu"])).fresh_for(600));
    node.serve(
        "/rights",
        Page::written(|asked| {
            format!("{} {}", asked.header("x-user-context-hash").unwrap_or("?"), asked.number)
        })
        .fresh_for(600)
        .header("Vary", "X-User-Context-Hash"),
    );
    node.serve("/menu", Page::numbered("menu").fresh_for(600));
    let proxy = Setup::before(&node)
        .site("esi = true\nkeep_cookies = [\"eZSESSID*\"]\nuser_context = { rewrite_cache_control = true }")
        .start()
        .await;
    for _ in 0..3 {
        for (session, rights) in [("1", "editors 1"), ("2", "readers 2"), ("3", "readers 2")] {
            let request = Request::get("/").header("Cookie", &format!("eZSESSID={session}"));
            let answer = proxy.ask(&request).await;
            assert_eq!(answer.text(), format!("[{rights}][menu 1]"), "session {session}");
            assert!(is_private(&answer), "its page says nothing of contexts: {answer}");
        }
    }
    assert_eq!((node.count("/"), node.count("/rights"), node.count("/menu")), (1, 2, 1));
    assert_eq!(node.count("/_fos_user_context_hash"), 3);
    // Nobody forges a context by way of a page.
    let forged = Request::get("/").header("X-User-Context-Hash", "editors");
    assert_eq!(proxy.ask(&forged).await.status, 400);
}
