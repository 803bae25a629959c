//! See `clearcoat_fuzz::esi`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clearcoat_fuzz::esi(data));
