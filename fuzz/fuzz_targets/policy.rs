//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/policy.rs"]
mod policy;

libfuzzer_sys::fuzz_target!(|data: &[u8]| policy::holds(data));
