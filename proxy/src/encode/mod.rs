//! Content codings: which answers are worth compressing, and the thread that does it.
//!
//! A page is compressed once for each coding, after it was stored and when the first client comes that could use it;
//! until then, and for everybody else, there is the plain text. No request waits for this: jobs go to a bounded queue
//! and one thread works it off. What the thread makes becomes a part of the entry ([`Store::grow`]), so that it is
//! found by the same look-up, counted in the same budget and removed by the same purge.
//!
//! What is not here: which form a client gets (`front::recoded`), and the way of bodies that a node compressed and a
//! client cannot read (`front::decode`).
//!
//! Ownership: the queue belongs to the [`Encoder`], its other end to the thread, which ends with it. The queue holds
//! no entry alive: one that is evicted while it waits is skipped.

mod compress;
mod head;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use clearcoat_cache::coding::{Accepted, Coding, is_registered};
use clearcoat_cache::directive::directives;
use clearcoat_cache::store::Grown;
use clearcoat_cache::{Encoded, EncodedForm, Entry, Moment, Recoding, SelectingHeaders, Store, VarySpec};
use clearcoat_conf::TypePattern;
use http::StatusCode;
use http::header::{self, HeaderMap};
use tracing::{debug, warn};

pub(crate) use compress::decompress;
pub(crate) use head::{form_head, without_accept_encoding};

use crate::access::mask;
use crate::admin::{Counters, Limit};
use crate::clock::Clock;

/// Jobs that wait, at most. One is made in milliseconds, so this is a few seconds' work; a job that finds no place is
/// asked for again by a later hit.
const QUEUE_JOBS: usize = 1024;

/// A form is kept if it has at most so many percent of the plain text's bytes. What saves less is not worth its memory
/// and the client's time to unpack it.
const WORTH_PERCENT: usize = 90;

/// The plain text may be so many times as large as the largest body that is compressed or decoded: pages shrink to a
/// tenth, seldom to less; what grows further is more likely a bomb.
const DECODED_PER_CODED: usize = 10;

/// What is compressed, and how.
#[derive(Clone, Debug)]
pub(crate) struct EncodeSettings {
    /// The codings that are made.
    pub(crate) codings: Vec<Coding>,
    /// Content types that are compressed.
    pub(crate) types: Vec<TypePattern>,
    /// Bodies smaller than this are left alone.
    pub(crate) min_bytes: u64,
    /// Bodies larger than this are left alone, and are not decoded either.
    pub(crate) max_bytes: u64,
}

/// What an answer says about the codings that its clients may get.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Offer {
    pub(crate) recoding: Recoding,
    /// `Vary` has to name `Accept-Encoding` and does not yet. The node's own word stays what variants are told apart
    /// by: the forms of one variant are for everybody who finds it.
    pub(crate) adds_vary: bool,
}

impl Offer {
    /// The header lines as clients get them.
    pub(crate) fn headers<'a>(&self, headers: &'a HeaderMap) -> Cow<'a, HeaderMap> {
        if self.adds_vary { Cow::Owned(head::with_accept_encoding(headers)) } else { Cow::Borrowed(headers) }
    }
}

/// Numbers of an encoder since it was made.
#[derive(Debug, Default)]
struct Made {
    forms: [AtomicU64; Coding::ALL.len()],
    saved_bytes: AtomicU64,
    micros: AtomicU64,
}

/// A job for the thread.
type Job = Weak<Entry>;

/// See the module's page.
pub(crate) struct Encoder {
    settings: ArcSwap<EncodeSettings>,
    store: Arc<Store>,
    counters: Arc<Counters>,
    clock: Clock,
    made: Made,
    /// Made with the first job; `None` if there can be no thread.
    queue: OnceLock<Option<SyncSender<Job>>>,
}

