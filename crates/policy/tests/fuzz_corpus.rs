//! Replays the fuzz corpora of this crate's parsers: the properties are those of the fuzz targets, file for file.

#[cfg(test)]
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;
#[cfg(test)]
#[path = "../../../fuzz/properties/policy.rs"]
mod policy;

#[test]
fn the_corpus_of_policy_holds() {
    assert!(corpus::replay("policy", policy::holds) >= 5);
}
