//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../../crates/enroll/tests/common/mod.rs"]
mod common;
#[path = "../properties/provision.rs"]
mod provision;

libfuzzer_sys::fuzz_target!(|data: &[u8]| provision::holds(data));
