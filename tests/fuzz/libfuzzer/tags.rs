//! See `clearcoat_fuzz::tags`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clearcoat_fuzz::tags(data));
