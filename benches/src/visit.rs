//! What visitors send and nodes answer, as text: heads of requests, a page with holes, and a server to ask.

use bytes::Bytes;
use clearcoat::measured::Edge;
use clearcoat_cache::{Entry, EntryParts, Moment};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::site::{HOST, Site, put};

/// The pages that [`edge`] has.
pub const SITE: Site = Site::new(1024, 3);

/// A host of the middle of [`CONFIGURATION`]'s sites, by its ending.
pub const OTHER_HOST: &str = "shop.example.org:8443";

/// Three sites, as a cluster has them: one with a dozen routes, one for all names below a domain, one for the rest.
pub const CONFIGURATION: &str = r#"
    listen = [{ address = "127.0.0.1:8080" }]

    [cache]
    memory = "1GiB"

    [pools.web]
    nodes = ["127.0.0.1:1", "127.0.0.1:2"]

    [[site]]
    hosts = ["www.example.com", "example.com", "m.example.com"]
    pool = "web"
    route = [
        { path = "/admin/*", cache = "pass" },
        { path = "/login", cache = "pass" },
        { path = "/logout", cache = "pass" },
        { path = "/cart/*", cache = "pass" },
        { path = "/api/live", cache = "pass" },
        { path = "/var/site/storage/*" },
        { path = "/assets/*" },
        { path = "*.css" },
        { path = "*.js" },
        { path = "*.woff2" },
        { path = "*.jpg" },
        { path = "*.png" },
    ]

    [[site]]
    hosts = ["*.example.org"]
    pool = "web"

    [[site]]
    hosts = ["*"]
    pool = "web"
"#;

/// A server by [`CONFIGURATION`] that has these pages of [`SITE`], an hour old.
///
/// # Panics
///
/// If the configuration is none: it stands here.
pub fn edge(pages: u64) -> Edge {
    let edge = Edge::new(CONFIGURATION).unwrap_or_else(|error| panic!("{error:#}"));
    let now = Moment::from_millis(0);
    for page in 0..pages {
        let mut parts = EntryParts { stored: now, ..SITE.parts(edge.store().secret(), page) };
        parts.lifetime.initial_age = std::time::Duration::from_secs(3600);
        put(edge.store(), Entry::new(parts), None);
    }
    edge.store().settle(now);
    edge
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// `curl` without options: three lines.
    Curl,
    /// A browser that follows a link: fourteen lines, with the cookies of a site that counts its visitors.
    Browser,
}

/// The head of a request for this target.
pub fn head(client: Client, target: &str) -> Vec<u8> {
    let lines = match client {
        Client::Curl => "User-Agent: curl/8.5.0\r\nAccept: */*\r\n",
        Client::Browser => concat!(
            "Connection: keep-alive\r\n",
            "sec-ch-ua: \"Chromium\";v=\"124\", \"Google Chrome\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n",
            "sec-ch-ua-mobile: ?0\r\n",
            "sec-ch-ua-platform: \"Linux\"\r\n",
            "Upgrade-Insecure-Requests: 1\r\n",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) ",
            "Chrome/124.0.0.0 Safari/537.36\r\n",
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n",
            "Sec-Fetch-Site: same-origin\r\n",
            "Sec-Fetch-Mode: navigate\r\n",
            "Sec-Fetch-Dest: document\r\n",
            "Referer: https://www.example.com/news/archive\r\n",
            "Accept-Encoding: gzip, deflate, br, zstd\r\n",
            "Accept-Language: en-GB,en;q=0.9,de;q=0.5\r\n",
            "Cookie: _ga=GA1.2.1234567890.1234567890; _gid=GA1.2.123456789.1234567890; consent=yes\r\n",
        ),
    };
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n").into_bytes()
}

/// A page of 16 KiB of markup with so many includes, spread over it evenly.
pub fn page_with_holes(includes: usize) -> Bytes {
    const BYTES: usize = 16 << 10;
    const ITEM: &str = "<li class=\"item\"><a href=\"/city/garden\">A line <em>of text</em></a></li>\n";
    let mut page = String::with_capacity(BYTES + 128);
    page.push_str("<!DOCTYPE html>\n<html><head><title>A page</title></head><body><ul>\n");
    let mut written = 0;
    while page.len() < BYTES {
        if written < includes && page.len() >= BYTES * (2 * written + 1) / (2 * includes) {
            page.push_str(&format!(
                "<esi:include src=\"/fragment/{written}?page=1\" onerror=\"continue\"/>\n"
            ));
            written += 1;
        }
        page.push_str(ITEM);
    }
    page.push_str("</ul></body></html>\n");
    page.into()
}

/// Ten header lines as a PHP application sends them.
pub fn response() -> HeaderMap {
    HeaderMap::from_iter(
        [
            (header::SERVER, "nginx"),
            (header::CONTENT_TYPE, "text/html; charset=UTF-8"),
            (header::VARY, "X-User-Context-Hash, Accept-Encoding"),
            (header::CACHE_CONTROL, "public, s-maxage=86400, stale-while-revalidate=60"),
            (header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (header::LAST_MODIFIED, "Sat, 05 Nov 1994 12:00:00 GMT"),
            (header::ETAG, "\"0123456789abcdef\""),
            (header::CONTENT_LANGUAGE, "en-GB"),
            (header::AGE, "12"),
            (HeaderName::from_static("xkey"), "c52 l2 ct1 p42"),
        ]
        .map(|(name, value)| (name, HeaderValue::from_static(value))),
    )
}

#[cfg(test)]
mod tests {
    use clearcoat::measured::{Page, Request, Room};

    use super::*;

    #[test]
    fn heads_are_read_and_answered() {
        let edge = edge(10);
        for client in [Client::Curl, Client::Browser] {
            let bytes = head(client, &SITE.target(7));
            let mut room = Room::new();
            let request = Request::read(&bytes, &mut room).unwrap_or_else(|| panic!("{client:?}"));
            let mut output = Vec::new();
            assert_eq!(edge.decide(&request).map(|hit| hit.write_head(&mut output)), Some(200), "{client:?}");
            let output = String::from_utf8_lossy(&output);
            assert!(output.contains("\r\nAge: 360"), "{output}");
        }
        assert!((70..90).contains(&head(Client::Curl, "/a").len()));
        assert!((700..800).contains(&head(Client::Browser, "/a").len()));
    }

    #[test]
    fn hosts_and_targets_have_their_routes() {
        let edge = edge(0);
        for (host, target, expected) in [
            (HOST, "/admin/pages", Some(true)),
            (HOST, "/news/archive", Some(false)),
            (OTHER_HOST, "/admin/pages", Some(false)),
            ("elsewhere.example", "/", Some(false)),
        ] {
            assert_eq!(edge.route(host.as_bytes(), target.as_bytes()), expected, "{host}{target}");
        }
    }

    #[test]
    fn pages_have_as_many_holes_as_said() {
        for includes in [0, 1, 5] {
            let page = page_with_holes(includes);
            assert!((16 << 10..(16 << 10) + 256).contains(&page.len()), "{}", page.len());
            assert_eq!(Page::read(&page).parts(), 2 * includes + 1);
        }
    }
}