impl Encoder {
    pub(crate) fn new(
        settings: EncodeSettings,
        store: Arc<Store>,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Arc<Self> {
        let settings = ArcSwap::from_pointee(settings);
        Arc::new(Self { settings, store, counters, clock, made: Made::default(), queue: OnceLock::new() })
    }

    /// Goes by other settings from now on. Forms that are made stay.
    pub(crate) fn reconfigure(&self, settings: EncodeSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// What may be done with an answer that is to be stored. `compress`: whether its route wants that; `vary`: what
    /// the node says that it varies on.
    pub(crate) fn offer(
        &self,
        compress: bool,
        status: StatusCode,
        headers: &HeaderMap,
        vary: Option<&VarySpec>,
    ) -> Offer {
        let varies =
            vary.is_some_and(|vary| vary.names().any(|name| name == header::ACCEPT_ENCODING.as_str()));
        let coded = codings(headers).next().is_some();
        let recoding = if coded {
            // A node that says so chose the coding by what the client takes; else somebody may find it who does not. What
            // is no coding says nothing, and goes to everybody as it came.
            if varies || !codings(headers).all(is_registered) { Recoding::Never } else { Recoding::Decode }
        } else if compress && status == StatusCode::OK && self.is_compressible(headers) {
            Recoding::Encode
        } else {
            Recoding::Never
        };
        Offer { recoding, adds_vary: recoding != Recoding::Never && !varies }
    }

    fn is_compressible(&self, headers: &HeaderMap) -> bool {
        let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        // RFC 9111 section 5.2.2.6.
        let transformable = !headers
            .get_all(header::CACHE_CONTROL)
            .iter()
            .flat_map(|line| directives(line.as_bytes()))
            .any(|directive| directive.name.eq_ignore_ascii_case(b"no-transform"));
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        transformable
            && !headers.contains_key(header::CONTENT_RANGE)
            && length.is_none_or(|length| self.has_fitting_size(length))
            // The parts of a multipart body may be anything.
            && !media_type.trim_ascii_start().get(..10).is_some_and(|top| top.eq_ignore_ascii_case(b"multipart/"))
            && self.settings.load().types.iter().any(|pattern| pattern.matches(media_type))
    }

    fn has_fitting_size(&self, bytes: u64) -> bool {
        let settings = self.settings.load();
        (settings.min_bytes..=settings.max_bytes).contains(&bytes)
    }

    /// The largest body that is compressed or decoded, in bytes.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.settings.load().max_bytes
    }

    /// The most bytes that a body is decoded to.
    pub(crate) fn most_decoded_bytes(&self) -> usize {
        usize::try_from(self.max_bytes()).unwrap_or(usize::MAX).saturating_mul(DECODED_PER_CODED)
    }

    /// Prepares an entry that is about to be stored. `stale` is the entry that it replaces: when the body is the same,
    /// as after a 304, so are the forms, and only their heads are made anew.
    pub(crate) fn prepare(&self, entry: Entry, offer: Offer, stale: Option<&Entry>, now: Moment) -> Entry {
        let recoding = match offer.recoding {
            Recoding::Encode if !self.has_fitting_size(entry.body().len() as u64) => Recoding::Never,
            recoding => recoding,
        };
        let entry = entry.with_recoding(recoding, offer.adds_vary);
        let known = stale.filter(|stale| {
            recoding == stale.recoding() && stale.encoded().is_some() && stale.body() == entry.body()
        });
        let Some(known) = known.and_then(Entry::encoded) else { return entry };
        let forms = known.forms().iter().map(|form| {
            let head = form_head(entry.head(), form.coding(), form.body().len());
            EncodedForm::new(form.coding(), head, form.body().clone())
        });
        let forms = Encoded::new(forms.collect(), now);
        entry.with_encoded(forms)
    }

    /// Sees to it that an entry gets its forms, if this client could use one. For entries that may be compressed and
    /// have no forms yet.
    pub(crate) fn ask_for(self: &Arc<Self>, entry: &Arc<Entry>, accepted: &Accepted, now: Moment) {
        let useful = self.settings.load().codings.iter().any(|coding| accepted.takes(*coding));
        if !useful || !entry.claim_encoding(now) {
            return;
        }
        let queue = self.queue.get_or_init(|| self.start());
        let queued = queue.as_ref().is_some_and(|queue| queue.try_send(Arc::downgrade(entry)).is_ok());
        if !queued {
            self.counters.limit(Limit::EncodeQueue);
        }
    }

    /// As [`Encoder::ask_for`], for an entry that was just stored for a client with these header lines.
    pub(crate) fn stored(self: &Arc<Self>, entry: &Arc<Entry>, client: &dyn SelectingHeaders, now: Moment) {
        if entry.recoding() == Recoding::Encode && entry.encoded().is_none() {
            self.ask_for(entry, &Accepted::of(client), now);
        }
    }

    fn start(self: &Arc<Self>) -> Option<SyncSender<Job>> {
        let (queue, jobs) = sync_channel(QUEUE_JOBS);
        // The thread must not keep the encoder alive, or its queue would never be closed.
        let encoder = Arc::downgrade(self);
        match std::thread::Builder::new().name("encode".to_owned()).spawn(move || work(&encoder, &jobs)) {
            Ok(_) => Some(queue),
            Err(error) => {
                warn!(%error, "there is no thread for compressing: everything is served as it is");
                None
            }
        }
    }

    fn make(&self, entry: &Arc<Entry>) {
        // Another job may have been quicker, and what has left the store is served by nobody else.
        let stored = self.store.variants(entry.key()).iter().any(|stored| Arc::ptr_eq(stored, entry));
        if !stored || entry.encoded().is_some() {
            return;
        }
        let started = Instant::now();
        let forms = forms(entry, &self.settings.load().codings);
        self.made.micros.fetch_add(micros(started.elapsed()), Relaxed);
        let made: Vec<_> = forms.iter().map(|form| (form.coding(), form.body().len())).collect();
        match self.store.grow(entry, Encoded::new(forms, self.clock.now())) {
            Grown::Kept => made.iter().for_each(|(coding, bytes)| {
                self.count(*coding, entry.body().len().saturating_sub(*bytes));
            }),
            Grown::Refused => debug!(url = mask::shown(entry.url()), "compressing it is not worth while"),
            Grown::Gone | Grown::Already => {}
        }
    }

    /// Counts a form that was made and kept.
    pub(crate) fn count(&self, coding: Coding, saved_bytes: usize) {
        self.made.forms[coding as usize].fetch_add(1, Relaxed);
        self.made.saved_bytes.fetch_add(saved_bytes as u64, Relaxed);
    }

    /// Adds to the time spent on coding.
    pub(crate) fn count_time(&self, took: Duration) {
        self.made.micros.fetch_add(micros(took), Relaxed);
    }

    /// Forms made and kept, by coding.
    pub(crate) fn forms_made(&self, coding: Coding) -> u64 {
        self.made.forms[coding as usize].load(Relaxed)
    }

    /// By how many bytes the forms that were kept are smaller than the plain text.
    pub(crate) fn saved_bytes(&self) -> u64 {
        self.made.saved_bytes.load(Relaxed)
    }

    /// Time spent on coding.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_micros(self.made.micros.load(Relaxed))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What the thread does until the encoder is gone.
fn work(encoder: &Weak<Encoder>, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let Some(encoder) = encoder.upgrade() else { return };
        if let Some(entry) = job.upgrade() {
            encoder.make(&entry);
        }
    }
}

/// The content codings of a body, in the order in which they were applied.
pub(crate) fn codings(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|line| coding_names(line.as_bytes()))
}

