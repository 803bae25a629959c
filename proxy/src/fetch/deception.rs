//! Whether an answer is what the extension of its path promises (web cache deception).
//!
//! A site that says `*.css` may be kept for a day means style sheets. But `/account/x.css` and `/account;x.css` are the
//! account page to many applications, and whoever is led there leaves his page in the cache for others to read. So an answer
//! whose type does not fit is not stored on the operator's word. A response that itself says for how long it may be shared is
//! believed.
//!
//! The extension is looked for at the end of the decoded path, so it does not matter what stands before it: `;`, `%2f`,
//! `%3b`, `%00`, `%23`, `%3f`, `\`, `//`. A path with a dot segment may be another path to the node than to a rule for its
//! beginning (`/static/..%2faccount`); what it brings is not stored on the operator's word whatever its type is.

use http::StatusCode;

use crate::front::names::decoded;

/// What types an extension may have. Application data of no known kind (`application/octet-stream`) is as good as any that
/// is not text to a browser.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Style,
    Script,
    Data,
    Xml,
    Plain,
    Table,
    Image,
    Font,
    Media,
    Wasm,
    Document,
}

/// Extensions of files that are the same for everybody, in lower case.
const EXTENSIONS: [(&str, Kind); 86] = {
    use Kind::{Data, Document, Font, Image, Media, Plain, Script, Style, Table, Wasm, Xml};
    [
        ("css", Style),
        ("js", Script),
        ("mjs", Script),
        ("cjs", Script),
        ("json", Data),
        ("map", Data),
        ("webmanifest", Data),
        ("geojson", Data),
        ("xml", Xml),
        ("rss", Xml),
        ("atom", Xml),
        ("xsl", Xml),
        ("xslt", Xml),
        ("txt", Plain),
        ("vtt", Plain),
        ("srt", Plain),
        ("csv", Table),
        ("tsv", Table),
        ("png", Image),
        ("apng", Image),
        ("jpg", Image),
        ("jpeg", Image),
        ("jxl", Image),
        ("gif", Image),
        ("webp", Image),
        ("avif", Image),
        ("heic", Image),
        ("svg", Image),
        ("svgz", Image),
        ("ico", Image),
        ("bmp", Image),
        ("tif", Image),
        ("tiff", Image),
        ("psd", Image),
        ("ai", Document),
        ("eps", Document),
        ("ps", Document),
        ("woff", Font),
        ("woff2", Font),
        ("ttf", Font),
        ("otf", Font),
        ("eot", Font),
        ("mp4", Media),
        ("m4v", Media),
        ("m4a", Media),
        ("m4s", Media),
        ("webm", Media),
        ("ogg", Media),
        ("ogv", Media),
        ("oga", Media),
        ("opus", Media),
        ("mp3", Media),
        ("aac", Media),
        ("wav", Media),
        ("flac", Media),
        ("mid", Media),
        ("midi", Media),
        ("mov", Media),
        ("avi", Media),
        ("mkv", Media),
        ("m3u8", Media),
        ("wasm", Wasm),
        ("pdf", Document),
        ("doc", Document),
        ("docx", Document),
        ("xls", Document),
        ("xlsx", Document),
        ("ppt", Document),
        ("pptx", Document),
        ("odt", Document),
        ("ods", Document),
        ("odp", Document),
        ("epub", Document),
        ("zip", Document),
        ("gz", Document),
        ("tgz", Document),
        ("bz2", Document),
        ("xz", Document),
        ("zst", Document),
        ("tar", Document),
        ("rar", Document),
        ("7z", Document),
        ("jar", Document),
        ("apk", Document),
        ("dmg", Document),
        ("exe", Document),
    ]
};

/// Whether the answer may be stored on the operator's word alone, as far as path and type tell.
///
/// An error page has its own type whatever was asked for, and is let through.
pub(super) fn fits(target: &str, status: StatusCode, content_type: Option<&[u8]>) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let plain: Vec<u8> = decoded(path.as_bytes()).collect();
    if has_dot_segment(&plain) {
        return false;
    }
    if status.is_client_error() || status.is_server_error() {
        return true;
    }
    // The one as written is what a rule for `*.css` goes by; the other is what readers make of it.
    [extension(path.as_bytes()), extension(&plain)].into_iter().flatten().all(|kind| {
        let essence = content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
        kind.takes(&essence.trim_ascii().to_ascii_lowercase())
    })
}

/// A `.` or `..` between slashes or backslashes. `;` ends a segment too: Java takes what follows it for parameters.
fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| matches!(byte, b'/' | b'\\' | b';')).any(|segment| matches!(segment, b"." | b".."))
}

/// What is promised by what stands behind the last dot.
fn extension(path: &[u8]) -> Option<Kind> {
    let dot = memchr::memrchr(b'.', path)?;
    let text = &path[dot + 1..];
    EXTENSIONS.iter().find(|(known, _)| text.eq_ignore_ascii_case(known.as_bytes())).map(|(_, kind)| *kind)
}

