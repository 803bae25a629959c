//! The listeners that are open, and what each does with its connections.
//!
//! A reload puts another [`Lane`] in the place of a listener's, opens and closes listeners. Whoever is connected goes on: with
//! his next request by the new rules, or, where the listener is gone, as in a shutdown: what runs is answered, and then the
//! connection ends.
//!
//! Closing races with a reload that opens: whichever comes second finds the other's work done under the one lock, so that no
//! listener is left open when the process drains.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use clearcoat_conf::ListenAddress;
use parking_lot::Mutex;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service as PingoraService;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::lane::Lane;
use super::service::{BoundSocket, Listener};
use super::unix::Place;

/// What a listener does with its connections now.
pub(crate) type Standing = Arc<ArcSwap<Lane>>;

/// A listener that is wanted; the socket is there if it is not open yet.
pub(crate) struct Wanted {
    pub(crate) address: ListenAddress,
    pub(crate) socket: Option<BoundSocket>,
    pub(crate) lane: Lane,
}

/// See the module's page.
pub(crate) struct Doors {
    workers: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<Door>,
    /// Those that were closed and are not through with accepting.
    closing: Vec<JoinHandle<()>>,
    /// Nothing is opened any more.
    over: bool,
}

struct Door {
    address: ListenAddress,
    standing: Standing,
    /// Told `true` when it is to be closed.
    close: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    place: Option<Arc<Place>>,
}

impl Door {
    fn close(self) -> JoinHandle<()> {
        if let Some(place) = &self.place {
            place.leave();
        }
        self.close.send_replace(true);
        self.accepting
    }
}

impl Doors {
    /// No listener is open; connections will be served by these workers.
    pub(crate) fn new(workers: Handle) -> Arc<Self> {
        Arc::new(Self { workers, state: Mutex::default() })
    }

    /// Whether this address is open.
    pub(crate) fn is_open(&self, address: &ListenAddress) -> bool {
        self.state.lock().open.iter().any(|door| door.address == *address)
    }

    /// Opens, changes and closes, so that exactly these are open. One without a socket that is not open is left out.
    pub(crate) fn set(&self, wanted: Vec<Wanted>) {
        let mut state = self.state.lock();
        if state.over {
            return;
        }
        let mut before = std::mem::take(&mut state.open);
        for Wanted { address, socket, lane } in wanted {
            match (before.iter().position(|door| door.address == address), socket) {
                (Some(at), _) => {
                    let door = before.swap_remove(at);
                    door.standing.store(Arc::new(lane));
                    state.open.push(door);
                }
                (None, Some(socket)) => {
                    info!(%address, "serving");
                    state.open.push(self.open(address, socket, lane));
                }
                (None, None) => error!(%address, "there is no socket for this listener"),
            }
        }
        state.closing.retain(|accepting| !accepting.is_finished());
        for door in before {
            info!(address = %door.address, "no longer serving");
            state.closing.push(door.close());
        }
    }

    fn open(&self, address: ListenAddress, socket: BoundSocket, lane: Lane) -> Door {
        let (close, closing) = watch::channel(false);
        let standing: Standing = Arc::new(ArcSwap::from_pointee(lane));
        let (place, for_connections) = (socket.place(), standing.clone());
        let accepting = self.workers.spawn(async move {
            match Listener::new(socket) {
                Ok(listener) => listener.serve(for_connections, closing).await,
                Err(error) => error!(%error, "a listener cannot be served"),
            }
        });
        Door { address, standing, close, accepting, place }
    }

    /// Closes all listeners, for good; comes back when none accepts any more.
    async fn close(&self) {
        let (mut closing, lanes) = {
            let mut state = self.state.lock();
            state.over = true;
            let open = std::mem::take(&mut state.open);
            let lanes: Vec<_> = open.iter().map(|door| door.standing.load_full()).collect();
            let mut closing = std::mem::take(&mut state.closing);
            closing.extend(open.into_iter().map(Door::close));
            (closing, lanes)
        };
        for accepting in closing.drain(..) {
            // One that has panicked accepts no more either.
            let _ = accepting.await;
        }
        info!("no more visitors are let in");
        for lane in lanes {
            lane.cleanup().await;
        }
    }

    /// Takes away the files of Unix sockets, where the process ends before it has closed them.
    pub(crate) fn leave(&self) {
        let state = self.state.lock();
        state.open.iter().filter_map(|door| door.place.as_ref()).for_each(|place| place.leave());
    }
}

/// Opens the first doors when the server starts, and closes them all when it shuts down.
pub(crate) struct Edge {
    doors: Arc<Doors>,
    first: Vec<Wanted>,
}

impl Edge {
    pub(crate) fn new(doors: Arc<Doors>, first: Vec<Wanted>) -> Self {
        Self { doors, first }
    }
}

#[async_trait]
impl PingoraService for Edge {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        self.doors.set(std::mem::take(&mut self.first));
        // An error means that the server is gone.
        let _ = shutdown.wait_for(|draining| *draining).await;
        self.doors.close().await;
    }

    fn name(&self) -> &str {
        "edge"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
