//! Replays the fuzz corpora of this crate's parsers: the properties are those of the fuzz targets, file for file.

#[cfg(test)]
#[path = "../../../fuzz/properties/certificate.rs"]
mod certificate;
#[cfg(test)]
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;
#[cfg(test)]
#[path = "../../../fuzz/properties/crl.rs"]
mod crl;
#[cfg(test)]
#[path = "../../../fuzz/properties/csr.rs"]
mod csr;

#[test]
fn the_corpus_of_certificate_holds() {
    assert!(corpus::replay("certificate", certificate::holds) >= 5);
}

#[test]
fn the_corpus_of_csr_holds() {
    assert!(corpus::replay("csr", csr::holds) >= 5);
}

#[test]
fn the_corpus_of_crl_holds() {
    assert!(corpus::replay("crl", crl::holds) >= 5);
}
