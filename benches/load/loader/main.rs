//! The load that `wrk` cannot make: a fixed rate, a first round over many URLs, and connections that only wait.
//!
//! One thread around epoll. With `--rate`, requests have times at which they are due, evenly spread; one for which no
//! connection is free waits, and its latency counts from the time at which it was due, so that a server that stalls is not
//! spared the requests of that time. Without it, every connection sends as soon as it has its answer. Waiting for the next
//! due time spins when it is near: the load has a core to itself.
//!
//! Only answers with `Content-Length` are understood (and those without a body). Anything but the expected status and
//! length is an error, and so is a connection that the server closes. The result is one line of JSON.

#![allow(clippy::print_stdout)]

mod answer;
mod purges;
mod target;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::sockopt;

use crate::answer::{Progress, Reader};
use crate::purges::Purges;
use crate::target::Targets;

/// Loads one server from one thread.
#[derive(clap::Parser)]
struct Arguments {
    /// The server.
    #[arg(long)]
    server: SocketAddr,
    /// What is asked for; with --keys, the beginning of it.
    #[arg(long, default_value = "/1k/a")]
    path: String,
    /// Ask for PATH0 to PATH(N-1), drawn evenly; 0 for the path itself.
    #[arg(long, default_value_t = 0)]
    keys: u64,
    /// Ask for each of the keys once, in order, and end.
    #[arg(long, requires = "keys")]
    once: bool,
    /// Ends after that many requests; 0 for no such end.
    #[arg(long, default_value_t = 0)]
    count: u64,
    /// Header lines besides Host.
    #[arg(long)]
    header: Vec<String>,
    /// Connections that carry requests.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Connections that make one request at the beginning and then wait.
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// Requests a second; 0 for as many as go.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Purges by tags a second beside the requests, each over a connection of its own, as PHP sends them.
    #[arg(long, default_value_t = 0.0)]
    purge_rate: f64,
    /// Where they go, if not to the server: shows what sending them costs this loader.
    #[arg(long)]
    purge_server: Option<SocketAddr>,
    /// Tags of a purge.
    #[arg(long, default_value_t = 1)]
    purge_tags: u32,
    /// They are PURGE_NAME0 to PURGE_NAME(N-1), drawn evenly.
    #[arg(long, default_value = "tag-")]
    purge_name: String,
    /// How many tags there are to draw from.
    #[arg(long, default_value_t = 10_000)]
    purge_of: u32,
    /// Keys are drawn by Zipf's law with this exponent, 0 the most frequent; 0 for evenly.
    #[arg(long, default_value_t = 0.0)]
    zipf: f64,
    /// Ends after that long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Says `ready` once all connections stand, and waits for a line on standard input; after the result for its end, so that
    /// the end of the connections can be kept out of a measurement.
    #[arg(long)]
    wait: bool,
    /// The status of every answer.
    #[arg(long, default_value_t = 200)]
    expect: u16,
    /// The length of every body; without it any.
    #[arg(long)]
    length: Option<u64>,
}

struct Connection {
    stream: TcpStream,
    reader: Reader,
    due: Instant,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut targets = Targets::new(&arguments);

    let mut idle = Vec::with_capacity(arguments.idle);
    for _ in 0..arguments.idle {
        idle.push(idle_connection(arguments.server, targets.request(0))?);
    }
    let queue = epoll::create(CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(arguments.connections);
    for place in 0..arguments.connections {
        let stream = TcpStream::connect(arguments.server).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&queue, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
        connections.push(Connection { stream, reader: Reader::new(), due: Instant::now() });
    }
    if arguments.wait {
        println!("ready");
        std::io::stdin().read_line(&mut String::new())?;
    }

    let mut run =
        Run { arguments: &arguments, free: (0..connections.len()).collect(), ..Run::new(&arguments) };
    let mut purges = Purges::new(&arguments);
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    loop {
        run.send_what_is_due(&mut connections, &mut targets)?;
        purges.send_what_is_due(&queue)?;
        if run.is_over() {
            break;
        }
        events.clear();
        epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), run.patience().as_ref())?;
        for event in &events {
            let place = event.data.u64() as usize;
            if place >= connections.len() {
                purges.receive(place)?;
                continue;
            }
            run.receive(&mut connections[place], place)?;
        }
    }
    run.report(&purges);
    if arguments.wait {
        std::io::stdin().read_line(&mut String::new())?;
    }
    drop(idle);
    Ok(())
}

/// A connection that has had one answer, so that the server took it for a visitor's. It ends with a reset: ten thousand that
/// the kernel remembers for a minute, and then forgets at once, would disturb whatever is measured next.
fn idle_connection(server: SocketAddr, request: &[u8]) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(server).context("connecting an idle connection")?;
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    stream.write_all(request)?;
    let mut buffer = [0; 16 << 10];
    let mut reader = Reader::new();
    loop {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "the server closed an idle connection at once");
        if let Progress::Whole { .. } = reader.feed(&buffer[..count])? {
            return Ok(stream);
        }
    }
}

