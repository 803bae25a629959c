//! A page put together as far as memory goes, without waiting: pieces that are there, and gaps for those that are not.
//!
//! [`Walk`] goes through a template and asks [`Front::decide_alone`] for each fragment. What that answers from memory becomes a piece that
//! shares the bytes of its entry; what has to be fetched becomes a gap with the plan of its fetch, for `assembly`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use clearcoat_cache::budget::Charge;
use clearcoat_cache::{Audience, Entry, Recoding};
use smallvec::SmallVec;

use super::expression::push_escaped;
use super::original::{fragment_head, lines};
use super::template::{Include, Part, Source, Try};
use super::{EsiSettings, Template, Visit};
use crate::admin::{EsiTrouble, Limit};
use crate::encode::coding_names;
use crate::fetch::Plan;
use crate::front::outcome::Found;
use crate::front::range::Part as RangePart;
use crate::front::visitor::Visitor;
use crate::front::{Form, Front, Step, conditional};
use crate::listen::head::Head;

/// Pieces of a page, in order, as far as they are there.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(super) ready: Vec<Bytes>,
    /// By where they are, in order; several may be at the same place.
    pub(super) gaps: Vec<Gap>,
    /// It is made for one visitor, or might be.
    pub(super) is_personal: bool,
    /// For whom the page that was asked for is by its own head.
    pub(super) audience: Audience,
    /// What it was read from on the account of bodies on their way, where that is not an entry.
    pub(super) charge: Option<Charge>,
}

/// A piece that is not there yet.
#[derive(Debug)]
pub(super) struct Gap {
    /// In front of which piece it is.
    pub(super) at: usize,
    pub(super) what: Missing,
}

/// What is not there yet.
#[derive(Debug)]
pub(super) enum Missing {
    Fragment(Box<Fragment>),
    /// `<esi:try>`, of whose attempt something is not there yet.
    Trial(Box<Trial>),
}

/// A fragment that is to be waited for.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) wait: Wait,
    pub(super) include: Arc<Include>,
    /// It is the alternative; there is no other after it.
    pub(super) is_alt: bool,
    pub(super) place: Arc<Place>,
}

/// How a fragment is to be had.
#[derive(Debug)]
pub(super) enum Wait {
    Fetch(Box<Plan>),
    /// It is in memory in a coding; by the plan, if it cannot be decoded.
    Decode(Box<Found>, Box<Plan>),
    /// It is in memory in a coding, which its node sends whatever it is asked for.
    Coded(Arc<Entry>),
}

#[derive(Debug)]
pub(super) struct Trial {
    pub(super) attempt: Page,
    pub(super) block: Arc<Try>,
    pub(super) body: Bytes,
    pub(super) place: Arc<Place>,
}

/// Which page tags stand in: what relative sources are relative to, and how deep it is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) host: Box<[u8]>,
    pub(super) target: Box<[u8]>,
    pub(super) depth: u32,
}

/// What of the limits one page has left, with all that is in it.
#[derive(Debug)]
pub(crate) struct Allowance {
    fragments: AtomicU32,
    bytes: AtomicU64,
}

impl Allowance {
    pub(crate) fn new(settings: &EsiSettings) -> Self {
        Self { fragments: AtomicU32::new(settings.fragments), bytes: AtomicU64::new(settings.bytes) }
    }

    fn take_fragment(&self, front: &Front) -> bool {
        let taken = self.fragments.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if !taken {
            front.counters.limit(Limit::EsiFragments);
        }
        taken
    }

    /// Whether so many bytes of fragments may be put in.
    pub(super) fn take_bytes(&self, front: &Front, bytes: usize) -> bool {
        let taken = self.bytes.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes as u64)).is_ok();
        if !taken {
            front.counters.limit(Limit::EsiBytes);
        }
        taken
    }
}

impl Page {
    /// Nothing yet.
    pub(super) fn new(is_personal: bool, audience: Audience) -> Self {
        Self { is_personal, audience, ..Self::default() }
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Its pieces, when it is whole.
    pub(crate) fn pieces(&self) -> &[Bytes] {
        &self.ready
    }

    /// Bytes of what is there.
    pub(crate) fn bytes(&self) -> u64 {
        self.ready.iter().map(|piece| piece.len() as u64).sum()
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.ready.push(piece);
        }
    }
}

/// A body with tags, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Sheet<'s> {
    pub(super) body: &'s Bytes,
    pub(super) host: &'s [u8],
    pub(super) target: &'s [u8],
    /// Zero: the page that was asked for.
    pub(super) depth: u32,
}

impl<'s> Sheet<'s> {
    pub(super) fn of(body: &'s Bytes, place: &'s Place) -> Self {
        Self { body, host: &place.host, target: &place.target, depth: place.depth }
    }

    fn place(&self) -> Arc<Place> {
        Arc::new(Place { host: self.host.into(), target: self.target.into(), depth: self.depth })
    }
}

/// The request that a body answers, as variables see it: a fragment has a host and a query of its own.
struct Asked<'a> {
    head: &'a Head<'a, 'a>,
    sheet: Sheet<'a>,
}

