//! Ports that stay ours while a server behind them stops and starts again.
//!
//! A port found by binding `:0` may be given to somebody else as soon as it is released: to another server, or to an outgoing
//! connection. So ports come from below the range that Linux uses for outgoing connections, and each is *claimed* by holding the UDP
//! socket of the same number: the TCP side stays free for the server, while every other test process that asks sees the claim.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// First port handed out; below live the well-known services.
const FIRST: u16 = 10_240;
/// One past the last; Linux takes outgoing ports from 32768 upwards.
const END: u16 = 32_000;

/// How many ports were tried so far in this process.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// A TCP port on 127.0.0.1 that nobody else in any run of this harness will use before this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// Claims a port that nobody listens on.
    ///
    /// # Panics
    ///
    /// If every port of the range is taken.
    pub fn claim() -> Self {
        let width = END - FIRST;
        // Two processes started together begin in different places, so that they rarely meet.
        let start = (std::process::id() % u32::from(width / 16)) as u16 * 16;
        for _ in 0..width {
            let tried = TRIED.fetch_add(1, Ordering::Relaxed) % width;
            let number = FIRST + (start + tried) % width;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
            let Ok(claim) = UdpSocket::bind(address) else { continue };
            // Asked by a visit and not by listening: a process that is being started at this very moment would hold our
            // listening socket for as long as it takes, and nobody else could listen.
            if TcpStream::connect(address).is_err() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no free port between {FIRST} and {END}");
    }

    /// The number alone.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_claimed_port_is_free_for_tcp_and_given_once() {
        let ports: Vec<Port> = (0..50).map(|_| Port::claim()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        for port in &ports {
            assert!(TcpListener::bind(port.address()).is_ok(), "{} is free for its server", port.number());
        }
    }
}
