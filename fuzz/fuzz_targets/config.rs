//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::holds(data));