impl Visit for Asked<'_> {
    fn host(&self) -> &[u8] {
        self.sheet.host
    }

    fn query(&self) -> &[u8] {
        memchr::memchr(b'?', self.sheet.target).map_or(&[], |mark| &self.sheet.target[mark + 1..])
    }

    fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
        self.head.values(name).for_each(line);
    }
}

/// What came of asking for a fragment.
pub(super) enum Got {
    /// It is in the page.
    There,
    Later(Wait),
    /// A limit does not allow for it.
    Refused,
    /// It has failed; its body, where that may be shown all the same.
    Failed(Option<Bytes>),
}

/// One walk through the templates of a page.
pub(super) struct Walk<'w> {
    front: &'w Front,
    /// The request for the page, as the visitor sent it.
    head: &'w Head<'w, 'w>,
    visitor: Visitor,
    /// Lines that fragments are asked for with.
    headers: SmallVec<[httparse::Header<'w>; 24]>,
    allowance: &'w Allowance,
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        front: &'w Front,
        head: &'w Head<'w, 'w>,
        visitor: Visitor,
        allowance: &'w Allowance,
    ) -> Self {
        Self { front, head, visitor, headers: lines(head.headers).copied().collect(), allowance }
    }

    /// Puts the parts of a body into `page`. `false`: a fragment right in it has failed, and nothing was said for that case.
    pub(super) fn parts(&self, sheet: Sheet<'_>, parts: &[Part], page: &mut Page) -> bool {
        let mut well = true;
        for part in parts {
            match part {
                Part::Text(span) => self.text(sheet, sheet.body.slice(span.range()), page),
                Part::Include(include) => well &= self.include(sheet, include, page),
                Part::Variable(variable) => {
                    let mut text = Vec::new();
                    push_escaped(&mut text, &variable.value(&Asked { head: self.head, sheet }));
                    self.text(sheet, text.into(), page);
                }
                Part::Try(block) => self.trial(sheet, block, page),
                Part::Choose(block) => {
                    let when =
                        block.whens.iter().find(|(test, _)| test.holds(&Asked { head: self.head, sheet }));
                    well &= self.parts(sheet, when.map_or(&block.otherwise, |(_, parts)| parts), page);
                }
            }
        }
        well
    }

    /// The text of the page that was asked for is not counted: it is served whatever comes of its fragments.
    fn text(&self, sheet: Sheet<'_>, text: Bytes, page: &mut Page) {
        if sheet.depth == 0 || self.allowance.take_bytes(self.front, text.len()) {
            page.push(text);
        }
    }

    fn trial(&self, sheet: Sheet<'_>, block: &Arc<Try>, page: &mut Page) {
        let mut attempt = Page::new(false, page.audience);
        let well = self.parts(sheet, &block.attempt, &mut attempt);
        page.is_personal |= attempt.is_personal;
        if !well {
            self.parts(sheet, &block.except, page);
        } else if attempt.is_whole() {
            page.ready.append(&mut attempt.ready);
        } else {
            page.is_personal = true;
            let (block, body, place) = (block.clone(), sheet.body.clone(), sheet.place());
            let what = Missing::Trial(Box::new(Trial { attempt, block, body, place }));
            page.gaps.push(Gap { at: page.ready.len(), what });
        }
    }

    fn include(&self, sheet: Sheet<'_>, include: &Arc<Include>, page: &mut Page) -> bool {
        let sources = [(&include.src, false)].into_iter().chain(include.alt.as_ref().map(|alt| (alt, true)));
        let mut left = None;
        for (source, is_alt) in sources {
            match self.ask(sheet, source, page) {
                Got::There | Got::Refused => return true,
                Got::Later(wait) => {
                    page.is_personal = true;
                    let (include, place) = (include.clone(), sheet.place());
                    let what = Missing::Fragment(Box::new(Fragment { wait, include, is_alt, place }));
                    page.gaps.push(Gap { at: page.ready.len(), what });
                    return true;
                }
                Got::Failed(body) => left = left.or(body),
            }
        }
        self.give_up(include, left, page)
    }

    /// Nothing is left to be tried: what the tag says for that case.
    pub(super) fn give_up(&self, include: &Include, left: Option<Bytes>, page: &mut Page) -> bool {
        self.front.counters.esi(EsiTrouble::Failed, 1);
        if !include.or_nothing
            && let Some(body) = left.filter(|body| self.allowance.take_bytes(self.front, body.len()))
        {
            page.push(body);
        }
        include.or_nothing
    }

    /// Asks for a fragment, and puts it into the page if it is in memory.
    pub(super) fn ask(&self, sheet: Sheet<'_>, source: &Source, page: &mut Page) -> Got {
        let depth = sheet.depth + 1;
        if depth > self.front.settings.esi.depth {
            self.front.counters.limit(Limit::EsiDepth);
            return Got::Refused;
        }
        if !self.allowance.take_fragment(self.front) {
            return Got::Refused;
        }
        let joined;
        let (host, target) = match source {
            Source::Path(path) => (sheet.host, &**path),
            Source::Host(host, path) if self.is_ours(host, sheet.host) => (&**host, &**path),
            Source::Relative(path) => {
                let own = &sheet.target[..memchr::memchr(b'?', sheet.target).unwrap_or(sheet.target.len())];
                let folder = memchr::memrchr(b'/', own).map_or(&b"/"[..], |slash| &own[..=slash]);
                joined = [folder, path].concat();
                (sheet.host, &*joined)
            }
            // Nobody is sent anywhere by what a page says: what is asked for goes to the nodes of a site of ours, or nowhere.
            Source::Host(..) | Source::Unusable => return Got::Failed(None),
        };
        let head = fragment_head(self.head, &self.headers, host, target);
        match self.front.decide_alone(&head, self.visitor, self.front.clock.now()) {
            Step::Hit(found) => {
                self.found(&found, Sheet { body: found.entry.body(), host, target, depth }, page)
            }
            Step::Decode(found, plan) => Got::Later(Wait::Decode(Box::new(found), plan)),
            Step::Fetch(plan) => Got::Later(Wait::Fetch(plan)),
            // A page only comes of a page's own request. The others are answers of ours that are no fragments.
            Step::Page(_) | Step::Local(..) | Step::Verify(_) | Step::Pass => Got::Failed(None),
        }
    }

    /// Whether a host that a page names is one of ours: that of the page itself, or one that a site of the configuration names.
    fn is_ours(&self, host: &[u8], page: &[u8]) -> bool {
        host.eq_ignore_ascii_case(page) || self.front.routes.names(host)
    }

    /// Puts a stored fragment into the page.
    fn found(&self, found: &Found, sheet: Sheet<'_>, page: &mut Page) -> Got {
        let Found { entry, form, .. } = found;
        if entry.recoding() == Recoding::Assemble {
            return self.within(entry, sheet, page);
        }
        let body = match form {
            Form::Coded { coding, .. } => entry.form(*coding).map(|form| form.body()),
            Form::Part(RangePart::Whole) if is_coded(entry.head()) => {
                return Got::Later(Wait::Coded(entry.clone()));
            }
            Form::Part(RangePart::Whole) => Some(entry.body()),
            // It was asked for as a whole and in plain text.
            Form::Part(RangePart::One(_) | RangePart::Several(_) | RangePart::Unsatisfiable)
            | Form::NotModified => None,
        };
        match body {
            Some(body) => self.take(entry, body, page),
            None => Got::Failed(None),
        }
    }

    /// Puts a page that is a fragment into the page that it is a fragment of.
    pub(super) fn within(&self, entry: &Entry, sheet: Sheet<'_>, page: &mut Page) -> Got {
        let Some(template) = template(entry) else { return Got::Failed(None) };
        page.is_personal |= template.is_personal || is_personal(entry, page.audience);
        if !is_success(entry.status()) && entry.status() >= 500 {
            return Got::Failed(None);
        }
        self.parts(sheet, &template.parts, page);
        Got::There
    }

    /// Puts a plain body into the page, if its status is that of a fragment.
    pub(super) fn take(&self, entry: &Entry, body: &Bytes, page: &mut Page) -> Got {
        page.is_personal |= is_personal(entry, page.audience);
        match entry.status() {
            status if is_success(status) => {
                if !self.allowance.take_bytes(self.front, body.len()) {
                    return Got::Refused;
                }
                page.push(body.clone());
                Got::There
            }
            status if status < 500 => Got::Failed(Some(body.clone())),
            _ => Got::Failed(None),
        }
    }
}

