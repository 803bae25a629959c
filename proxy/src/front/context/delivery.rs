//! What visitors are shown of an answer's head: some headers are not for them, nor that it varies on their context.
//!
//! What can be done once is done when the answer comes. One thing depends on who gets it: visitors with a session are told
//! to keep no copy of what varies on their context. For that the node's `Cache-Control` stands first in the head, and is
//! passed over when another is given in its place: nothing is searched for in a hit.
//!
//! Behaviour of eZ Platform's configuration for Varnish (`vcl_deliver`).

use std::borrow::Cow;

use bytes::Bytes;
use clearcoat_cache::directive::directives;
use clearcoat_cache::{Audience, Scheme, Tag, TagsTooLong};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pingora_http::ResponseHeader;

use crate::front::conditional::is_named;

/// What a visitor with a session is told of a page that varies on the context.
const FOR_SESSIONS: &str = "private, no-cache, no-store, must-revalidate";

/// What all others are told of it where the node said `public`. The lifetime that the node meant is for this cache, which is
/// told of every change; those behind it are not.
const FOR_OTHERS: &str = "public, s-maxage=600, stale-while-revalidate=300, stale-if-error=300";

/// What of answers is not for visitors. Default: everything is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Delivery {
    /// Names of headers that are taken away.
    pub(crate) hide: Box<[HeaderName]>,
    /// A header whose value every tag gets as its end too (eZ Platform's `x-lang`).
    pub(crate) tag_suffix: Option<HeaderName>,
    /// The header of the user context, which is taken out of `Vary`.
    pub(crate) context: Option<HeaderName>,
    /// A header by which the application asks for nothing to be hidden, and for `X-Cache`.
    pub(crate) debug: Option<HeaderName>,
    /// Whether `Cache-Control` is replaced where `Vary` named that header.
    pub(crate) rewrite_cache_control: bool,
    /// Headers that are set, in place of what the node said.
    pub(crate) set: Box<[(HeaderName, HeaderValue)]>,
    /// `Strict-Transport-Security` of what comes by https, and only of that (RFC 6797 section 7.2).
    pub(crate) hsts: Option<HeaderValue>,
}

/// An answer's headers as they are kept and shown.
pub(crate) struct Shown<'a> {
    pub(crate) headers: Cow<'a, HeaderMap>,
    /// A line that goes before all others.
    pub(crate) first: Option<Bytes>,
    pub(crate) audience: Audience,
}

impl Delivery {
    /// An answer's tags, and each once more with its language behind it, if it tells one: `c7` and `fre-FR` make `c7fre-FR`.
    ///
    /// # Errors
    ///
    /// If one of them would be no tag. Then the answer must not be stored: nobody could purge it by that.
    pub(crate) fn with_suffix(
        &self,
        tags: Box<[Tag]>,
        headers: &HeaderMap,
    ) -> Result<Box<[Tag]>, TagsTooLong> {
        let suffix = self.tag_suffix.as_ref().and_then(|name| headers.get(name));
        let Some(suffix) =
            suffix.map(|value| value.as_bytes().trim_ascii()).filter(|suffix| !suffix.is_empty())
        else {
            return Ok(tags);
        };
        let longer = tags.iter().map(|tag| Tag::new(&[tag.as_bytes(), suffix].concat()));
        let longer = longer.collect::<Result<Vec<_>, _>>()?;
        Ok(tags.into_iter().chain(longer).collect())
    }

    /// Whether an answer with these headers asks for nothing to be hidden.
    pub(crate) fn is_debugged(&self, headers: &HeaderMap) -> bool {
        self.debug.as_ref().is_some_and(|name| headers.contains_key(name))
    }

    /// Whether visitors do not see headers of this name.
    pub(crate) fn hides(&self, name: &HeaderName) -> bool {
        self.hide.contains(name) && self.sets(Scheme::Https).all(|(set, _)| set != name)
    }

