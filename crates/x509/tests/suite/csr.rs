//! Certification requests: those that openssl makes, odd ones, and our own.

use crate::support::Key;
use x509::{CSR_BYTES_MAX, Csr, KeyKind, X509Error, csr_info, pem};

macro_rules! fixture {
    ($name:literal) => {
        ($name, include_str!(concat!("../fixtures/csr/", $name, ".pem")))
    };
}

#[test]
fn every_accepted_combination_of_key_and_digest_proves_possession() {
    use KeyKind::{Ed25519, P256, P384, Rsa};
    for ((name, text), kind) in [
        (fixture!("p256-sha256"), P256),
        (fixture!("p256-sha384"), P256),
        (fixture!("p256-sha512"), P256),
        (fixture!("p384-sha256"), P384),
        (fixture!("p384-sha384"), P384),
        (fixture!("ed25519"), Ed25519),
        (fixture!("rsa2048-sha256"), Rsa { bits: 2048 }),
        (fixture!("rsa2048-sha384"), Rsa { bits: 2048 }),
        (fixture!("rsa2048-sha512"), Rsa { bits: 2048 }),
        (fixture!("rsa2048-pss-sha256"), Rsa { bits: 2048 }),
        (fixture!("rsa2048-pss-sha384"), Rsa { bits: 2048 }),
        (fixture!("rsa2048-pss-sha512"), Rsa { bits: 2048 }),
        (fixture!("rsa3072"), Rsa { bits: 3072 }),
        (fixture!("rsa4096"), Rsa { bits: 4096 }),
        (fixture!("new-header"), P256),
        (fixture!("challenge-password"), P256),
        (fixture!("unsorted-attributes"), P256),
        (fixture!("asks-for-ca"), P256),
        (fixture!("bmp-name"), P256),
    ] {
        let csr = Csr::parse_pem(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((csr.common_name(), csr.key_kind()), (Some("pump-7"), kind), "{name}");
        assert_eq!(csr.spki_hash(), x509::spki_hash(csr.spki_der()), "{name}");
        assert_eq!(Csr::parse_pem(&csr.to_pem()).unwrap().der(), csr.der(), "{name}");
    }
}

#[test]
fn a_p384_key_with_a_sha256_signature_keeps_its_curve() {
    // rcgen takes the curve from the signature's identifier and writes a broken certificate (rustls/rcgen#448).
    let csr = Csr::parse_pem(fixture!("p384-sha256").1).unwrap();
    assert_eq!(x509::key_kind(csr.spki_der()), Ok(KeyKind::P384));
    assert_eq!(csr.spki_der().len(), 120);
}

#[test]
fn every_refused_request_says_what_is_wrong_with_it() {
    let unsupported_key = "; allowed P-256, P-384, Ed25519, RSA of 2048 to 4096 bits";
    let unsupported = "; allowed SHA-256, SHA-384 or SHA-512 with the key's own algorithm";
    for ((name, text), message, code) in [
        (
            fixture!("p521-sha512"),
            format!("unsupported key: curve P-521{unsupported_key}"),
            "x509.unsupported_key",
        ),
        (
            fixture!("secp256k1"),
            format!("unsupported key: curve secp256k1{unsupported_key}"),
            "x509.unsupported_key",
        ),
        (
            fixture!("explicit-curve"),
            format!("unsupported key: curve with explicit parameters{unsupported_key}"),
            "x509.unsupported_key",
        ),
        (fixture!("ed448"), format!("unsupported key: Ed448{unsupported_key}"), "x509.unsupported_key"),
        (
            fixture!("compressed-point"),
            "malformed public key: elliptic-curve point is not in the uncompressed form".to_owned(),
            "x509.malformed",
        ),
        (
            fixture!("p256-sha1"),
            format!("unsupported signature: SHA-1{unsupported}"),
            "x509.unsupported_signature",
        ),
        (
            fixture!("rsa2048-sha1"),
            format!("unsupported signature: SHA-1{unsupported}"),
            "x509.unsupported_signature",
        ),
        (
            fixture!("rsa2048-pss-long-salt"),
            format!(
                "unsupported signature: RSA-PSS with these parameters (the salt must be as long as the digest){unsupported}"
            ),
            "x509.unsupported_signature",
        ),
        (fixture!("rsa1024"), "rsa key of 1024 bits; allowed 2048 to 4096".to_owned(), "x509.weak_key"),
        (fixture!("rsa4104"), "rsa key of 4104 bits; allowed 2048 to 4096".to_owned(), "x509.weak_key"),
        (fixture!("foreign-signature"), "signature of the request is wrong".to_owned(), "x509.bad_signature"),
        (
            fixture!("two-names"),
            "request holds 2 common names; allowed one or none".to_owned(),
            "x509.several_names",
        ),
        (fixture!("version-2"), "malformed request: version 1".to_owned(), "x509.malformed"),
    ] {
        let error = Csr::parse_pem(text).expect_err(name);
        assert_eq!((error.to_string(), error.code()), (message, code), "{name}");
    }
    let absent = Csr::parse_pem(fixture!("attributes-absent").1).unwrap_err();
    assert_eq!(absent.code(), "x509.malformed");
}

#[test]
fn a_name_that_is_absent_or_no_plain_text_is_never_taken_for_an_id() {
    assert_eq!(Csr::parse_pem(fixture!("empty-subject").1).unwrap().common_name(), None);
    assert_eq!(Csr::parse_pem(fixture!("no-common-name").1).unwrap().common_name(), None);
    assert_eq!(Csr::parse_pem(fixture!("t61-name").1).unwrap().common_name(), Some("p\u{fffd}mp"));
    assert_eq!(Csr::parse_pem(fixture!("nul-in-name").1).unwrap().common_name(), Some("pump-7\0.evil"));
}

#[test]
fn stray_bytes_behind_a_request_are_refused() {
    let mut der = Csr::parse_pem(fixture!("p256-sha256").1).unwrap().der().to_vec();
    der.extend_from_slice(b"trailer");
    assert_eq!(Csr::parse_der(&der).unwrap_err(), X509Error::Trailing { what: "request", len: 7 });
}

#[test]
fn a_request_at_the_limit_is_read_and_one_byte_more_is_not() {
    let error = Csr::parse_der(&vec![0; CSR_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(error.to_string(), "request of 16385 bytes; limit 16384");
    assert_eq!(Csr::parse_der(&vec![0; CSR_BYTES_MAX]).unwrap_err().code(), "x509.malformed");
    let error = Csr::parse_pem(&"x".repeat(2 * CSR_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(error.code(), "x509.too_large");
}

#[test]
fn a_request_comes_alone_and_under_its_own_label() {
    let text = fixture!("p256-sha256").1;
    let twice = format!("{text}{text}");
    assert_eq!(
        Csr::parse_pem(&twice).unwrap_err().to_string(),
        "pem: 2 blocks; expected one \"CERTIFICATE REQUEST\""
    );
    let relabelled = text.replace("CERTIFICATE REQUEST", "PRIVATE KEY");
    assert_eq!(
        Csr::parse_pem(&relabelled).unwrap_err().to_string(),
        "pem: block is \"PRIVATE KEY\"; expected \"CERTIFICATE REQUEST\""
    );
}

#[test]
fn our_own_requests_are_read_back_for_every_kind_of_key() {
    for key in Key::all() {
        let csr = Csr::parse_der(&key.csr("pump-7")).unwrap();
        assert_eq!(csr.common_name(), Some("pump-7"));
        assert_eq!(csr.spki_der(), key.spki());
        assert_eq!(csr.key_kind(), crate::support::kind(&key));
    }
}

#[test]
fn a_request_without_a_usable_name_or_key_is_not_even_built() {
    let key = Key::p256();
    assert_eq!(csr_info("", &key.spki()).unwrap_err().code(), "x509.bad_field");
    assert_eq!(csr_info(&"x".repeat(65), &key.spki()).unwrap_err().code(), "x509.bad_field");
    assert_eq!(csr_info("pump-7", &[0x30, 0]).unwrap_err().code(), "x509.malformed");
}

#[test]
fn every_truncation_and_every_flipped_byte_of_a_request_is_refused_without_a_panic() {
    for (name, text) in [
        fixture!("p256-sha256"),
        fixture!("asks-for-ca"),
        fixture!("unsorted-attributes"),
        fixture!("ed25519"),
    ] {
        let der = Csr::parse_pem(text).unwrap().der().to_vec();
        for len in 0..der.len() {
            assert!(Csr::parse_der(&der[..len]).is_err(), "{name} cut to {len}");
        }
        for at in 0..der.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut flipped = der.clone();
                flipped[at] ^= mask;
                assert!(Csr::parse_der(&flipped).is_err(), "{name} byte {at} ^ {mask:#x}");
            }
        }
    }
}

#[test]
fn text_with_openssl_comments_around_the_block_is_read() {
    let text = format!("Certificate Request:\n  Data:\n{}", fixture!("p256-sha256").1);
    assert_eq!(Csr::parse_pem(&text).unwrap().common_name(), Some("pump-7"));
    assert_eq!(pem::decode(&text).unwrap().len(), 1);
}
