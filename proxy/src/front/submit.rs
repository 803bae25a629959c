//! Requests that give the application something small: a form, an edit, a removal.
//!
//! They are none of the cache's business and go to a node as they are, like all on the pass road; but a body that is there as
//! a whole needs nothing streamed, so the fetch road serves, with kept connections and a fraction of the cost. What has no
//! length in advance or a long body, or waits to be told to go on (`Expect`) stays on the pass road.

use clearcoat_cache::Moment;
use http::Method as HttpMethod;

use super::look::Course;
use super::visitor::Visitor;
use super::{Asked, Front, Step};
use crate::fetch::{Answer, Caching, Plan, Submission};
use crate::front::invalidate::{Changed, invalidate};
use crate::listen::head::{Framing, Head, Method};

/// The body of a request that may be small.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Body<'b> {
    /// It is not for here.
    Other,
    /// It is small; so many bytes of head and body together have to come.
    Coming(usize),
    /// It is small and there.
    Whole(&'b [u8]),
}

/// What stands behind `head` in `input`, if that is a body of at most `most` bytes.
pub(crate) fn body<'b>(head: &Head<'_, '_>, input: &'b [u8], most: u64) -> Body<'b> {
    let Method::Other("POST" | "PUT" | "PATCH" | "DELETE") = head.method else { return Body::Other };
    let length = match head.framing {
        Framing::None => 0,
        Framing::Length(length) if length <= most => length as usize,
        Framing::Length(_) | Framing::Chunked => return Body::Other,
    };
    if head.values("expect").next().is_some() {
        return Body::Other;
    }
    match input.get(head.length..head.length + length) {
        Some(body) => Body::Whole(body),
        None => Body::Coming(head.length + length),
    }
}

impl Front {
    /// Decides about a request whose small body is there.
    pub(crate) fn decide_with_body(
        &self,
        head: &Head<'_, '_>,
        visitor: Visitor,
        now: Moment,
        body: &[u8],
    ) -> Step {
        self.enter(head, visitor, now, |head| self.decide_to_submit(head, visitor, now, body))
    }

    fn decide_to_submit(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment, body: &[u8]) -> Step {
        let (Course::Pass(passed), Some(treatment), Ok(method)) = (
            self.look(head, visitor, now),
            self.routes.find(head.host, head.target),
            HttpMethod::from_bytes(head.method.as_str().as_bytes()),
        ) else {
            return self.decide_alone(head, visitor, now);
        };
        let target = treatment.request.query.apply(head.target);
        let asked = Asked {
            head,
            head_only: false,
            key: self.store.secret().key(visitor.scheme, head.host, &target),
            target: head.target,
            treatment,
            visitor,
            hash: None,
            forward: passed.forwarded().forward,
            stale: None,
        };
        let mut plan = self.plan(&asked, Caching::Bypass);
        // As on the pass road: what answers a submission is for one visitor, and nodes put it together themselves.
        plan.esi = None;
        plan.submission = Some(Submission { method, body: body.to_vec().into() });
        Step::Fetch(Box::new(plan))
    }

    /// A node has answered: what is stored and was changed by it goes, before the visitor hears of it.
    pub(super) fn submitted(&self, plan: &Plan, answer: &Answer) {
        let Some(submission) = plan.submission.as_ref().filter(|_| self.settings.unsafe_invalidates) else {
            return;
        };
        let changed = Changed {
            method: &submission.method,
            host: &plan.host,
            target: &plan.target,
            status: answer.status,
        };
        let mut rest = &answer.block[..];
        let lines = std::iter::from_fn(|| {
            let end = memchr::memchr(b'\n', rest)?;
            let (line, behind) = rest.split_at(end);
            rest = &behind[1..];
            Some(line)
        });
        let named = lines.filter_map(named);
        invalidate(&self.store, &self.routes, &changed, named, self.clock.now());
    }
}

/// The URL that a header line names as what was changed or made.
fn named(line: &[u8]) -> Option<&str> {
    let value = [&b"location:"[..], b"content-location:"].into_iter().find_map(|name| {
        // Where the colon stands sorts out nearly every line before a name is compared.
        let is_this =
            line.get(name.len() - 1) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name);
        is_this.then(|| &line[name.len()..])
    })?;
    std::str::from_utf8(value).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};

    #[track_caller]
    fn check(request: &str, expected: Body<'_>) {
        let limits = HeadLimits { bytes: 4096, count: 64, url_bytes: 2048 };
        let mut room = lines();
        let Parsed::Complete(head) = parse(request.as_bytes(), &mut room, &limits) else {
            panic!("no head: {request:?}");
        };
        assert_eq!(body(&head, request.as_bytes(), 8), expected, "{request:?}");
    }

    #[test]
    fn small_bodies_are_told_from_others() {
        check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET", Body::Whole(b"abc"));
        check("DELETE / HTTP/1.1\r\nHost: a\r\n\r\nGET", Body::Whole(b""));
        check("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nabc", Body::Coming(54));
        check("PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabcdefghi", Body::Other);
        // Heard of a GET alone.
        check("POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", Body::Whole(b""));
        for line in ["Transfer-Encoding: chunked", "Expect: 100-continue\r\nContent-Length: 1"] {
            check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\na"), Body::Other);
        }
        for method in ["GET", "OPTIONS", "PURGE", "post", "MERGE"] {
            check(&format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"), Body::Other);
        }
    }

    #[test]
    fn urls_that_an_answer_names_are_found() {
        for (line, expected) in [
            ("Location: /a\r", Some("/a")),
            ("Content-Location:  http://a.test/b \r", Some("http://a.test/b")),
            ("X-Location: /a\r", None),
            ("HTTP/1.1 200 OK\r", None),
        ] {
            assert_eq!(named(line.as_bytes()), expected, "{line:?}");
        }
    }
}
