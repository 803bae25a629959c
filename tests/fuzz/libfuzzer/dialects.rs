//! See `clearcoat_fuzz::dialects`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clearcoat_fuzz::dialects(data));
