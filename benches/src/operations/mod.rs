//! Operations by name: made ready once, then called over and over, each call one operation.
//!
//! Shared by the micro benches, which time them, and by `instructions/`, which counts their instructions; so a name means
//! the same in both. What an operation returns is for the caller to keep the compiler from leaving out. Not here:
//! benches whose input is used up or varies, which make it themselves; only [`store::purge_tag`] uses up what it was given.

pub mod serve;
pub mod store;
