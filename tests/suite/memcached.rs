//! The endpoint for sessions against a real memcached: the same requests to both, and the same answers.

use std::net::SocketAddr;

use clearcoat_tests::ports::Port;
use clearcoat_tests::real::Memcached;
use clearcoat_tests::real::memcached::ask;
use clearcoat_tests::{Address, Node, Proxy, Setup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An edge that keeps what it is given on these servers, and where that is.
async fn endpoint(memcached: &[Memcached], more: &str) -> (Proxy, Port) {
    let port = Port::claim();
    let servers: Vec<String> = memcached.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let node = Node::start().await;
    let sessions = format!(
        "[sessions]\nmode = \"replicate\"\nlisten = \"{}\"\nmemcached = [{}]\n{more}\n",
        port.address(),
        servers.join(", ")
    );
    let proxy = Setup::before(&node).more(&sessions).start().await;
    (proxy, port)
}

/// Numbers that look drawn, and are the same in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// A connection on which one request is made after the other.
struct Asking {
    stream: TcpStream,
    binary: bool,
}

impl Asking {
    async fn of(address: SocketAddr, binary: bool) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), binary }
    }

    /// The answer to a request, up to that to another whose answer is known. Empty if the connection was closed.
    async fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        let (marker, end) = if self.binary {
            (binary(0x0a, &[], b"", b"", 0, 0xfefe_fefe), binary_answer(0x0a, 0xfefe_fefe))
        } else {
            (b"mn\r\n".to_vec(), b"MN\r\n".to_vec())
        };
        self.stream.write_all(&[request, &marker].concat()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(&end) {
            let mut buffer = [0; 64 * 1024];
            let read = tokio::time::timeout(std::time::Duration::from_secs(5), self.stream.read(&mut buffer));
            match read
                .await
                .unwrap_or_else(|_| panic!("{}: only {}", request.escape_ascii(), answer.escape_ascii()))
            {
                Ok(0) | Err(_) => return answer,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
            }
        }
        answer.truncate(answer.len() - end.len());
        answer
    }
}

