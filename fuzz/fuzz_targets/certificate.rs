//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/certificate.rs"]
mod certificate;

libfuzzer_sys::fuzz_target!(|data: &[u8]| certificate::holds(data));
