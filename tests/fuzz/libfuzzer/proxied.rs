//! See `clearcoat_fuzz::proxied`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clearcoat_fuzz::proxied(data));
