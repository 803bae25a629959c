//! Sessions that outlive the servers that hold them.
//!
//! *Replicating*: web nodes keep their sessions at an endpoint that speaks memcached's protocols ([`endpoint`]), and behind it each is
//! kept on several memcached servers ([`replicas`]).
//!
//! *Pinning*: each session stays at one node ([`pin`]).
//!
//! Reading order: [`endpoint`] what web nodes say · [`replicas`] what becomes of it · [`value`], [`version`] what stands in the servers ·
//! [`place`], [`key`] on which of them · [`servers`] talking to them.

pub(crate) mod endpoint;
pub(crate) mod key;
pub(crate) mod pin;
pub(crate) mod place;
pub(crate) mod replicas;
pub(crate) mod servers;
pub(crate) mod value;
pub(crate) mod version;
