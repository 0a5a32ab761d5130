//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/filter.rs"]
mod filter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| filter::holds(data));
