//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/body.rs"]
mod body;
#[path = "../../crates/admin/tests/common/mod.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::holds(data));