/// What one run has sent and got.
struct Run<'a> {
    arguments: &'a Arguments,
    began: Instant,
    ends: Instant,
    /// Connections without a request under way. Taken from the front and put back at the end, so that all are used.
    free: VecDeque<usize>,
    sent: u64,
    latencies: Vec<u32>,
    /// The 99th percentile of each window that has ended.
    windows: Vec<u32>,
    /// Where in `latencies` the window under way began, and when it ends.
    window: (usize, Instant),
    errors: u64,
    buffer: Vec<u8>,
}

/// Nearer than that, waiting spins: a sleep may last a timer's slack longer.
const SPIN: Duration = Duration::from_micros(200);

/// The median of the 99th percentiles of windows as long as this leaves out what the machine itself does now and then: one that
/// is stopped for four milliseconds once a second has a 99th percentile of nothing but that.
const WINDOW: Duration = Duration::from_millis(100);

/// How long answers may be late once nothing more is sent.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

impl<'a> Run<'a> {
    fn new(arguments: &'a Arguments) -> Self {
        let began = Instant::now();
        let seconds = if arguments.once || arguments.count > 0 { 86_400.0 } else { arguments.seconds };
        Self {
            arguments,
            began,
            ends: began + Duration::from_secs_f64(seconds),
            free: VecDeque::new(),
            sent: 0,
            latencies: Vec::new(),
            windows: Vec::new(),
            window: (0, began + WINDOW),
            errors: 0,
            buffer: vec![0; 256 << 10],
        }
    }

    /// When the next request is due.
    fn due(&self) -> Instant {
        if self.arguments.rate > 0.0 {
            self.began + Duration::from_secs_f64(self.sent as f64 / self.arguments.rate)
        } else {
            Instant::now()
        }
    }

    fn send_what_is_due(
        &mut self,
        connections: &mut [Connection],
        targets: &mut Targets,
    ) -> anyhow::Result<()> {
        while let Some(&place) = self.free.front() {
            let due = self.due();
            if due > Instant::now() || due >= self.ends {
                break;
            }
            if self.arguments.count > 0 && self.sent == self.arguments.count {
                break;
            }
            let Some(request) = targets.next() else { break };
            let connection = &mut connections[place];
            connection.due = due;
            // A request is smaller than any send buffer that is empty.
            let count = connection.stream.write(request).context("sending")?;
            ensure!(count == request.len(), "a request did not fit into the send buffer");
            self.free.pop_front();
            self.sent += 1;
        }
        if targets.at_end() || (self.arguments.count > 0 && self.sent == self.arguments.count) {
            self.ends = self.ends.min(Instant::now());
        }
        Ok(())
    }

    fn receive(&mut self, connection: &mut Connection, place: usize) -> anyhow::Result<()> {
        let count = match connection.stream.read(&mut self.buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("receiving"),
        };
        ensure!(count > 0, "the server closed a connection");
        if let Progress::Whole { status, length } = connection.reader.feed(&self.buffer[..count])? {
            let now = Instant::now();
            self.end_windows(now);
            let late = now.saturating_duration_since(connection.due).as_micros();
            self.latencies.push(u32::try_from(late).unwrap_or(u32::MAX));
            let right =
                status == self.arguments.expect && self.arguments.length.is_none_or(|right| right == length);
            self.errors += u64::from(!right);
            self.free.push_back(place);
        }
        Ok(())
    }

    /// Ends the window under way if its time is over.
    fn end_windows(&mut self, now: Instant) {
        let (first, ends) = self.window;
        if now < ends {
            return;
        }
        if first < self.latencies.len() {
            let mut window = self.latencies[first..].to_vec();
            window.sort_unstable();
            self.windows.push(percentile(&window, 0.99));
        }
        self.window = (self.latencies.len(), now + WINDOW);
    }

    fn is_over(&self) -> bool {
        let now = Instant::now();
        now >= self.ends && (self.latencies.len() as u64 == self.sent || now >= self.ends + LAST_ANSWERS)
    }

    /// How long to wait for an answer: not at all when a request is due soon and could be sent.
    fn patience(&self) -> Option<Timespec> {
        let until = if self.free.is_empty() { self.ends } else { self.due().min(self.ends) };
        let left = until.saturating_duration_since(Instant::now());
        let left = if left < SPIN { Duration::ZERO } else { left - SPIN };
        let left = if Instant::now() >= self.ends { Duration::from_millis(1) } else { left };
        Timespec::try_from(left).ok()
    }

    fn report(mut self, purges: &Purges) {
        let seconds = self.began.elapsed().as_secs_f64();
        let unanswered = self.sent - self.latencies.len() as u64;
        self.latencies.sort_unstable();
        self.windows.sort_unstable();
        println!(
            "{{\"requests\": {}, \"seconds\": {seconds:.3}, \"errors\": {}, \"p50_us\": {}, \"p99_us\": {}, \
             \"p999_us\": {}, \"max_us\": {}, \"window_p99_us\": {}{}}}",
            self.latencies.len(),
            self.errors + unanswered,
            percentile(&self.latencies, 0.5),
            percentile(&self.latencies, 0.99),
            percentile(&self.latencies, 0.999),
            percentile(&self.latencies, 1.0),
            percentile(&self.windows, 0.5),
            purges.report(),
        );
    }
}

/// What that share of sorted values is at most.
fn percentile(sorted: &[u32], share: f64) -> u32 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
