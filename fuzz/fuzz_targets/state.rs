#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| k1s::properties::check("state", data));
