//! A page as it is sent: its head, and what it is made of.

use std::sync::Arc;

use bytes::Bytes;
use clearcoat_cache::{CacheKey, Entry};

use super::gather::Gathered;
use super::page::{Allowance, Page, Sheet, Walk, template};
use super::{Assembly, EsiSettings, Original, Template};
use crate::admin::RequestResult;
use crate::fetch::{Answer, FetchError, Reader};
use crate::front::cache_status::CacheStatus;
use crate::front::context::delivery;
use crate::front::gate::Turn;
use crate::front::outcome::Found;
use crate::front::visitor::Visitor;
use crate::front::{Front, conditional};
use crate::listen::head::{Head, Method};

/// A page to be sent.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) code: u16,
    /// Status line and header lines, each with its line end, without what frames the body and without `Age`.
    head: Bytes,
    /// What the client is told as `Cache-Control` in place of what the head says first.
    cache_control: Option<&'static str>,
    pub(crate) age: Option<u64>,
    pub(crate) result: RequestResult,
    pub(crate) status: CacheStatus,
    pub(crate) page: Page,
    /// Set where something of the page is missing.
    pub(super) rest: Option<Arc<Rest>>,
    /// Its place among the requests of its site, where something is missing.
    pub(crate) turn: Option<Arc<Turn>>,
}

/// What it takes to put the rest of a page together when the request is gone.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(super) original: Original,
    /// Shared by a page and all that is in it.
    pub(super) allowance: Arc<Allowance>,
    /// Zero: the page that was asked for.
    pub(super) depth: u32,
}

impl Rest {
    /// Of a page that is asked for.
    pub(crate) fn of(head: &Head<'_, '_>, visitor: Visitor, settings: &EsiSettings) -> Self {
        Self {
            original: Original::new(head, visitor),
            allowance: Arc::new(Allowance::new(settings)),
            depth: 0,
        }
    }

    /// The same for what may be a page within another, whose limits count then.
    pub(super) fn within(&self, page: &Self, depth: u32) -> Self {
        Self { original: self.original.clone(), allowance: page.allowance.clone(), depth }
    }
}

/// A page whose body is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) key: CacheKey,
    pub(crate) answer: &'a Answer,
    pub(crate) head_only: bool,
    /// As in [`Found`].
    pub(crate) cache_control: Option<&'static str>,
}

/// What a page that was on its way has become.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// An entry, with tags or without.
    Stored(Arc<Entry>),
    Page(Box<Serving>),
}

/// An answer as clients get the head of a page that is put together of it: without the lines that tell of the body as the node
/// sent it, or promise that it stays the same.
pub(crate) fn head_for_clients(block: &[u8]) -> Bytes {
    const OF_THE_BODY: [&[u8]; 9] = [
        b"content-length:",
        b"content-encoding:",
        b"content-md5:",
        b"content-digest:",
        b"repr-digest:",
        b"digest:",
        b"etag:",
        b"last-modified:",
        b"accept-ranges:",
    ];
    let lines = block.split_inclusive(|byte| *byte == b'\n');
    let kept = lines.filter(|line| !OF_THE_BODY.iter().any(|name| conditional::is_named(line, name)));
    kept.flatten().copied().collect::<Vec<u8>>().into()
}

impl Serving {
    /// Appends the head's lines, without what frames the body and without `Age`.
    pub(crate) fn push_head(&self, output: &mut Vec<u8>) {
        if !self.page.is_personal {
            return delivery::push_head(output, &self.head, self.cache_control);
        }
        const ABOUT_CACHES: [&[u8]; 3] = [b"cache-control:", b"expires:", b"pragma:"];
        for line in self.head.split_inclusive(|byte| *byte == b'\n') {
            if !ABOUT_CACHES.iter().any(|name| conditional::is_named(line, name)) {
                output.extend_from_slice(line);
            }
        }
        output.extend_from_slice(b"Cache-Control: private, no-cache\r\n");
    }