fn binary(opcode: u8, extras: &[u8], key: &[u8], value: &[u8], cas: u64, opaque: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, opcode];
    bytes.extend_from_slice(&(key.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[extras.len() as u8, 0, 0, 0]);
    bytes.extend_from_slice(&((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    bytes.extend_from_slice(&opaque.to_be_bytes());
    bytes.extend_from_slice(&cas.to_be_bytes());
    [&bytes[..], extras, key, value].concat()
}

fn binary_answer(opcode: u8, opaque: u32) -> Vec<u8> {
    let mut bytes = vec![0x81, opcode];
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(&opaque.to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

/// The CAS of a key on one of the servers.
async fn cas_of(asking: &mut Asking, key: &str) -> u64 {
    let answer = if asking.binary {
        let answer = asking.ask(&binary(0, &[], key.as_bytes(), b"", 0, 1)).await;
        return answer.get(16..24).map_or(0, |cas| u64::from_be_bytes(cas.try_into().unwrap()));
    } else {
        asking.ask(format!("mg {key} c\r\n").as_bytes()).await
    };
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split_whitespace().find_map(|word| word.strip_prefix('c')?.parse().ok()).unwrap_or(0)
}

/// Answers of text alike: numbers of CAS are each server's own, seconds may pass between the two, and a number that was counted and
/// got shorter is filled up with spaces or not, as a thread of memcached's happens to be looking at it.
fn alike(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    let (one, other): (Vec<&str>, Vec<&str>) = (one.split("\r\n").collect(), other.split("\r\n").collect());
    one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| lines_are_alike(one, other))
}

fn lines_are_alike(one: &str, other: &str) -> bool {
    let words =
        |line: &str| line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (words(one), words(other));
    let is_header = one.first().is_some_and(|word| word == "VALUE" || word == "VA");
    // Where the length stands, and behind it the CAS of `gets`.
    let length = if one.first().is_some_and(|word| word == "VA") { 1 } else { 3 };
    let number = |word: &str| word.trim_start_matches(['c', 't', 'l']).parse::<i64>().ok();
    one.len() == other.len()
        && one.iter().zip(&other).enumerate().all(|(at, (one, other))| {
            let numbers = number(one).zip(number(other));
            one == other
                || one.get(..1) == other.get(..1)
                    && numbers.is_some_and(|(a, b)| match one.as_bytes()[0] {
                        b'c' => true,
                        b't' | b'l' => (a - b).abs() <= 2,
                        _ => false,
                    })
                || is_header && at >= length && numbers.is_some()
        })
}

const KEYS: [&str; 6] = ["a", "memc.sess.key.b", "memc.sess.key.lock.b", "counter", "ezp:x:page", "k"];
// Not above 2^63: memcached then looks for a minus sign behind the end of the value as well.
const VALUES: [&str; 8] = ["", "1", "9", "99", "4611686018427387904", "n|i:1;", "some text", "-3"];
const TIMES: [&str; 7] = ["0", "0", "1440", "-1", "2592000", "2592001", "4000000000"];

/// A line of text that asks something.
fn text_request(draw: &mut Draw) -> String {
    let long = "k".repeat(250 + draw.below(2));
    let key = if draw.below(20) == 0 { &long } else { draw.one(&KEYS) };
    let (value, time) = (draw.one(&VALUES), draw.one(&TIMES));
    let quiet = if draw.below(8) == 0 { " noreply" } else { "" };
    let flags = draw.one(&["0", "80", "4294967295", "x", "-1"]);
    let length = value.len();
    match draw.below(22) {
        0..=3 => {
            let store = draw.one(&["set", "add", "replace", "append", "prepend"]);
            // Not behind a number that may be filled up with spaces.
            let key = if store.ends_with("pend") { KEYS[draw.below(3)] } else { key };
            format!("{store} {key} {flags} {time} {length}{quiet}\r\n{value}\r\n")
        }
        4 => format!("get {key}\r\n"),
        5 => format!("get {key} {} {} nothing\r\n", draw.one(&KEYS), draw.one(&KEYS)),
        6 => format!("gets {key}\r\n"),
        7 | 8 => {
            let count = draw.one(&["incr", "decr"]);
            format!("{count} counter {}{quiet}\r\n", draw.one(&["1", "5", "1099511627776", "x", "-1"]))
        }
        9 => format!("touch {key} {time}{quiet}\r\n"),
        10 => format!("gat {time} {key} {}\r\n", draw.one(&KEYS)),
        11 | 12 => format!("delete {key}{quiet}\r\n"),
        13 => format!("delete {key} {}\r\n", draw.one(&["0", "1", "0 noreply", "x y z"])),
        14 => {
            let mode = draw.one(&["", " MS", " ME", " MR", " MA", " MP", " Mx"]);
            let key = if mode == " MA" || mode == " MP" { KEYS[draw.below(3)] } else { key };
            format!("ms {key} {length} T{time} F5{mode}{}\r\n{value}\r\n", draw.one(&["", " q", " k O77"]))
        }
        15 | 16 => {
            format!("mg {key} {}\r\n", draw.one(&["v", "v t f", "k O123 v q", "f t", "", "T1440 v t", "v Q"]))
        }
        17 => format!("md {key}{}\r\n", draw.one(&["", " q", " k O5", " C99"])),
        18 => format!(
            "ma {key}{}\r\n",
            draw.one(&["", " v", " D5 MD v t", " N0 J13 v", " N100 v t", " q", " MX"])
        ),
        19 => "flush_all x\r\n".to_owned(),
        20 => draw
            .one(&[
                "get\r\n",
                "set\r\n",
                "incr a\r\n",
                "nonsense\r\n",
                "\r\n",
                "mg\r\n",
                "ms a\r\n",
                "touch a\r\n",
                "version\r\n",
                "gat 1\r\n",
                "verbosity 1\r\n",
                "set a 0 0 -1\r\n",
                "ms a x\r\n",
            ])
            .to_owned(),
        // Lengths that are wrong eat into what follows.
        _ => {
            let store = draw.one(&["set", "add"]);
            format!("{store} {key} {flags} 0 {}\r\n{value}\r\n\r\n\r\n", length + draw.below(2))
        }
    }
}

#[tokio::test]
async fn text_and_meta_commands_are_answered_as_memcached_does() {
    let (real, memcached) = (Memcached::start().await, Memcached::start_many(2).await);
    let (_proxy, port) = endpoint(&memcached, "lock_wait = \"0s\"").await;
    for seed in 1..=4 {
        let mut draw = Draw(seed);
        let (mut theirs, mut ours) =
            (Asking::of(real.address(), false).await, Asking::of(port.address(), false).await);
        theirs.ask(b"flush_all\r\n").await;
        ours.ask(b"flush_all\r\n").await;
        // Forgetting takes until the second is over.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        for number in 0..3_000 {
            let (request, other) = if draw.below(20) == 0 {
                let key = draw.one(&KEYS);
                let wrong = u64::from(draw.below(3) == 0);
                let (one, other) = (cas_of(&mut theirs, key).await, cas_of(&mut ours, key).await);
                let value = draw.one(&VALUES);
                let cas = |cas: u64| format!("cas {key} 1 0 {} {}\r\n{value}\r\n", value.len(), cas + wrong);
                (cas(one), cas(other))
            } else {
                let request = text_request(&mut draw);
                (request.clone(), request)
            };
            let (expected, answer) = (theirs.ask(request.as_bytes()).await, ours.ask(other.as_bytes()).await);
            assert!(
                alike(&expected, &answer),
                "seed {seed}, request {number}: {request:?}\nmemcached: {}\nclearcoat: {}",
                expected.escape_ascii(),
                answer.escape_ascii()
            );
        }
    }
}

fn binary_request(draw: &mut Draw, cas: u64) -> Vec<u8> {
    let key = draw.one(&KEYS).as_bytes();
    let value = draw.one(&VALUES).as_bytes();
    let time = draw.one(&TIMES).parse::<i64>().unwrap() as u32;
    let opaque = draw.below(1 << 31) as u32;
    let flags = [0_u32, 80, u32::MAX][draw.below(3)];
    let store = [flags.to_be_bytes(), time.to_be_bytes()].concat();
    let quiet = draw.below(4) == 0;
    match draw.below(15) {
        0..=3 => {
            let opcode = [1, 2, 3][draw.below(3)] + if quiet { 0x10 } else { 0 };
            binary(opcode, &store, key, value, cas, opaque)
        }
        4 | 5 => binary([0, 9, 0xc, 0xd][draw.below(4)], &[], key, b"", 0, opaque),
        6 => binary(if quiet { 0x14 } else { 4 }, &[], key, b"", cas, opaque),
        7 | 8 => {
            let delta = [1_u64, 5, 1 << 40][draw.below(3)];
            let count = [delta.to_be_bytes(), 13_u64.to_be_bytes()].concat();
            let time = if draw.below(3) == 0 { u32::MAX } else { 0 };
            let opcode = [5, 6][draw.below(2)] + if quiet { 0x10 } else { 0 };
            binary(opcode, &[&count[..], &time.to_be_bytes()].concat(), b"counter", b"", 0, opaque)
        }
        // Not behind a number that may be filled up with spaces.
        9 => binary(
            [0xe, 0xf, 0x19, 0x1a][draw.below(4)],
            &[],
            KEYS[draw.below(3)].as_bytes(),
            value,
            0,
            opaque,
        ),
        10 | 11 => {
            binary([0x1c, 0x1d, 0x1e, 0x23, 0x24][draw.below(5)], &time.to_be_bytes(), key, b"", 0, opaque)
        }
        12 => binary([0x0a, 0x0b, 0x1b, 0x20, 0x33, 0x51][draw.below(6)], &[], b"", b"", 0, opaque),
        13 => binary(0x0a, &[], b"", b"", 0, opaque),
        // Forgetting is left out: it forgets by whole seconds, and what is written anew counts from then on. Several at once, quiet ones among them.
        _ => (0..3).flat_map(|_| binary(0xd, &[], draw.one(&KEYS).as_bytes(), b"", 0, opaque)).collect(),
    }
}

/// Answers without what is each server's own: how CAS is numbered, and with how many spaces a shorter number is filled up.
fn without_own(answers: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = answers;
    let mut kept = Vec::new();
    while rest.len() >= 24 {
        let body = u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        let end = (24 + body).min(rest.len());
        let mut answer = [&rest[..24], rest[24..end].trim_ascii_end()].concat();
        // Whether there is one is the same everywhere.
        let has_cas = answer[16..24].iter().any(|byte| *byte != 0);
        answer[16..24].fill(u8::from(has_cas));
        answer[8..12].fill(0);
        kept.push(answer);
        rest = &rest[end..];
    }
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
    kept
}

#[tokio::test]
async fn binary_commands_are_answered_as_memcached_does() {
    let (real, memcached) = (Memcached::start().await, Memcached::start_many(2).await);
    let (_proxy, port) = endpoint(&memcached, "lock_wait = \"0s\"").await;
    for seed in 1..=4 {
        let (mut theirs, mut ours) =
            (Asking::of(real.address(), true).await, Asking::of(port.address(), true).await);
        for asking in [&mut theirs, &mut ours] {
            asking.ask(&binary(8, &[], b"", b"", 0, 1)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let mut draw = Draw(seed);
        for number in 0..3_000 {
            let (mut one, mut other) = (0, 0);
            if draw.below(10) == 0 {
                let key = draw.one(&KEYS);
                (one, other) = (cas_of(&mut theirs, key).await, cas_of(&mut ours, key).await);
            }
            let before = draw.0;
            let request = binary_request(&mut draw, one);
            draw.0 = before;
            let asked = binary_request(&mut draw, other);
            let (expected, answer) = (theirs.ask(&request).await, ours.ask(&asked).await);
            assert!(
                without_own(&expected) == without_own(&answer),
                "seed {seed}, request {number}: {}\nmemcached: {}\nclearcoat: {}",
                request.escape_ascii(),
                expected.escape_ascii(),
                answer.escape_ascii()
            );
        }
    }
}

#[tokio::test]
async fn an_unknown_id_is_not_made_known_by_asking() {
    let (real, memcached) = (Memcached::start().await, Memcached::start_many(2).await);
    let (_proxy, port) = endpoint(&memcached, "").await;
    // What PHP asks in strict mode: 31 days are a date in 1970, so this answers whether the id is known, and leaves nothing.
    let key = b"memc.sess.key.chosen-by-a-stranger";
    let add = binary(2, &[0_u32.to_be_bytes(), 2_678_400_u32.to_be_bytes()].concat(), key, b"", 0, 7);
    let get = binary(0x0c, &[], key, b"", 0, 8);
    for address in [real.address(), port.address()] {
        for _ in 0..3 {
            let added = ask(address, &add).await;
            assert_eq!(added[6..8], [0, 0], "the id is unknown: {}", added.escape_ascii());
            let found = ask(address, &get).await;
            assert_eq!(found[6..8], [0, 1], "and still is: {}", found.escape_ascii());
            assert_eq!(&found[24..], key);
        }
        // Once it is known it is refused.
        let set = binary(1, &[0_u32.to_be_bytes(), 1440_u32.to_be_bytes()].concat(), key, b"n|i:1;", 0, 9);
        assert_eq!(ask(address, &set).await[6..8], [0, 0]);
        assert_eq!(ask(address, &add).await[6..8], [0, 2]);
    }
}

#[tokio::test]
async fn items_have_a_size_and_keys_a_length() {
    let memcached = Memcached::start_many(2).await;
    let (_proxy, port) = endpoint(&memcached, "").await;
    let mut asking = Asking::of(port.address(), false).await;
    let store = |size: usize| format!("set big 7 0 {size}\r\n{}\r\n", "x".repeat(size));
    assert_eq!(asking.ask(store(1_048_000).as_bytes()).await, b"STORED\r\n");
    let found = asking.ask(b"get big\r\n").await;
    assert!(found.starts_with(b"VALUE big 7 1048000\r\nxxx") && found.ends_with(b"x\r\nEND\r\n"));
    assert_eq!(asking.ask(store(1_048_576).as_bytes()).await, b"SERVER_ERROR object too large for cache\r\n");
    // What was there was not meant to stay.
    assert_eq!(asking.ask(b"get big\r\n").await, b"END\r\n");
    // Keys of the binary protocol may have any bytes.
    let mut asking = Asking::of(port.address(), true).await;
    for key in [&b"with space"[..], b"\0\r\n\xff", &[b'k'; 250]] {
        let set = binary(1, &[0; 8], key, b"value", 0, 1);
        assert_eq!(asking.ask(&set).await[6..8], [0, 0]);
        let found = asking.ask(&binary(0x0c, &[], key, b"", 0, 2)).await;
        assert_eq!(&found[24..], [&[0; 4][..], key, b"value"].concat());
    }
}

#[tokio::test]
async fn a_flood_of_nonsense_ends_its_connection_and_nothing_else() {
    let memcached = Memcached::start_many(2).await;
    let (proxy, port) = endpoint(&memcached, "").await;
    let before = proxy.resident_bytes();
    let mut draw = Draw(99);
    for round in 0..200 {
        let mut stream = TcpStream::connect(port.address()).await.unwrap();
        let mut bytes: Vec<u8> = (0..4096).map(|_| draw.below(256) as u8).collect();
        match round % 4 {
            0 => bytes[0] = 0x80,
            1 => bytes = [b"get ".to_vec(), vec![b'k'; 400_000]].concat(),
            2 => bytes = [b"set a 0 0 1000000\r\n".to_vec(), vec![b'x'; 4096]].concat(),
            _ => {}
        }
        let _ = stream.write_all(&bytes).await;
        let mut answer = vec![0; 4096];
        let _ = tokio::time::timeout(std::time::Duration::from_millis(20), stream.read(&mut answer)).await;
    }
    assert_eq!(
        ask(port.address(), b"set a 0 0 1\r\nx\r\nget a\r\n").await,
        b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"
    );
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[tokio::test]
async fn web_nodes_on_the_same_machine_come_over_a_unix_socket() {
    let memcached = Memcached::start_many(2).await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sessions.sock");
    let sessions = format!(
        "[sessions]\nmode = \"replicate\"\nlisten = \"unix:{}\"\nmemcached = [\"{}\", \"{}\"]\n",
        socket.display(),
        memcached[0].address(),
        memcached[1].address()
    );
    let node = Node::start().await;
    let _proxy = Setup::before(&node).more(&sessions).start().await;
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"set a 0 0 1\r\nx\r\nget a\r\nquit\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
    // It is on both servers.
    for server in &memcached {
        assert!(server.ask("mg a s\r\n").await.starts_with(b"HD s14"), "one byte behind the version");
    }
}
