//! The request as the bytes that a node gets.

use clearcoat_cache::Entry;
use clearcoat_cache::vary::EncodingClass;
use http::header::{self, HeaderName};

use super::answer::push_line;
use super::plan::{Caching, Plan};
use super::revalidate;
use crate::esi::{CAPABILITY, SURROGATE_CAPABILITY};
use crate::front::forward;
use crate::front::request_id::RequestIds;

/// Writes the request of `plan`; with `stale`, on the condition that this entry has changed. `None`: the target is none
/// that could stand in a request.
pub(super) fn bytes(plan: &Plan, stale: Option<&Entry>, ids: &RequestIds) -> Option<Vec<u8>> {
    // The lane's parser lets none of these through.
    if plan.target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return None;
    }
    let body = plan.submission.as_ref().map_or(&[][..], |submission| &submission.body);
    let mut out = Vec::with_capacity(512 + body.len());
    for part in [plan.method(), " ", &plan.target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let as_rfc7239 = plan.pool.tells_forwarded();
    forward::told(&plan.host, plan.visitor, as_rfc7239, |name, value| push_line(&mut out, name, value));
    let id = ids.told(plan.visitor, &plan.headers);
    if let Some(id) = &id {
        push_line(&mut out, ids.header.as_str(), id.as_bytes());
    }
    let cached = plan.caching != Caching::Bypass;
    let unwanted = |name: &HeaderName| {
        forward::is_told(name)
            || id.is_some() && *name == ids.header
            || plan.puts_together() && *name == SURROGATE_CAPABILITY
            || plan.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_own(name))
            || cached && (forward::is_unwanted(name, plan.caching) || *name == header::ACCEPT_ENCODING)
    };
    for (name, value) in plan.headers.iter().filter(|(name, _)| !unwanted(name)) {
        push_line(&mut out, name.as_str(), value.as_bytes());
    }
    if cached && let Some(codings) = EncodingClass::of(&plan.headers).as_header_value() {
        push_line(&mut out, "accept-encoding", codings.as_bytes());
    }
    if plan.puts_together() {
        push_line(&mut out, SURROGATE_CAPABILITY.as_str(), CAPABILITY.as_bytes());
    }
    if plan.trailers {
        push_line(&mut out, "te", b"trailers");
        push_line(&mut out, "connection", b"te");
    }
    push_line(&mut out, "via", forward::VIA.as_bytes());
    if let Some(upgrade) = &plan.upgrade {
        upgrade.lines(|name, value| push_line(&mut out, name, value));
    }
    for (name, value) in stale.map(revalidate::conditions_of).into_iter().flatten() {
        push_line(&mut out, name.as_str(), value.as_bytes());
    }
    if plan.submission.is_some() {
        push_line(&mut out, "content-length", itoa::Buffer::new().format(body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Some(out)
}
