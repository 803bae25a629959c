//! One connection of a node, from accept to close.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::page::{Ending, Fault, Page};
use super::{HEALTH_PATH, Recorded, State};
use crate::wire::{self, Reader};

/// Bytes of a body written at once.
const PIECE_BYTES: usize = 256 << 10;

/// How long a peer has to read what came before a reset.
const RESET_PAUSE: Duration = Duration::from_millis(100);

/// Raises a counter while it lives, however its task ends.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What becomes of the connection behind an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum After {
    KeepAlive,
    Close,
    Reset,
}

/// Answers requests until either side closes.
pub(super) async fn connection(stream: TcpStream, state: Arc<State>, name: String) {
    let number = state.accepted.fetch_add(1, Ordering::SeqCst) + 1;
    let _open = Counted::new(&state.open);
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    if let Some(copy) = state.copy() {
        reader.copy_to(copy);
    }
    loop {
        let head = match reader.request_head().await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => {
                // A connection reset by the proxy brings no bytes and is no fault of its requests.
                if error.downcast_ref::<io::Error>().is_none() {
                    state.garbled.fetch_add(1, Ordering::SeqCst);
                }
                return;
            }
        };
        let closes = wire::closes(head.minor, &head.headers);
        let expects = wire::first(&head.headers, "expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects && writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return;
        }
        let body = async { reader.body(wire::request_framing(&head)?).await };
        let body = match body.await {
            Ok(body) => body,
            Err(_) => {
                state.garbled.fetch_add(1, Ordering::SeqCst);
                return;
            }
        };
        let (recorded, page) = state.receive(head, body, number);
        let probe = recorded.path() == HEALTH_PATH;
        let _busy = (!probe).then(|| Counted::new(&state.busy));
        if !probe {
            state.peak.fetch_max(state.busy.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        let mut frozen = state.frozen.subscribe();
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        match answer(&mut writer, &page.for_request(&recorded), &recorded, &name).await {
            Ok(After::KeepAlive) if !closes => {}
            Ok(After::KeepAlive | After::Close) | Err(_) => return,
            Ok(After::Reset) => {
                if let Ok(stream) = writer.reunite(reader.into_inner()) {
                    let _ = stream.set_zero_linger();
                }
                return;
            }
        }
    }
}

async fn answer(
    out: &mut (impl AsyncWrite + Unpin),
    page: &Page,
    recorded: &Recorded,
    name: &str,
) -> io::Result<After> {
    sleep(page.delay).await;
    for status in &page.interim {
        out.write_all(format!("HTTP/1.1 {status} Interim\r\nX-Interim: yes\r\n\r\n").as_bytes()).await?;
    }
    if let Some(gate) = &page.before_head {
        gate.pass().await;
    }
    match &page.fault {
        Some(Fault::ResetBeforeHead) => return Ok(After::Reset),
        Some(Fault::CloseBeforeHead) => return Ok(After::Close),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Raw(bytes)) => {
            out.write_all(bytes).await?;
            return Ok(After::Close);
        }
        Some(Fault::ResetAfterHead | Fault::CutAfter(_) | Fault::ResetAfter(_) | Fault::Followed(_))
        | None => {}
    }
    let mut head = format!("HTTP/1.1 {} {}\r\nX-Node: {name}\r\n", page.status, reason(page.status));
    for (name, value) in &page.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let bodiless = page.status == 204 || page.status == 304;
    match page.ending {
        Ending::Length if bodiless => {}
        Ending::Length => head.push_str(&format!("Content-Length: {}\r\n", page.body.len())),
        Ending::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Ending::Close => head.push_str("Connection: close\r\n"),
    }
    head.push_str("\r\n");
    out.write_all(head.as_bytes()).await?;
    if matches!(page.fault, Some(Fault::ResetAfterHead)) {
        out.flush().await?;
        return Ok(After::Reset);
    }
    if recorded.method == "HEAD" || bodiless {
        return Ok(if page.ending == Ending::Close { After::Close } else { After::KeepAlive });
    }
    body(out, page).await
}

async fn body(out: &mut (impl AsyncWrite + Unpin), page: &Page) -> io::Result<After> {
    let cut = match page.fault {
        Some(Fault::CutAfter(bytes) | Fault::ResetAfter(bytes)) => bytes.min(page.body.len()),
        _ => page.body.len(),
    };
    let hold_at = page.within_body.as_ref().map_or(usize::MAX, |(at, _)| *at);
    let mut sent = 0;
    loop {
        if sent == hold_at
            && let Some((_, gate)) = &page.within_body
        {
            out.flush().await?;
            gate.pass().await;
        }
        if sent >= cut {
            break;
        }
        // A piece never reaches over the byte at which the gate stands.
        let wall = if sent < hold_at { hold_at.min(cut) } else { cut };
        let piece = &page.body[sent..wall.min(sent + PIECE_BYTES)];
        if page.ending == Ending::Chunked {
            out.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        }
        out.write_all(piece).await?;
        if page.ending == Ending::Chunked {
            out.write_all(b"\r\n").await?;
        }
        sent += piece.len();
    }
    if matches!(page.fault, Some(Fault::CutAfter(_))) {
        return Ok(After::Close);
    }
    if matches!(page.fault, Some(Fault::ResetAfter(_))) {
        // A reset takes with it what the peer has not read yet.
        sleep(RESET_PAUSE).await;
        return Ok(After::Reset);
    }
    if page.ending == Ending::Chunked {
        out.write_all(b"0\r\n\r\n").await?;
    }
    if let Some(Fault::Followed(bytes)) = &page.fault {
        out.write_all(bytes).await?;
    }
    match page.ending {
        Ending::Length | Ending::Chunked => Ok(After::KeepAlive),
        Ending::Close => Ok(After::Close),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200..=299 => "OK",
        300..=399 => "Elsewhere",
        400..=499 => "Not So",
        _ => "Broken",
    }
}
