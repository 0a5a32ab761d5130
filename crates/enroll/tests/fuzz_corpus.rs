//! Replays the fuzz corpora of this crate's parsers: the properties are those of the fuzz targets, file for file.

#[cfg(test)]
mod common;
#[cfg(test)]
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;
#[cfg(test)]
#[path = "../../../fuzz/properties/provision.rs"]
mod provision;

#[test]
fn the_corpus_of_provision_holds() {
    assert!(corpus::replay("provision", provision::holds) >= 5);
}
