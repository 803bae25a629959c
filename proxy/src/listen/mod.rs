//! From the listening socket to requests: connections, framing, deadlines.
//!
//! Connections are accepted here ([`service`]) and run by our own loop ([`lane::Lane`]), because hits are answered from
//! prepared bytes and need neither pingora's stream nor its HTTP session. What the pass road gets is a stream of pingora's kind all the same.

pub(crate) mod answer;
pub(crate) mod chunks;
pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod crowd;
pub(crate) mod deadline;
pub(crate) mod doors;
mod draining;
mod greet;
pub(crate) mod head;
pub(crate) mod http2;
pub(crate) mod lane;
mod layer;
pub(crate) mod pace;
mod page;
mod part;
mod plain;
pub(crate) mod proxied;
pub(crate) mod recorded;
mod rewound;
pub(crate) mod service;
mod target;
pub(crate) mod tls;
mod tunnel;
pub(crate) mod unix;
