//! The memcached servers: connections to them, what is said there, and which of them are up.
//!
//! Reading order: [`wire`] what is said · [`link`] a connection · [`server`] one server · [`watch`] finding out how it is.

pub(crate) mod link;
pub(crate) mod server;
pub(crate) mod watch;
pub(crate) mod wire;

pub(crate) use link::Address;
pub(crate) use server::{Away, Server, ServerSettings};
