//! Replays the fuzz corpora of this crate's parsers: the properties are those of the fuzz targets, file for file.

#[cfg(test)]
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;
#[cfg(test)]
#[path = "../../../fuzz/properties/device_id.rs"]
mod device_id;
#[cfg(test)]
#[path = "../../../fuzz/properties/filter.rs"]
mod filter;

#[test]
fn the_corpus_of_filter_holds() {
    assert!(corpus::replay("filter", filter::holds) >= 5);
}

#[test]
fn the_corpus_of_device_id_holds() {
    assert!(corpus::replay("device_id", device_id::holds) >= 5);
}