    /// What is set on answers by this scheme.
    fn sets(&self, scheme: Scheme) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let hsts = self.hsts.as_ref().filter(|_| scheme == Scheme::Https);
        let hsts = hsts.map(|value| (&header::STRICT_TRANSPORT_SECURITY, value));
        self.set.iter().map(|(name, value)| (name, value)).chain(hsts)
    }

    /// An answer's headers made ready for those who ask by this scheme.
    pub(crate) fn shown<'a>(&self, headers: Cow<'a, HeaderMap>, scheme: Scheme) -> Shown<'a> {
        let mut shown = self.shown_as_said(headers);
        for (name, value) in self.sets(scheme) {
            shown.headers.to_mut().insert(name, value.clone());
        }
        shown
    }

    fn shown_as_said<'a>(&self, headers: Cow<'a, HeaderMap>) -> Shown<'a> {
        let context =
            self.context.as_ref().filter(|name| names_in_vary(&headers).any(|found| is(found, name)));
        let Some(context) = context else {
            return Shown { headers, first: None, audience: Audience::Everybody };
        };
        let mut headers = headers.into_owned();
        if !self.is_debugged(&headers) {
            let left: Vec<&[u8]> = names_in_vary(&headers).filter(|name| !is(name, context)).collect();
            match HeaderValue::from_bytes(&left.join(&b", "[..])) {
                Ok(vary) if !vary.is_empty() => drop(headers.insert(header::VARY, vary)),
                Ok(_) | Err(_) => drop(headers.remove(header::VARY)),
            }
        }
        if !self.rewrite_cache_control {
            return Shown { headers: Cow::Owned(headers), first: None, audience: Audience::Context };
        }
        let said: Vec<&[u8]> =
            headers.get_all(header::CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
        let is_public =
            said.iter().copied().flat_map(directives).any(|said| said.name.eq_ignore_ascii_case(b"public"));
        let first = (!said.is_empty())
            .then(|| [b"Cache-Control: ", &*said.join(&b", "[..]), b"\r\n"].concat().into());
        headers.remove(header::CACHE_CONTROL);
        let audience = if is_public { Audience::SessionsElsePublic } else { Audience::Sessions };
        Shown { headers: Cow::Owned(headers), first, audience }
    }

    /// Puts back what [`Delivery::shown`] took out of the `Vary` of an entry.
    pub(crate) fn restore(&self, headers: &mut HeaderMap, audience: Audience) {
        let varied = match audience {
            Audience::Everybody => false,
            Audience::Context | Audience::Sessions | Audience::SessionsElsePublic => true,
        };
        if let Some(Ok(name)) = self
            .context
            .as_ref()
            .filter(|_| varied && !self.is_debugged(headers))
            .map(|name| HeaderValue::from_str(name.as_str()))
        {
            headers.append(header::VARY, name);
        }
    }

    /// The same for an answer that passes through; `session` tells whether the request has one.
    ///
    /// # Errors
    ///
    /// None with lines that were parsed; pingora's type allows for one.
    pub(crate) fn show(
        &self,
        response: &mut ResponseHeader,
        session: bool,
        scheme: Scheme,
    ) -> pingora_error::Result<()> {
        if self.is_debugged(&response.headers) {
            response.insert_header("X-Cache", "MISS")?;
        } else {
            for name in &self.hide {
                response.remove_header(name);
            }
        }
        for (name, value) in self.sets(scheme) {
            response.insert_header(name, value)?;
        }
        let shown = self.shown_as_said(Cow::Borrowed(&response.headers));
        let cache_control = instead(shown.audience, session);
        let vary = match (shown.audience, shown.headers.get(header::VARY).cloned()) {
            (Audience::Everybody, _) => return Ok(()),
            (Audience::Context | Audience::Sessions | Audience::SessionsElsePublic, vary) => vary,
        };
        match vary {
            Some(vary) => response.insert_header(header::VARY, vary)?,
            None => drop(response.remove_header(&header::VARY)),
        }
        if let Some(cache_control) = cache_control {
            response.insert_header(header::CACHE_CONTROL, cache_control)?;
        }
        Ok(())
    }
}

/// The `Cache-Control` that a visitor is told in place of the one in the head; `None`: that one.
pub(crate) const fn instead(audience: Audience, session: bool) -> Option<&'static str> {
    match (audience, session) {
        (Audience::Everybody | Audience::Context, _) | (Audience::Sessions, false) => None,
        (Audience::Sessions | Audience::SessionsElsePublic, true) => Some(FOR_SESSIONS),
        (Audience::SessionsElsePublic, false) => Some(FOR_OTHERS),
    }
}

