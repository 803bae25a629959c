//! What the edge tells about itself: counters, Prometheus metrics, liveness, readiness, a status document, logs.
//!
//! This room only looks, with one exception: [`nodes`] tells a pool what the operator wants of a node. It owns the
//! [`Counters`] that the data plane increments and the listener on which everything can be read; nodes, the
//! cache and readiness are seen through [`Observed`], which the assembly of the running parts implements. Nothing here can
//! fail a request: increments are plain atomics, and a scrape reads without a lock that the data plane could want.
//!
//! Reading order: [`kinds`], [`counters`], [`view`], [`metrics`], [`status`] with [`window`], [`why`], [`nodes`],
//! [`sessions`], [`purging`], [`tailing`], [`routes`] with [`guard`], [`server`], [`http1`], [`logs`].

pub(crate) mod configurations;
pub(crate) mod counters;
mod guard;
pub(crate) mod http1;
pub(crate) mod kinds;
pub(crate) mod logs;
mod metrics;
pub(crate) mod nodes;
pub(crate) mod purging;
mod routes;
pub(crate) mod server;
pub(crate) mod sessions;
mod status;
mod tailing;
mod totals;
pub(crate) mod view;
pub(crate) mod why;
mod window;

pub(crate) use counters::Counters;
pub(crate) use kinds::{
    EsiTrouble, FetchResult, Forward, Handshake, Limit, ProxyHeader, PurgeKind, Renewal, RequestResult,
    Towards,
};
pub(crate) use nodes::Wish;
pub(crate) use routes::Extra;
pub(crate) use server::{AdminService, AdminSocket, Settings};
pub(crate) use view::{
    CacheView, EncodingView, Failures, NodeState, NodeView, Observed, PoolView, Readiness,
};
