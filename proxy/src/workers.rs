//! The threads that serve: one tokio runtime, on which the connections of visitors and of web nodes run.
//!
//! It is not one that pingora makes, because of a default that pingora leaves as it is. A worker of tokio looks for input after
//! 61 turns and takes up to 1,024 connections that have some. Its queue holds 256; the older half of a fuller one goes to a
//! queue of all workers, which one that has work of its own visits once in some dozens of turns. With 512 clients that ask as fast as
//! they are answered, half of the requests took 2 ms like that, and one in a hundred 66 ms. Here it is 5 ms and 8 ms.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Turns of a worker between two looks for input. Tokio's default, stated because [`EVENTS`] has to be less.
const TURNS: u32 = 61;

/// Connections that may be found ready at one look: fewer than there are turns until the next, so that a queue never fills.
/// What is left over stands first the next time, as the kernel keeps them in order.
const EVENTS: usize = 48;

/// Starts the workers. They end when the runtime is dropped.
///
/// # Errors
///
/// If the system gives no threads, or no more descriptors.
pub(crate) fn start(threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("edge")
        .event_interval(TURNS)
        .max_io_events_per_tick(EVENTS)
        .enable_all()
        .build()
}

/// Lets those have their turn who have become ready meanwhile: what takes tens of microseconds is done in parts, so that a hit
/// that comes in between waits for one part only. Letting a connection in is one such part, a purge and its answer are others.
pub(crate) async fn others_first() {
    tokio::task::yield_now().await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Far more clients than a queue has room for ask one worker at once, each anew as soon as it is answered: all of them
    /// advance alike.
    #[test]
    fn of_many_who_ask_at_once_none_is_left_behind() {
        const CLIENTS: usize = 600;
        const ROUNDS: u64 = 100;
        let runtime = start(1).unwrap();
        let answered: Arc<Vec<AtomicU64>> = Arc::new((0..CLIENTS).map(|_| AtomicU64::new(0)).collect());
        let over = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for place in 0..CLIENTS {
            let (client, server) = UnixStream::pair().unwrap();
            server.set_nonblocking(true).unwrap();
            client.set_nonblocking(true).unwrap();
            clients.push(client);
            let (answered, over) = (answered.clone(), over.clone());
            runtime.spawn(async move {
                let mut server = tokio::net::UnixStream::from_std(server).unwrap();
                let mut byte = [0];
                while server.read_exact(&mut byte).await.is_ok() && !over.load(Relaxed) {
                    server.write_all(&byte).await.unwrap();
                    answered[place].fetch_add(1, Relaxed);
                }
            });
        }
        // Whoever is answered asks again, until one has come as far as it should.
        for client in &mut clients {
            client.write_all(b"?").unwrap();
        }
        let furthest = || answered.iter().map(|count| count.load(Relaxed)).max().unwrap();
        while furthest() < ROUNDS {
            for client in &mut clients {
                if client.read(&mut [0]).is_ok() {
                    client.write_all(b"?").unwrap();
                }
            }
        }
        let last = answered.iter().map(|count| count.load(Relaxed)).min().unwrap();
        over.store(true, Relaxed);
        assert!(last > ROUNDS / 2, "while one was answered {ROUNDS} times, another was {last} times");
    }
}
