//! Harness of the end-to-end suite: real processes, real sockets, nothing mocked inside the product.
//!
//! What it is not: a client or server library. Everything here speaks just enough HTTP/1.1 to be *stricter* than a browser (the
//! client refuses an answer whose framing is doubtful) and *worse* than a web server (a node can stall, lie, cut and vanish).
//!
//! Where to start reading: [`proxy`] starts the binary under test, [`node`] is a web node under the test's control, [`real`] are
//! nginx and PHP, [`client`] talks to any of them, [`http2`] to the proxy in HTTP/2, [`purge`] invalidates, [`load`] keeps asking,
//! [`scripted`] is a web node that a test speaks for byte by byte, [`websocket`] its side of a WebSocket,
//! [`tls`] makes certificates and visits under TLS. [`wait`] replaces sleeping,
//! [`ports`] hands out ports, [`process`] ends children, [`metrics`] reads what the proxy counts, [`why`] asks it about a request, [`wire`] frames bytes.
//!
//! A failed expectation of the harness itself is a panic with a sentence in it: a test has nobody to return an error to.

pub mod client;
pub mod corpus;
pub mod http2;
pub mod load;
pub mod metrics;
pub mod node;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod purge;
pub mod real;
pub mod scripted;
pub mod tls;
pub mod wait;
pub mod websocket;
pub mod why;
pub mod wire;

pub use client::{Answer, Connection, Request, Served};
pub use load::{Load, Report};
pub use metrics::Metrics;
pub use node::{Gate, Node, Page};
pub use proxy::{Proxy, Setup};
pub use scripted::Scripted;
pub use tls::{Agreed, Authority, Certificate, TlsVisitor};

use std::net::SocketAddr;

/// Something that can stand in a pool's `nodes` list.
pub trait Address {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
}