/// The members of a `Content-Encoding` line, without those that change nothing.
pub(crate) fn coding_names(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
}

/// The forms of an entry that are worth keeping; none if it does not compress well.
fn forms(entry: &Entry, codings: &[Coding]) -> Vec<EncodedForm> {
    let plain = entry.body();
    let mut most_bytes = plain.len() / 100 * WORTH_PERCENT;
    let mut forms = Vec::new();
    let wanted = |coding| codings.contains(&coding);
    // gzip first: it is cheap, and what it cannot shrink the others need not try.
    for coding in [Coding::Gzip, Coding::Br, Coding::Zstd].into_iter().filter(|coding| wanted(*coding)) {
        let body = match compress::compress(coding, plain) {
            Ok(body) => body,
            Err(error) => {
                warn!(url = mask::shown(entry.url()), coding = coding.name(), %error, "compressing failed");
                continue;
            }
        };
        if body.len() > most_bytes {
            if coding == Coding::Gzip {
                return Vec::new();
            }
            continue;
        }
        if coding == Coding::Gzip {
            // Every client that takes the others takes gzip too: they have to be better.
            most_bytes = body.len() - 1;
        }
        let head = form_head(entry.head(), coding, body.len());
        forms.push(EncodedForm::new(coding, head, Bytes::from(body)));
    }
    forms
}

#[cfg(test)]
mod tests;
