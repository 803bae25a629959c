//! Purges beside the load, as PHP sends them: each over a connection of its own that ends with it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::{Arguments, percentile};

pub(crate) struct Purges {
    server: SocketAddr,
    rate: f64,
    tags: u32,
    name: String,
    of: u32,
    random: fastrand::Rng,
    began: Instant,
    ends: Instant,
    sent: u64,
    /// Places of those that are under way; they begin behind those of the load's connections.
    first: usize,
    under_way: HashMap<usize, (TcpStream, Instant)>,
    latencies: Vec<u32>,
}

impl Purges {
    /// None are due before the load begins.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let began = Instant::now();
        Self {
            server: arguments.purge_server.unwrap_or(arguments.server),
            rate: arguments.purge_rate,
            tags: arguments.purge_tags,
            name: arguments.purge_name.clone(),
            of: arguments.purge_of,
            random: fastrand::Rng::with_seed(11),
            began,
            ends: began + Duration::from_secs_f64(arguments.seconds),
            sent: 0,
            first: arguments.connections,
            under_way: HashMap::new(),
            latencies: Vec::new(),
        }
    }

    pub(crate) fn send_what_is_due(&mut self, queue: &OwnedFd) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.rate <= 0.0 || now >= self.ends {
            return Ok(());
        }
        let due = self.began + Duration::from_secs_f64(self.sent as f64 / self.rate);
        if due > now {
            return Ok(());
        }
        let mut request = String::from("PURGEKEYS / HTTP/1.1\r\nHost: bench.test\r\nxkey-purge:");
        for _ in 0..self.tags {
            let _ = write!(request, " {}{}", self.name, self.random.u32(..self.of));
        }
        request.push_str("\r\nConnection: Close\r\n\r\n");
        // On the loopback a connection is there at once.
        let mut stream = TcpStream::connect(self.server).context("connecting for a purge")?;
        stream.set_nodelay(true)?;
        stream.write_all(request.as_bytes())?;
        stream.set_nonblocking(true)?;
        let place = self.first + self.sent as usize;
        epoll::add(queue, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
        self.under_way.insert(place, (stream, due));
        self.sent += 1;
        Ok(())
    }

    pub(crate) fn receive(&mut self, place: usize) -> anyhow::Result<()> {
        let Some((mut stream, due)) = self.under_way.remove(&place) else { return Ok(()) };
        let mut answer = [0; 512];
        match stream.read(&mut answer) {
            Ok(count) => {
                ensure!(answer[..count].starts_with(b"HTTP/1.1 200 "), "a purge was not carried out");
                let late = due.elapsed().as_micros();
                self.latencies.push(u32::try_from(late).unwrap_or(u32::MAX));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.under_way.insert(place, (stream, due));
            }
            Err(error) => return Err(error).context("receiving the answer to a purge"),
        }
        Ok(())
    }

    /// Further members of the result.
    pub(crate) fn report(&self) -> String {
        if self.sent == 0 {
            return String::new();
        }
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| percentile(&sorted, share));
        let count = sorted.len();
        format!(
            ", \"purges\": {count}, \"purge_p50_us\": {p50}, \"purge_p99_us\": {p99}, \"purge_max_us\": {max}"
        )
    }
}
