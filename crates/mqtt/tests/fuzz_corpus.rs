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
