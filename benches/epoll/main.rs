//! The yardstick: an epoll loop that does what every server has to do for a small hit, and nothing else.
//!
//! One thread. A request is one read and one write: the blank line is found, the target is hashed and looked up in a
//! small table, and a prepared answer goes out with `Date` and `Age` in it. There is no parsing of headers, no freshness,
//! no time-out, no bound on connections: it is no server. What Clearcoat takes above this is what being a server costs.
//!
//! An answer has to fit into the socket's send buffer at once. Where it does not, the connection is closed, which the
//! load sees as an error.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Instant, SystemTime};

use clap::Parser as _;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// The bare loop that other servers are held against.
#[derive(clap::Parser)]
struct Arguments {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
    /// Bytes of a body.
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// The targets it knows, each answered with 200; others get 404.
    #[arg(long, default_value = "/1k/a")]
    path: Vec<String>,
}

/// The event data of the listener; connections have their place in the table.
const LISTENER: u64 = u64::MAX;

/// What `Date` and `Age` look like before they are written over.
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AGE_DIGITS: usize = 10;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)?;
    listener.set_nonblocking(true)?;
    let queue = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&queue, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;

    let hasher = RandomState::new();
    let mut answers: HashMap<u64, Answer> = HashMap::new();
    for path in &arguments.path {
        answers.insert(hasher.hash_one(path.as_bytes()), Answer::new("200 OK", arguments.body));
    }
    let mut absent = Answer::new("404 Not Found", 0);

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    let began = Instant::now();
    let mut second = 0;
    loop {
        events.clear();
        epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), None)?;
        if second != began.elapsed().as_secs() + 1 {
            second = began.elapsed().as_secs() + 1;
            for answer in answers.values_mut().chain([&mut absent]) {
                answer.tell_time(second - 1);
            }
        }
        for event in &events {
            if event.data.u64() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let place = free.pop().unwrap_or(connections.len());
                    epoll::add(&queue, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
                    let connection = Some(Connection { stream, buffer: vec![0; 16 << 10], filled: 0 });
                    match connections.get_mut(place) {
                        Some(slot) => *slot = connection,
                        None => connections.push(connection),
                    }
                }
                continue;
            }
            let place = event.data.u64() as usize;
            let Some(connection) = &mut connections[place] else { continue };
            let keep = connection.serve(|target| answers.get(&hasher.hash_one(target)).unwrap_or(&absent));
            if !keep {
                // Closing takes it out of the queue.
                connections[place] = None;
                free.push(place);
            }
        }
    }
}

/// An answer as it goes out, but for the time in it.
struct Answer {
    bytes: Vec<u8>,
    date_at: usize,
    age_at: usize,
}

impl Answer {
    fn new(status: &str, body: usize) -> Self {
        let begin = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nCache-Control: s-maxage=86400\r\n\
             ETag: \"0123456789abcdef\"\r\nContent-Length: {body}\r\nDate: "
        );
        let date_at = begin.len();
        let begin = format!("{begin}{DATE}\r\nAge: ");
        let age_at = begin.len();
        let mut bytes = format!("{begin}{:AGE_DIGITS$}\r\n\r\n", 0).into_bytes();
        bytes.resize(bytes.len() + body, b'x');
        Self { bytes, date_at, age_at }
    }

    fn tell_time(&mut self, age: u64) {
        let date = httpdate::fmt_http_date(SystemTime::now());
        self.bytes[self.date_at..][..DATE.len()].copy_from_slice(date.as_bytes());
        self.bytes[self.age_at..][..AGE_DIGITS].copy_from_slice(format!("{age:>AGE_DIGITS$}").as_bytes());
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Reads once, and answers what is there in whole. False when the connection is at its end.
    fn serve<'a>(&mut self, answer: impl Fn(&[u8]) -> &'a Answer) -> bool {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            // Also when a head is larger than the buffer.
            Ok(0) => return false,
            Ok(count) => self.filled += count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        let mut begin = 0;
        while let Some(end) = memchr::memmem::find(&self.buffer[begin..self.filled], b"\r\n\r\n") {
            let mut words = self.buffer[begin..begin + end].split(|&byte| byte == b' ');
            let bytes = &answer(words.nth(1).unwrap_or_default()).bytes;
            match self.stream.write(bytes) {
                Ok(count) if count == bytes.len() => begin += end + 4,
                Ok(_) | Err(_) => return false,
            }
        }
        self.buffer.copy_within(begin..self.filled, 0);
        self.filled -= begin;
        true
    }
}
