//! Replays the fuzz corpora of this crate's parsers: the properties are those of the fuzz targets, file for file.

#[cfg(test)]
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;
#[cfg(test)]
#[path = "../../../fuzz/properties/fields.rs"]
mod fields;
#[cfg(test)]
#[path = "../../../fuzz/properties/packets.rs"]
mod packets;
#[cfg(test)]
#[path = "suite/pki.rs"]
mod pki;
#[cfg(test)]
#[path = "../../../fuzz/properties/shard.rs"]
mod shard;

#[test]
fn the_corpus_of_packets_holds() {
    assert!(corpus::replay("packets", packets::holds) >= 5);
}

#[test]
fn the_corpus_of_fields_holds() {
    assert!(corpus::replay("fields", fields::holds) >= 5);
}

#[test]
fn the_shard_of_the_properties_delivers_what_is_right() {
    let mut shard = shard::Shard::new(Vec::new());
    shard.send(shard::DEVICE, shard::CONNECT);
    shard.send(shard::DEVICE, b"\x30\x11\0\x0fdevices/dev-1/t");
    shard.send(shard::DEVICE, b"\x30\x12\0\x0fdevices/dev-1/tx");
    let topic = "devices/dev-1/t".to_owned();
    assert_eq!(shard.delivered(), [(topic.clone(), Vec::new()), (topic, b"x".to_vec())]);
}
