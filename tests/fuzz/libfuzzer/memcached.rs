//! See `clearcoat_fuzz::memcached`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clearcoat_fuzz::memcached(data));