impl Kind {
    /// Whether a media type, in lower case and without parameters, fits.
    fn takes(self, essence: &[u8]) -> bool {
        let Ok(essence) = std::str::from_utf8(essence) else { return false };
        let (main, sub) = essence.split_once('/').unwrap_or_default();
        let is_application = main == "application";
        let is_binary =
            is_application && matches!(sub, "octet-stream" | "binary" | "x-download" | "force-download");
        // XHTML is HTML.
        let is_xml = sub == "xml" || sub.ends_with("+xml") && sub != "xhtml+xml";
        let is_script = matches!(sub, "javascript" | "x-javascript" | "ecmascript" | "x-ecmascript");
        match self {
            Self::Style => essence == "text/css",
            Self::Script => is_script,
            Self::Data => sub == "json" || sub.ends_with("+json"),
            Self::Xml => is_xml,
            Self::Plain => {
                matches!(essence, "text/plain" | "text/markdown" | "text/vtt" | "application/x-subrip")
            }
            Self::Table => {
                matches!(sub, "csv" | "tab-separated-values" | "vnd.ms-excel")
                    || essence == "text/plain"
                    || is_binary
            }
            Self::Image => main == "image",
            Self::Font => {
                main == "font"
                    || is_binary
                    || is_application
                        && (sub.starts_with("font-")
                            || sub.starts_with("x-font-")
                            || sub == "vnd.ms-fontobject")
            }
            Self::Media => {
                main == "video"
                    || main == "audio"
                    || is_binary
                    || is_application && matches!(sub, "mp4" | "ogg" | "vnd.apple.mpegurl" | "x-mpegurl")
            }
            Self::Wasm => essence == "application/wasm",
            // Their types are without number; what an application makes for one visitor is one of the others.
            Self::Document => {
                is_application && !is_xml && !is_script && sub != "xhtml+xml" && !sub.ends_with("json")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, content_type: &str, expected: bool) {
        let content_type = (!content_type.is_empty()).then_some(content_type.as_bytes());
        assert_eq!(fits(target, StatusCode::OK, content_type), expected, "{target} as {content_type:?}");
    }

    #[test]
    fn pages_have_any_type() {
        for target in ["/", "/a", "/a.html", "/a.php", "/a/b.c/d", "/x.css/a", "/a?x.css", "/v1.2", "/a."] {
            check(target, "text/html", true);
            check(target, "", true);
        }
    }

    #[test]
    fn files_have_theirs() {
        for (target, content_type) in [
            ("/a.css", "text/css"),
            ("/a.CSS?v=1", "Text/CSS; charset=utf-8"),
            ("/a.js", "application/javascript"),
            ("/a.mjs", "text/javascript"),
            ("/a.css.map", "application/json"),
            ("/a.json", "application/ld+json"),
            ("/a.webmanifest", "application/manifest+json"),
            ("/sitemap.xml", "text/xml"),
            ("/a.rss", "application/rss+xml"),
            ("/robots.txt", "text/plain;charset=UTF-8"),
            ("/a.csv", "text/csv"),
            ("/a.jpg", "image/webp"),
            ("/a.svg", "image/svg+xml"),
            ("/favicon.ico", "image/vnd.microsoft.icon"),
            ("/a.woff2", "font/woff2"),
            ("/a.eot", "application/vnd.ms-fontobject"),
            ("/a.ttf", "application/octet-stream"),
            ("/a.mp4", "video/mp4"),
            ("/a.m3u8", "application/vnd.apple.mpegurl"),
            ("/a.pdf", "application/pdf"),
            ("/a.tar.gz", "application/gzip"),
            ("/a.wasm", "application/wasm"),
            ("/a.7z", "application/x-7z-compressed"),
        ] {
            check(target, content_type, true);
            check(target, "text/html", false);
            check(target, "application/xhtml+xml", false);
            check(target, "", false);
            check(target, "nonsense", false);
        }
        check("/a.css", "application/octet-stream", false);
        check("/a.css", "application/json", false);
        check("/a.pdf", "application/json", false);
        check("/a.png", "text/plain", false);
        check("/a.txt", "application/json", false);
        check("/a.js", "application/json", false);
    }

    #[test]
    fn it_does_not_matter_what_stands_before_the_extension() {
        for target in [
            "/account/x.css",
            "/account;x.css",
            "/account%3bx.css",
            "/account%2fx.css",
            "/account%2Fx.css",
            "/account%5cx.css",
            "/account\\x.css",
            "/account%00x.css",
            "/account%00.css",
            "/account%0a.css",
            "/account%23x.css",
            "/account%3fx.css",
            "/account%3fx=y.css",
            "/account//x.css",
            "/account/.css",
            "/account!x.css",
            "/account%252fx.css",
            "/account/x.c%73s",
            "/account/x%2ecss",
            "/account.css?x",
        ] {
            check(target, "text/html", false);
            check(target, "text/css", true);
        }
    }

    #[test]
    fn dot_segments_are_never_trusted() {
        for target in [
            "/static/../account",
            "/static/..%2faccount",
            "/static/%2e%2e/account",
            "/static/%2e%2e%2faccount",
            "/static/..%5caccount",
            "/static/..\\account",
            "/static/..;/account",
            "/static/..;a=b/account",
            "/account/%2e%2e%2fstatic/x.css",
            "/./a",
            "/a/..",
        ] {
            check(target, "text/html", false);
            check(target, "text/css", false);
        }
        check("/a/...b/c..d", "text/html", true);
    }

    #[test]
    fn error_pages_are_let_through() {
        for (status, expected) in [(404, true), (500, true), (200, false), (301, false)] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            assert_eq!(fits("/a.css", status, Some(b"text/html")), expected, "{status}");
        }
    }

    #[test]
    fn extensions_are_there_once() {
        let names: std::collections::HashSet<_> = EXTENSIONS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), EXTENSIONS.len());
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
        );
    }
}
