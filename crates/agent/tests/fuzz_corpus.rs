//! Replays the fuzz corpora of this crate's parsers: the properties are those of the fuzz targets, file for file.

#[cfg(test)]
#[path = "../../../fuzz/properties/bundle.rs"]
mod bundle;
#[cfg(test)]
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;

#[test]
fn the_corpus_of_bundle_holds() {
    assert!(corpus::replay("bundle", bundle::holds) >= 5);
}
