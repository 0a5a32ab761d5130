//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/device_id.rs"]
mod device_id;

libfuzzer_sys::fuzz_target!(|data: &[u8]| device_id::holds(data));