/// Whether [`instead`] needs to know of a session.
pub(crate) const fn minds_sessions(audience: Audience) -> bool {
    match audience {
        Audience::Everybody | Audience::Context => false,
        Audience::Sessions | Audience::SessionsElsePublic => true,
    }
}

/// A serialised head in three parts: the status line, its first header line if that is `Cache-Control`, the rest.
pub(crate) fn split(head: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (status, lines) = head.split_at(memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1));
    let end = match is_named(lines, b"cache-control:") {
        true => memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1),
        false => 0,
    };
    let (own, rest) = lines.split_at(end);
    (status, own, rest)
}

/// Appends a serialised head with this `Cache-Control` in place of its own.
pub(crate) fn push_head(output: &mut Vec<u8>, head: &[u8], cache_control: Option<&str>) {
    let Some(cache_control) = cache_control else { return output.extend_from_slice(head) };
    let (status, _, rest) = split(head);
    output.extend_from_slice(status);
    output.extend_from_slice(b"Cache-Control: ");
    output.extend_from_slice(cache_control.as_bytes());
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(rest);
}

/// A serialised head with this `Cache-Control` in place of its own.
pub(crate) fn head<'a>(head: &'a [u8], cache_control: Option<&str>) -> Cow<'a, [u8]> {
    if cache_control.is_none() {
        return Cow::Borrowed(head);
    }
    let mut own = Vec::with_capacity(head.len() + FOR_OTHERS.len() + 32);
    push_head(&mut own, head, cache_control);
    Cow::Owned(own)
}

/// A serialised head with a line in front of its header lines.
pub(crate) fn with_first(block: Bytes, first: Option<&Bytes>) -> Bytes {
    let Some(first) = first else { return block };
    let (status, own, rest) = split(&block);
    [status, first, own, rest].concat().into()
}

