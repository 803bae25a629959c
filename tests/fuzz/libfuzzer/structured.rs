//! See `clearcoat_fuzz::structured`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clearcoat_fuzz::structured(data));
