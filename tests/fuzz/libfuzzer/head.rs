//! See `clearcoat_fuzz::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clearcoat_fuzz::head(data));
