//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/bundle.rs"]
mod bundle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bundle::holds(data));