    /// The body, whose missing pieces are fetched from now on.
    pub(crate) fn start(&mut self, front: &Arc<Front>) -> Assembly {
        let page = std::mem::take(&mut self.page);
        Assembly::start(front, self.rest.as_ref(), page)
    }
}

impl Front {
    /// Puts a stored page together for the request in `head`. `None`: it has no template.
    pub(crate) fn page(&self, head: &Head<'_, '_>, visitor: Visitor, found: &Found) -> Option<Serving> {
        let template = template(&found.entry)?;
        let allowance = Allowance::new(&self.settings.esi);
        let mut page = Page::new(template.is_personal, found.entry.audience());
        if head.method == Method::Head {
            // Nothing of it is looked at, so nothing of it is known.
            page.is_personal = true;
        } else {
            let sheet = Sheet { body: found.entry.body(), host: head.host, target: head.target, depth: 0 };
            Walk::new(self, head, visitor, &allowance).parts(sheet, &template.parts, &mut page);
        }
        let rest = (!page.is_whole()).then(|| {
            let original = Original::new(head, visitor);
            Arc::new(Rest { original, allowance: Arc::new(allowance), depth: 0 })
        });
        Some(self.serving(template, found, page, rest))
    }

    /// As [`Front::page`], for a request whose head is gone.
    pub(crate) fn page_for(&self, rest: &Arc<Rest>, head_only: bool, found: &Found) -> Option<Serving> {
        let template = template(&found.entry)?;
        let mut page = Page::new(template.is_personal, found.entry.audience());
        let rest = self.put_together(rest, head_only, template, found.entry.body(), &mut page);
        Some(self.serving(template, found, page, rest))
    }

    fn serving(&self, template: &Template, found: &Found, page: Page, rest: Option<Arc<Rest>>) -> Serving {
        let Found { entry, now, form: _, result, status, cache_control } = found;
        Serving {
            code: entry.status(),
            head: template.head.clone(),
            cache_control: *cache_control,
            age: Some(entry.age_seconds(*now)),
            result: *result,
            status: *status,
            page,
            rest,
            turn: None,
        }
    }

    /// Puts a page together that is on its way: waits for its end first.
    ///
    /// # Errors
    ///
    /// It broke off, is larger than a page may be, or cannot be decoded.
    pub(crate) async fn incoming(
        &self,
        rest: &Arc<Rest>,
        incoming: Incoming<'_>,
        reader: Reader,
        (result, status): (RequestResult, CacheStatus),
    ) -> Result<Arrived, FetchError> {
        let Incoming { key, answer, head_only, cache_control } = incoming;
        let mut page = Page::new(false, answer.audience);
        let rest = if head_only {
            page.is_personal = true;
            None
        } else {
            match self.gather(key, answer, reader).await? {
                Gathered::Stored(entry) => return Ok(Arrived::Stored(entry)),
                Gathered::Read { template, body, charge } => {
                    page.is_personal = template.is_personal;
                    page.charge = Some(charge);
                    self.put_together(rest, false, &template, &body, &mut page)
                }
            }
        };
        Ok(Arrived::Page(Box::new(Serving {
            code: answer.status.as_u16(),
            head: head_for_clients(&answer.block),
            cache_control,
            age: answer.age,
            result,
            status,
            page,
            rest,
            turn: None,
        })))
    }

    /// Fills `page`; gives `rest` back if it is needed to go on.
    fn put_together(
        &self,
        rest: &Arc<Rest>,
        head_only: bool,
        template: &Template,
        body: &Bytes,
        page: &mut Page,
    ) -> Option<Arc<Rest>> {
        if head_only {
            page.is_personal = true;
            return None;
        }
        rest.original.with_head(|head| {
            let sheet = Sheet { body, host: head.host, target: head.target, depth: rest.depth };
            let walk = Walk::new(self, head, rest.original.visitor, &rest.allowance);
            walk.parts(sheet, &template.parts, page)
        });
        (!page.is_whole()).then(|| rest.clone())
    }
}
