//! One fragment that has to be waited for: what comes of its fetch, of its alternative, or of giving up.

use std::sync::Arc;

use bytes::Bytes;
use clearcoat_cache::Entry;
use clearcoat_cache::coding::Coding;
use tokio::time::{Instant, timeout_at};

use super::assembly::{Came, Running, started};
use super::gather::Readable;
use super::page::{Fragment, Got, Page, Place, Sheet, Wait, Walk, is_success};
use super::serving::{Rest, Serving};
use crate::admin::Limit;
use crate::fetch::Plan;
use crate::front::outcome::{Found, Outcome, Streaming};
use crate::front::{Form, Front};

/// What came of waiting.
enum Fetched {
    /// Put together as far as memory goes; with what the rest of it takes.
    Page(Page, Option<Arc<Rest>>),
    /// On its way.
    Body(Running),
    /// It has failed; its body, where that may be shown all the same.
    Failed(Option<Bytes>),
}

/// Waits for a fragment, and starts what it is made of.
pub(super) async fn came(front: Arc<Front>, rest: Arc<Rest>, fragment: Fragment) -> Came {
    let Fragment { mut wait, include, mut is_alt, place } = fragment;
    let mut left = None;
    loop {
        let until = Instant::now() + front.settings.esi.timeout;
        match timeout_at(until, fetched(&front, &rest, wait, &place, until)).await {
            Ok(Fetched::Page(page, own)) => {
                let queue = started(&front, own.as_ref().unwrap_or(&rest), page);
                return Came { queue, well: true };
            }
            Ok(Fetched::Body(body)) => return Came { queue: [body].into(), well: true },
            Ok(Fetched::Failed(body)) => left = left.or(body),
            Err(_) => front.counters.limit(Limit::EsiTimeout),
        }
        let mut page = Page::default();
        let alt = include.alt.as_ref().filter(|_| !is_alt);
        let nothing = Bytes::new();
        let got = alt.and_then(|alt| {
            walk(&front, &rest, |walk| walk.ask(Sheet::of(&nothing, &place), alt, &mut page))
        });
        is_alt = true;
        match got {
            Some(Got::There | Got::Refused) => {
                return Came { queue: started(&front, &rest, page), well: true };
            }
            Some(Got::Later(later)) => {
                wait = later;
                continue;
            }
            Some(Got::Failed(body)) => left = left.or(body),
            None => {}
        }
        let well = walk(&front, &rest, |walk| walk.give_up(&include, left.take(), &mut page));
        return Came { queue: started(&front, &rest, page), well: well.unwrap_or(false) };
    }
}

/// A walk in the name of the visitor.
pub(super) fn walk<T>(front: &Front, rest: &Rest, go: impl FnOnce(&Walk<'_>) -> T) -> Option<T> {
    rest.original.with_head(|head| go(&Walk::new(front, head, rest.original.visitor, &rest.allowance)))
}

async fn fetched(front: &Arc<Front>, rest: &Arc<Rest>, wait: Wait, place: &Place, until: Instant) -> Fetched {
    // If it is a page too, it is a part of this one.
    let within = |mut plan: Box<Plan>| {
        plan.esi = plan.esi.map(|own| Arc::new(own.within(rest, place.depth + 1)));
        plan
    };
    let outcome = match wait {
        Wait::Coded(entry) => return stored(front, rest, &entry, None).await,
        Wait::Decode(found, plan) => front.decoded_outcome(*found, within(plan), None).await,
        Wait::Fetch(plan) => front.outcome(within(plan), None).await,
    };
    let Streaming { answer, reader, .. } = match outcome {
        Outcome::Streaming(streaming) => streaming,
        Outcome::Found(Found { entry, form, .. }) => {
            let coding = match form {
                Form::Coded { coding, .. } => Some(coding),
                Form::Part(_) | Form::NotModified => None,
            };
            return stored(front, rest, &entry, coding).await;
        }
        Outcome::Page(page) if page.code >= 500 => return Fetched::Failed(None),
        Outcome::Page(serving) => {
            let Serving { page, rest, .. } = *serving;
            return Fetched::Page(page, rest);
        }
        Outcome::NotModified { .. } | Outcome::Tunnel(_) | Outcome::Local(..) => {
            return Fetched::Failed(None);
        }
    };
    let status = answer.status.as_u16();
    let Some(readable) = Readable::of(&answer.block).filter(|_| status < 500) else {
        return Fetched::Failed(None);
    };
    if is_success(status) && readable.coding.is_none() {
        return Fetched::Body(Running::Body { reader, until });
    }
    match front.plain_body(readable, reader).await {
        None => Fetched::Failed(None),
        Some((body, _)) if !is_success(status) => Fetched::Failed(Some(body)),
        Some((body, charge)) => {
            let mut page = Page { charge: Some(charge), ..Page::default() };
            if rest.allowance.take_bytes(front, body.len()) {
                page.push(body);
            }
            Fetched::Page(page, None)
        }
    }
}

/// What a stored fragment is to the page, in the form of this coding if it has one.
async fn stored(front: &Arc<Front>, rest: &Arc<Rest>, entry: &Arc<Entry>, form: Option<Coding>) -> Fetched {
    let coded = form.and_then(|coding| entry.form(coding));
    let (head, body) = coded.map_or((entry.head(), entry.body()), |form| (&**form.head(), form.body()));
    let plain = match Readable::of(head) {
        Some(Readable { coding: None | Some(Coding::Identity) }) => Some(body.clone()),
        Some(Readable { coding: Some(coding) }) => front.plain_text(coding, body.clone()).await,
        None => None,
    };
    let mut page = Page::default();
    let taken = plain.and_then(|body| walk(front, rest, |walk| walk.take(entry, &body, &mut page)));
    match taken {
        Some(Got::There | Got::Refused) => Fetched::Page(page, None),
        Some(Got::Failed(body)) => Fetched::Failed(body),
        // It asks for nothing.
        Some(Got::Later(_)) | None => Fetched::Failed(None),
    }
}
