//! Replays the fuzz corpora of this crate's parsers: the properties are those of the fuzz targets, file for file.

#[cfg(test)]
#[path = "../../../fuzz/properties/config.rs"]
mod config;
#[cfg(test)]
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;

#[test]
fn the_corpus_of_config_holds() {
    assert!(corpus::replay("config", config::holds) >= 5);
}