/// How an entry that is a page is put together.
pub(super) fn template(entry: &Entry) -> Option<&Template> {
    entry.recipe()?.downcast_ref()
}

pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Whether a stored body has a content coding.
pub(super) fn is_coded(head: &[u8]) -> bool {
    conditional::lines(head, b"content-encoding").flat_map(coding_names).next().is_some()
}

/// Whether a stored answer says that it is not for everybody, or varies by more than the coding, and than the page that it is a part of
/// says itself.
fn is_personal(entry: &Entry, page: Audience) -> bool {
    if entry.audience() != Audience::Everybody && page == Audience::Everybody {
        return true;
    }
    let listed = |value: &'_ [u8], names: &[&[u8]]| {
        value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|member| {
            names.iter().any(|name| {
                let (start, rest) = member.split_at_checked(name.len()).unwrap_or_default();
                start.eq_ignore_ascii_case(name) && rest.first().is_none_or(|byte| *byte == b'=')
            })
        })
    };
    entry.head().split(|byte| *byte == b'\n').skip(1).any(|line| {
        // Most lines are told apart by their first letter.
        match line.first() {
            Some(b'C' | b'c') => line
                .split_at_checked(b"cache-control:".len())
                .filter(|(name, _)| name.eq_ignore_ascii_case(b"cache-control:"))
                .is_some_and(|(_, value)| listed(value, &[b"private", b"no-store", b"no-cache"])),
            Some(b'V' | b'v') => line
                .split_at_checked(b"vary:".len())
                .filter(|(name, _)| name.eq_ignore_ascii_case(b"vary:"))
                .is_some_and(|(_, value)| {
                    let mut names = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    names.any(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"accept-encoding"))
                }),
            Some(_) | None => false,
        }
    })
}
