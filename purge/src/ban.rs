//! What a ban names: pages by host, URL, lines of their head and tags, each by an expression.
//!
//! All of them have to match (the rule of FOSHttpCache's `fos_ban.vcl`). Where a page lacks the line, nothing matches,
//! not even `.*`: a page without `Content-Type` outlives every ban that names a type, and one without tags every ban by tags.

use clearcoat_cache::{Condition, Page, Tag};
use http::HeaderName;

use crate::BadBan;
use crate::pattern::Pattern;

/// What a ban names. See the module's page.
#[derive(Clone, Debug, Default)]
pub struct BanCondition {
    pub(crate) host: Option<Pattern>,
    pub(crate) url: Option<Pattern>,
    pub(crate) lines: Vec<(HeaderName, Pattern)>,
    pub(crate) tags: Option<Pattern>,
    pub(crate) text: String,
}

impl BanCondition {
    /// A condition of expressions for `host`, `url` (path and query), `tags`, or else a line of the head, each with what it is
    /// about.
    ///
    /// # Errors
    ///
    /// If one cannot be used, or there is none.
    pub fn read<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, BadBan> {
        let mut condition = Self::default();
        for (name, text) in parts {
            let line = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadBan::Nothing)?;
            let pattern = Pattern::new(text.as_bytes());
            let pattern = pattern.map_err(|source| BadBan::Pattern { name: line.clone(), source })?;
            condition.tell(name, text.as_bytes());
            match name {
                "host" => condition.host = Some(pattern),
                "url" => condition.url = Some(pattern),
                "tags" => condition.tags = Some(pattern),
                _ => condition.lines.push((line, pattern)),
            }
        }
        if condition.text.is_empty() { Err(BadBan::Nothing) } else { Ok(condition) }
    }

    /// Notes one of its parts for operators.
    pub(crate) fn tell(&mut self, name: &str, expression: &[u8]) {
        if !self.text.is_empty() {
            self.text.push_str(" && ");
        }
        self.text.push_str(name);
        self.text.push_str(" ~ ");
        self.text.push_str(&String::from_utf8_lossy(expression));
    }
}

impl Condition for BanCondition {
    fn names(&self, page: &Page<'_>) -> bool {
        let (host, target) = parts(page.url);
        // Cheap ones first; the tags may be many.
        self.host.as_ref().is_none_or(|host_pattern| host_pattern.matches(host.as_bytes()))
            && self.url.as_ref().is_none_or(|url_pattern| url_pattern.matches(target.as_bytes()))
            && self.lines.iter().all(|(name, pattern)| {
                values(page.head, name).any(|value| pattern.matches(value) || listed(value, pattern))
            })
            && self.tags.as_ref().is_none_or(|pattern| tags_match(page.tags, pattern))
    }

    fn needs(&self) -> Option<&[u8]> {
        self.url.as_ref()?.needs()
    }

    fn text(&self) -> &str {
        &self.text
    }
}

/// Host, and path with query, of a URL.
fn parts(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

/// The values of a line in a serialised head.
fn values<'a>(head: &'a [u8], name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let name = name.as_str().as_bytes();
    head.split(|&byte| byte == b'\n').skip(1).filter_map(move |line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

/// Whether one part of a value that is a list matches: ids are written `^(1|2)$`, and a page may have several.
fn listed(value: &[u8], pattern: &Pattern) -> bool {
    value.contains(&b',') && value.split(|&byte| byte == b',').any(|part| pattern.matches(part.trim_ascii()))
}

/// Whether the tags match, as the one line `a,b,c` that the application wrote, whatever lines it was spread over.
fn tags_match(tags: &[Tag], pattern: &Pattern) -> bool {
    if tags.is_empty() || pattern.is_anything() {
        return !tags.is_empty();
    }
    let mut line = Vec::with_capacity(tags.iter().map(|tag| tag.as_bytes().len() + 1).sum());
    for tag in tags {
        if !line.is_empty() {
            line.push(b',');
        }
        line.extend_from_slice(tag.as_bytes());
    }
    pattern.matches(&line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nX-Location-Id: 42, 43\r\n\
        Set: a\r\nset: b\r\n";

    fn condition(parts: &[(&str, &str)]) -> BanCondition {
        BanCondition::read(parts.iter().copied()).unwrap()
    }

    #[track_caller]
    fn check(parts: &[(&str, &str)], tags: &[&str], expected: bool) {
        let tags: Vec<_> = tags.iter().map(|tag| Tag::new(tag.as_bytes()).unwrap()).collect();
        let page = Page { url: "https://www.example.com:8443/news?id=4", head: HEAD, tags: &tags };
        assert_eq!(condition(parts).names(&page), expected, "{parts:?}");
    }

    #[test]
    fn everything_has_to_match() {
        check(&[("host", ".*"), ("url", ".*"), ("content-type", ".*")], &[], true);
        check(&[("host", r"^www\.example\.com"), ("url", r"^/news\?id=4$")], &[], true);
        check(&[("host", r"^(other|www.example.com:8443)$")], &[], true);
        check(&[("host", "news")], &[], false);
        check(&[("url", "example")], &[], false);
        check(&[("url", "^/news"), ("content-type", "image")], &[], false);
        check(&[("content-type", "text/html")], &[], true);
    }

    #[test]
    fn what_is_not_there_never_matches() {
        check(&[("x-missing", ".*")], &[], false);
        check(&[("tags", ".*")], &[], false);
        check(&[("tags", ".*")], &["a"], true);
        // The status line is none of the head's lines.
        check(&[("http", ".*")], &[], false);
    }

    #[test]
    fn lines_are_asked_one_by_one_and_lists_part_by_part() {
        check(&[("set", "^b$")], &[], true);
        check(&[("x-location-id", "^(43)$")], &[], true);
        check(&[("x-location-id", "^(4)$")], &[], false);
        check(&[("x-location-id", "(4)")], &[], true);
    }

    #[test]
    fn tags_are_a_list_with_commas() {
        check(&[("tags", r"(^|,)(c1|l2)(,|$)")], &["x", "l2", "y"], true);
        check(&[("tags", r"(^|,)(c1|l2)(,|$)")], &["x", "l22"], false);
        check(&[("tags", "^x,l2$")], &["x", "l2"], true);
    }

    #[test]
    fn it_reads_as_it_was_written() {
        let text = condition(&[("host", ".*"), ("url", "^/a")]).text;
        assert_eq!(text, "host ~ .* && url ~ ^/a");
    }
}
