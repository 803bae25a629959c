//! What a node answers for a path, and how badly.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::Recorded;
use crate::wait;

/// Holds answers until the test opens it; then it stays open.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    held: Arc<watch::Sender<usize>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::closed()
    }
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)), held: Arc::new(watch::Sender::new(0)) }
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until so many answers have come to the gate, whether or not they were let through or given up since.
    pub async fn reached(&self, count: usize) {
        let mut held = self.held.subscribe();
        let reached = held.wait_for(|held| *held >= count);
        wait::soon(&format!("{count} answers at the gate"), reached).await.expect("the gate is there");
    }

    /// How many answers came to the gate so far.
    pub fn arrivals(&self) -> usize {
        *self.held.borrow()
    }

    /// Waits at the gate.
    pub(super) async fn pass(&self) {
        self.held.send_modify(|held| *held += 1);
        // The sender lives in `self`, so waiting ends only by the gate's opening.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    Length,
    Chunked,
    Close,
}

/// A way to fail.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Reset the connection instead of answering.
    ResetBeforeHead,
    /// Close it in good order instead of answering.
    CloseBeforeHead,
    /// Send the head, then reset.
    ResetAfterHead,
    /// Send these bytes instead of an answer, then close.
    Raw(Bytes),
    /// Never answer.
    Silence,
    /// Send so many bytes of the body, then close.
    CutAfter(usize),
    /// Send so many bytes of the body, then reset.
    ResetAfter(usize),
    /// Send these bytes behind the body, and go on as if nothing had been.
    Followed(Bytes),
}

type Compose = Arc<dyn Fn(&Recorded) -> Page + Send + Sync>;
type Write = Arc<dyn Fn(&Recorded) -> Bytes + Send + Sync>;

/// What one path answers. A page may be set anew at any time; answers under way are not changed.
#[derive(Clone)]
pub struct Page {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) ending: Ending,
    pub(super) fault: Option<Fault>,
    pub(super) interim: Vec<u16>,
    pub(super) delay: Duration,
    pub(super) before_head: Option<Gate>,
    pub(super) within_body: Option<(usize, Gate)>,
    /// Makes another page of each request.
    compose: Option<Compose>,
    /// Makes the body of each request, all else staying as said.
    write: Option<Write>,
}

impl fmt::Debug for Page {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Page({}, {} bytes, fault {:?})", self.status, self.body.len(), self.fault)
    }
}

impl Page {
    /// A page with this body, status 200, `Content-Length`, and no word about caching.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
            ending: Ending::Length,
            fault: None,
            interim: Vec::new(),
            delay: Duration::ZERO,
            before_head: None,
            within_body: None,
            compose: None,
            write: None,
        }
    }

    /// A page whose body says how often its URL was asked for: `NAME 1`, `NAME 2`, …
    pub fn numbered(name: &str) -> Self {
        let name = name.to_owned();
        Self::written(move |recorded| format!("{name} {}", recorded.number))
    }

    /// A page that answers with the request's own body.
    pub fn echo() -> Self {
        Self { write: Some(Arc::new(|recorded| recorded.body.clone())), ..Self::text("") }
    }

    /// A page whose body is made from the request.
    pub fn written(write: impl Fn(&Recorded) -> String + Send + Sync + 'static) -> Self {
        Self { write: Some(Arc::new(move |recorded| write(recorded).into())), ..Self::text("") }
    }

    /// A page that is another one for each request.
    pub fn composed(compose: impl Fn(&Recorded) -> Self + Send + Sync + 'static) -> Self {
        Self { compose: Some(Arc::new(compose)), ..Self::text("") }
    }

    /// The page for this request, with nothing left to make.
    pub(super) fn for_request(&self, recorded: &Recorded) -> Self {
        if let Some(compose) = &self.compose {
            return compose(recorded).for_request(recorded);
        }
        let body = self.write.as_ref().map_or_else(|| self.body.clone(), |write| write(recorded));
        Self { body, ..self.clone() }
    }

    /// Another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// One more header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `Cache-Control` in these words.
    #[must_use]
    pub fn cache_control(self, value: &str) -> Self {
        self.header("Cache-Control", value)
    }

    /// May be kept for so many seconds.
    #[must_use]
    pub fn fresh_for(self, seconds: u32) -> Self {
        self.cache_control(&format!("public, max-age={seconds}"))
    }

    /// Must not be kept.
    #[must_use]
    pub fn no_store(self) -> Self {
        self.cache_control("private, no-store")
    }

    /// Tags, separated by spaces, in one `xkey` line; none if empty.
    #[must_use]
    pub fn tags(self, tags: &str) -> Self {
        if tags.is_empty() { self } else { self.header("xkey", tags) }
    }

    /// The body goes out in chunks.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.ending = Ending::Chunked;
        self
    }

    /// The end of the body is the end of the connection.
    #[must_use]
    pub fn until_close(mut self) -> Self {
        self.ending = Ending::Close;
        self
    }

    /// These interim answers (1xx) go before.
    #[must_use]
    pub fn interim(mut self, statuses: &[u16]) -> Self {
        self.interim = statuses.to_vec();
        self
    }

    /// Takes so long before the head: for a page whose slowness matters, not its moment.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Holds the answer at the gate before its head.
    #[must_use]
    pub fn held_before_head(mut self, gate: &Gate) -> Self {
        self.before_head = Some(gate.clone());
        self
    }

    /// Sends head and so many bytes of the body, then holds the rest at the gate.
    #[must_use]
    pub fn held_in_body(mut self, bytes: usize, gate: &Gate) -> Self {
        self.within_body = Some((bytes, gate.clone()));
        self
    }

    /// Resets the connection instead of answering.
    #[must_use]
    pub fn reset_before_head(mut self) -> Self {
        self.fault = Some(Fault::ResetBeforeHead);
        self
    }

    /// Closes the connection instead of answering.
    #[must_use]
    pub fn close_before_head(mut self) -> Self {
        self.fault = Some(Fault::CloseBeforeHead);
        self
    }

    /// Sends the head, then resets.
    #[must_use]
    pub fn reset_after_head(mut self) -> Self {
        self.fault = Some(Fault::ResetAfterHead);
        self
    }

    /// Sends so many bytes of the body, then closes; chunked, the last chunk is missing.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.fault = Some(Fault::CutAfter(bytes));
        self
    }

    /// Sends so many bytes of the body, then resets the connection.
    #[must_use]
    pub fn reset_after(mut self, bytes: usize) -> Self {
        self.fault = Some(Fault::ResetAfter(bytes));
        self
    }

    /// Sends these bytes behind the body, as if they belonged to it or to the next answer; the connection stays open.
    #[must_use]
    pub fn followed_by(mut self, bytes: impl Into<Bytes>) -> Self {
        self.fault = Some(Fault::Followed(bytes.into()));
        self
    }

    /// Sends these bytes instead of an answer, then closes.
    #[must_use]
    pub fn raw(mut self, bytes: impl Into<Bytes>) -> Self {
        self.fault = Some(Fault::Raw(bytes.into()));
        self
    }

    /// Never answers; the connection stays open.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.fault = Some(Fault::Silence);
        self
    }
}
