//! End-to-end suite: each test starts the real binary before nodes of its own and tells a story over the wire.
//!
//! Tests share nothing and run in any order. Where time has to pass, a [`Gate`](clearcoat_tests::Gate) or a page that claims an age
//! stands in for it. `tests/run WORDS` runs the stories whose names contain the words.

#![allow(clippy::unwrap_used)]

mod abandoned;
mod access_log;
mod announcing;
mod balance;
mod bans;
mod bounds;
mod browser;
mod caching;
mod chained;
mod client_auth;
mod coded;
mod cold_ranges;
mod collapsing;
mod compression;
mod config;
mod context;
mod corpus;
mod crowding;
mod deception;
mod decoding;
mod endurance;
mod esi;
mod failover;
mod frames;
mod framing;
mod gate;
mod http2;
mod interim;
mod isolation;
mod keys;
mod lifetimes;
mod masking;
mod matrix;
mod memcached;
mod memory;
mod observing;
mod peers;
mod pins;
mod poisoning;
mod privileges;
mod protocol;
mod purge;
mod purge_api;
mod refilling;
mod refresh;
mod reloading;
mod request_ids;
mod revalidation;
mod routing;
mod rules;
mod sessions;
mod shutdown;
mod slowness;
mod streaming;
mod streams;
mod submitting;
mod tail;
mod telling;
mod tls;
mod tls_offers;
mod token;
mod told;
mod tunnels;
mod why;
