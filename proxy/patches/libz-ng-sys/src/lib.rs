//! Stands in for the crate of the same name, which can only be built with cmake.
//!
//! pingora-core asks flate2 for its `zlib-ng` backend. flate2 uses the same binding for `zlib-ng` and for stock
//! zlib, so the names of `libz-sys`, whose C source needs nothing but a C compiler, fit as they are. Clearcoat does
//! not use pingora's compression; nothing on a hot path goes through here.

pub use libz_sys::*;
