//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/csr.rs"]
mod csr;

libfuzzer_sys::fuzz_target!(|data: &[u8]| csr::holds(data));
