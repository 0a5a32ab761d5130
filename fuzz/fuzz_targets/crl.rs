//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/crl.rs"]
mod crl;

libfuzzer_sys::fuzz_target!(|data: &[u8]| crl::holds(data));