fn names_in_vary(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers
        .get_all(header::VARY)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    lines.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

fn is(found: &[u8], name: &HeaderName) -> bool {
    found.eq_ignore_ascii_case(name.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn delivery(rewrite_cache_control: bool) -> Delivery {
        Delivery {
            hide: [HeaderName::from_static("x-lang")].into(),
            tag_suffix: Some(HeaderName::from_static("x-lang")),
            context: Some(HeaderName::from_static("x-user-context-hash")),
            debug: Some(HeaderName::from_static("x-cache-debug")),
            rewrite_cache_control,
            ..Delivery::default()
        }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn tags_come_again_with_their_language() {
        let rules = delivery(false);
        let tags =
            |list: &[&str]| list.iter().map(|tag| Tag::new(tag.as_bytes()).unwrap()).collect::<Box<[Tag]>>();
        for (lines, expected) in [
            (&[("x-lang", "fre-FR")][..], &["c7", "l8", "c7fre-FR", "l8fre-FR"][..]),
            (&[("x-lang", "  ")], &["c7", "l8"]),
            (&[], &["c7", "l8"]),
        ] {
            assert_eq!(
                rules.with_suffix(tags(&["c7", "l8"]), &headers(lines)),
                Ok(tags(expected)),
                "{lines:?}"
            );
        }
        assert!(rules.with_suffix(tags(&["c7"]), &headers(&[("x-lang", "fre, FR")])).is_err());
        let none = Delivery::default();
        assert_eq!(none.with_suffix(tags(&["c7"]), &headers(&[("x-lang", "fre-FR")])), Ok(tags(&["c7"])));
    }

    fn passed(delivery: &Delivery, own: &HeaderMap, session: bool) -> HeaderMap {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in own {
            response.append_header(name, value).unwrap();
        }
        delivery.show(&mut response, session, Scheme::Http).unwrap();
        response.headers.clone()
    }

    /// What visitors without and with a session are shown of `Vary` and `Cache-Control`.
    #[track_caller]
    fn check(
        rewrite: bool,
        lines: &[(&'static str, &'static str)],
        vary: &str,
        anonymous: &str,
        session: &str,
    ) {
        let delivery = delivery(rewrite);
        let own = headers(lines);
        for (has_session, expected) in [(false, anonymous), (true, session)] {
            // As it is kept and written out.
            let shown = delivery.shown(Cow::Borrowed(&own), Scheme::Http);
            let text = |headers: &HeaderMap, name: &str| {
                let values: Vec<_> =
                    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
                values.join("; ")
            };
            assert_eq!(text(&shown.headers, "vary"), vary, "{lines:?}");
            let own_line = text(&shown.headers, "cache-control");
            let mut block = b"HTTP/1.1 200 OK\r\n".to_vec();
            if !own_line.is_empty() {
                block.extend_from_slice(format!("Cache-Control: {own_line}\r\n").as_bytes());
            }
            block.extend_from_slice(b"X: y\r\n");
            let block = with_first(block.into(), shown.first.as_ref());
            let mut output = Vec::new();
            push_head(&mut output, &block, instead(shown.audience, has_session));
            let line =
                if expected.is_empty() { String::new() } else { format!("Cache-Control: {expected}\r\n") };
            let written = String::from_utf8(output).unwrap();
            assert_eq!(
                written,
                format!("HTTP/1.1 200 OK\r\n{line}X: y\r\n"),
                "{lines:?}, session {has_session}"
            );
            // As it passes through.
            let passed = passed(&delivery, &own, has_session);
            assert_eq!(text(&passed, "vary"), vary, "{lines:?} passed");
            assert_eq!(text(&passed, "cache-control"), expected, "{lines:?} passed, session {has_session}");
        }
    }

    #[test]
    fn the_context_is_taken_out_of_vary_and_cache_control_is_for_this_cache() {
        let public = ("cache-control", "public, s-maxage=86400");
        let (hash, both) =
            (("vary", "X-User-Context-Hash"), ("vary", "Accept-Encoding, x-user-context-hash"));
        check(false, &[public], "", public.1, public.1);
        check(false, &[public, hash], "", public.1, public.1);
        check(true, &[public], "", public.1, public.1);
        check(true, &[public, ("vary", "Cookie")], "Cookie", public.1, public.1);
        check(true, &[public, hash], "", FOR_OTHERS, FOR_SESSIONS);
        check(true, &[public, both], "Accept-Encoding", FOR_OTHERS, FOR_SESSIONS);
        check(
            true,
            &[("cache-control", "s-maxage=20"), both],
            "Accept-Encoding",
            "s-maxage=20",
            FOR_SESSIONS,
        );
        check(true, &[hash], "", "", FOR_SESSIONS);
        check(true, &[("cache-control", "xpublic"), hash], "", "xpublic", FOR_SESSIONS);
    }

    #[test]
    fn what_was_taken_out_is_put_back_for_the_node() {
        let delivery = delivery(true);
        for (audience, expected) in [
            (Audience::Everybody, None),
            (Audience::Context, Some("x-user-context-hash")),
            (Audience::SessionsElsePublic, Some("x-user-context-hash")),
        ] {
            let mut own = HeaderMap::new();
            delivery.restore(&mut own, audience);
            assert_eq!(own.get("vary").map(|value| value.to_str().unwrap()), expected, "{audience:?}");
        }
    }

    #[test]
    fn headers_that_are_set_take_the_place_of_the_nodes() {
        let value = HeaderValue::from_static;
        let delivery = Delivery {
            set: [(HeaderName::from_static("x-lang"), value("all"))].into(),
            hsts: Some(value("max-age=1")),
            ..delivery(false)
        };
        let own = headers(&[("x-lang", "en"), ("x-lang", "fr"), ("strict-transport-security", "max-age=9")]);
        for (scheme, hsts) in [(Scheme::Http, "max-age=9"), (Scheme::Https, "max-age=1")] {
            let expected = headers(&[("x-lang", "all"), ("strict-transport-security", hsts)]);
            assert_eq!(*delivery.shown(Cow::Borrowed(&own), scheme).headers, expected);
            let mut response = ResponseHeader::build(200, None).unwrap();
            for (name, value) in &own {
                response.append_header(name, value).unwrap();
            }
            delivery.show(&mut response, false, scheme).unwrap();
            assert_eq!(response.headers, expected, "what passes through has the same");
        }
        assert!(!delivery.hides(&HeaderName::from_static("x-lang")), "what is set is shown");
    }

    #[test]
    fn hidden_headers_are_hidden() {
        let own = headers(&[("x-lang", "en"), ("x-other", "1")]);
        assert_eq!(passed(&delivery(false), &own, false), headers(&[("x-other", "1")]));
        assert!(delivery(false).hides(&HeaderName::from_static("x-lang")));
    }
}
