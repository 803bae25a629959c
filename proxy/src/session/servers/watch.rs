//! Looks after servers: asks each how it is, and finds out when one is back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::link::Link;
use super::server::{Server, Told};
use super::wire::number;

/// Between probes of a server that is up.
const INTERVAL: Duration = Duration::from_secs(1);

/// From an outage to the first probe; each further one waits twice as long, up to `INTERVAL`.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// What a probe may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Probes servers until `shutdown` turns true, and calls `returned` for each that was away.
pub(crate) async fn run(
    servers: &[Arc<Server>],
    shutdown: watch::Receiver<bool>,
    returned: impl Fn(Arc<Server>) + Clone + Send + 'static,
) {
    let mut watching = JoinSet::new();
    for server in servers {
        watching.spawn(look_after(server.clone(), shutdown.clone(), returned.clone()));
    }
    watching.join_all().await;
}

async fn look_after(
    server: Arc<Server>,
    mut shutdown: watch::Receiver<bool>,
    returned: impl Fn(Arc<Server>),
) {
    let mut link = None;
    let mut retry = FIRST_RETRY;
    loop {
        match timeout(PATIENCE, probe(&server, &mut link))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            Ok((told, kept)) => {
                retry = FIRST_RETRY;
                if server.answered(told, kept) {
                    returned(server.clone());
                }
            }
            Err(error) => {
                link = None;
                server.missed(&error);
            }
        }
        let pause = if server.is_up() { INTERVAL } else { retry };
        if !server.is_up() {
            retry = (retry * 2).min(INTERVAL);
        }
        let lost = tokio::select! {
            () = sleep(pause) => false,
            () = server.lost.notified() => true,
            // An error means that the server is gone.
            _ = shutdown.wait_for(|ending| *ending) => return,
        };
        if lost {
            sleep(FIRST_RETRY).await;
        }
    }
}

/// Asks how a server is, and whether it keeps what it has when it is restarted.
async fn probe(server: &Server, link: &mut Option<Link>) -> io::Result<(Told, bool)> {
    let link = match link {
        Some(link) if link.is_quiet() => link,
        _ => link.insert(Link::open(server.address()).await?),
    };
    let mut told = Told::default();
    link.lines(b"stats\r\n", |line| {
        let mut words = line.split(|byte| *byte == b' ').skip(1);
        let (Some(name), Some(value)) = (words.next(), words.next()) else { return };
        let set = |field: &mut u64| *field = number(value.trim_ascii_end()).unwrap_or_default();
        match name {
            b"version" => told.version = String::from_utf8_lossy(value.trim_ascii_end()).into_owned(),
            b"pid" => set(&mut told.pid),
            b"uptime" => set(&mut told.uptime),
            b"curr_items" => set(&mut told.items),
            b"bytes" => set(&mut told.bytes),
            b"limit_maxbytes" => set(&mut told.limit_bytes),
            b"evictions" => set(&mut told.evictions),
            _ => {}
        }
    })
    .await?;
    let mut kept = false;
    if server.told().is_none_or(|before| before.pid != told.pid) {
        link.lines(b"stats settings\r\n", |line| {
            kept |= line
                .strip_prefix(b"STAT memory_file ")
                .is_some_and(|file| !matches!(file.trim_ascii(), b"" | b"(null)"));
        })
        .await?;
    }
    Ok((told, kept))
}
