//! Replays the fuzz corpora of this crate's parsers: the properties are those of the fuzz targets, file for file.

#[cfg(test)]
#[path = "../../../fuzz/properties/body.rs"]
mod body;
#[cfg(test)]
mod common;
#[cfg(test)]
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;

#[test]
fn the_corpus_of_body_holds() {
    assert!(corpus::replay("body", body::holds) >= 5);
}
