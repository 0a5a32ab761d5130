//! Gives libFuzzer's inputs to the property of the same name.
#![no_main]

#[path = "../properties/packets.rs"]
mod packets;
#[path = "../../crates/mqtt/tests/suite/pki.rs"]
mod pki;
#[path = "../properties/shard.rs"]
mod shard;

libfuzzer_sys::fuzz_target!(|data: &[u8]| packets::holds(data));
