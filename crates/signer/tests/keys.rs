//! Keys: every kind is made, used, written and read back; every wrong text is named.
#![expect(clippy::unwrap_used, reason = "what cannot be made or read fails its test")]

use base64ct::{Base64, Encoding as _};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::der::Decode as _;
use signer::{FileKey, RawSigner as _, SignerError, SystemEntropy, csr};
use types::{Blame, Secret};
use x509::{Csr, KeyKind, SignatureAlgorithm};

const KINDS: [KeyKind; 6] = [
    KeyKind::P256,
    KeyKind::P384,
    KeyKind::Ed25519,
    KeyKind::Rsa { bits: 2048 },
    KeyKind::Rsa { bits: 3072 },
    KeyKind::Rsa { bits: 4096 },
];

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn text(secret: &Secret) -> &str {
    secret.expose_str().unwrap()
}

fn armour(label: &str, der: &[u8]) -> String {
    let base64 = Base64::encode_string(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The structure inside PKCS#8: SEC1 for EC keys, PKCS#1 for RSA.
fn inner(key: &FileKey) -> Vec<u8> {
    let pkcs8 = key.pkcs8_der();
    PrivateKeyInfoRef::from_der(pkcs8.expose()).unwrap().private_key.as_bytes().to_vec()
}

fn refused(text: &str, passphrase: Option<&Secret>) -> SignerError {
    FileKey::from_pem(text, passphrase).err().unwrap()
}

#[test]
fn every_kind_signs_what_its_public_key_verifies() {
    for kind in KINDS {
        let key = FileKey::generate(kind).unwrap();
        assert_eq!(key.kind(), kind);
        assert_eq!(x509::key_kind(key.spki_der()), Ok(kind));
        let signature = key.sign(b"message").unwrap();
        let check = |message: &[u8]| {
            x509::verify_signature(key.spki_der(), key.algorithm(), message, &signature).is_ok()
        };
        assert!(check(b"message"), "{kind:?}");
        assert!(!check(b"massage"), "{kind:?}");
    }
}

#[test]
fn every_kind_has_the_algorithm_of_its_kind() {
    let of = |kind| FileKey::generate(kind).unwrap().algorithm();
    assert_eq!(of(KeyKind::P256), SignatureAlgorithm::EcdsaP256Sha256);
    assert_eq!(of(KeyKind::P384), SignatureAlgorithm::EcdsaP384Sha384);
    assert_eq!(of(KeyKind::Ed25519), SignatureAlgorithm::Ed25519);
    assert_eq!(of(KeyKind::Rsa { bits: 2048 }), SignatureAlgorithm::RsaPkcs1Sha256);
}

#[test]
fn every_kind_survives_plain_and_encrypted_pem() {
    let passphrase = secret("correct horse");
    for kind in KINDS {
        let key = FileKey::generate(kind).unwrap();
        let plain = key.to_pem();
        assert!(text(&plain).starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let back = FileKey::from_pem(text(&plain), None).unwrap();
        assert_eq!((back.kind(), back.spki_der()), (kind, key.spki_der()));
        assert_eq!(back.pkcs8_der().expose(), key.pkcs8_der().expose());
        let sealed = key.to_encrypted_pem(&passphrase, &mut SystemEntropy).unwrap();
        assert!(sealed.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        let back = FileKey::from_pem(&sealed, Some(&passphrase)).unwrap();
        assert_eq!(back.spki_der(), key.spki_der());
    }
}

#[test]
fn ec_keys_are_read_from_sec1_with_and_without_a_block_of_parameters() {
    for (kind, parameters) in [(KeyKind::P256, "06082a8648ce3d030107"), (KeyKind::P384, "06052b81040022")] {
        let key = FileKey::generate(kind).unwrap();
        let sec1 = armour("EC PRIVATE KEY", &inner(&key));
        let with = armour("EC PARAMETERS", &types::unhex(parameters).unwrap()) + &sec1;
        for pem in [sec1, with] {
            let back = FileKey::from_pem(&pem, None).unwrap();
            assert_eq!((back.kind(), back.spki_der()), (kind, key.spki_der()));
        }
    }
}

#[test]
fn rsa_keys_are_read_from_pkcs1() {
    let key = FileKey::generate(KeyKind::Rsa { bits: 2048 }).unwrap();
    let back = FileKey::from_pem(&armour("RSA PRIVATE KEY", &inner(&key)), None).unwrap();
    assert_eq!(back.kind(), KeyKind::Rsa { bits: 2048 });
    assert_eq!(back.pkcs8_der().expose(), key.pkcs8_der().expose());
}

#[test]
fn a_key_beside_its_certificate_and_with_crlf_is_read() {
    let key = FileKey::generate(KeyKind::P256).unwrap();
    let pem = format!("Bag Attributes\n{}{}", armour("CERTIFICATE", b"any"), text(&key.to_pem()));
    let back = FileKey::from_pem(&pem.replace('\n', "\r\n"), None).unwrap();
    assert_eq!(back.spki_der(), key.spki_der());
}

#[test]
fn a_wrong_passphrase_is_a_clear_error() {
    let key = FileKey::generate(KeyKind::P256).unwrap();
    let sealed = key.to_encrypted_pem(&secret("right"), &mut SystemEntropy).unwrap();
    for wrong in ["wrong", "Right", "right ", ""] {
        assert_eq!(refused(&sealed, Some(&secret(wrong))), SignerError::WrongPassphrase, "{wrong:?}");
    }
    let error = refused(&sealed, None);
    assert_eq!(error, SignerError::PassphraseNeeded);
    assert_eq!(error.to_string(), "the private key is encrypted; a passphrase is needed");
    let empty = key.to_encrypted_pem(&secret(""), &mut SystemEntropy);
    assert_eq!(empty, Err(SignerError::EmptyPassphrase));
}

#[test]
fn two_encryptions_of_a_key_share_neither_salt_nor_text() {
    let key = FileKey::generate(KeyKind::P256).unwrap();
    let seal = || key.to_encrypted_pem(&secret("x"), &mut SystemEntropy).unwrap();
    assert_ne!(seal(), seal());
}

#[test]
fn a_text_without_exactly_one_key_is_named() {
    let key = FileKey::generate(KeyKind::P256).unwrap();
    let pem = text(&key.to_pem()).to_owned();
    assert_eq!(refused("", None).to_string(), "no private key found; the text has no PEM block");
    assert_eq!(
        refused(&armour("CERTIFICATE", b"any"), None).to_string(),
        "no private key found; the text has \"CERTIFICATE\""
    );
    assert_eq!(refused(&(pem.clone() + &pem), None), SignerError::SeveralKeys { count: 2 });
}

#[test]
fn a_broken_pem_block_is_named() {
    let key = FileKey::generate(KeyKind::P256).unwrap();
    let pem = text(&key.to_pem()).to_owned();
    let cases = [
        (pem.replace("-----END PRIVATE KEY-----", ""), "PEM block \"PRIVATE KEY\": the END line is missing"),
        (pem.replacen("\nM", "\n!", 1), "PEM block \"PRIVATE KEY\": no base64"),
        ("-----BEGIN PRIV".to_owned(), "PEM block \"\": the BEGIN line is cut off"),
    ];
    for (pem, message) in cases {
        let error = refused(&pem, None);
        assert_eq!((error.to_string().as_str(), error.code()), (message, "key.bad_pem"));
        assert_eq!(error.blame(), Blame::Operator);
    }
}

#[test]
fn structures_that_are_no_key_are_named() {
    for label in ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY"] {
        let error = refused(&armour(label, &[0x30, 0x00]), Some(&secret("x")));
        assert_eq!(error.code(), "key.malformed", "{label}");
    }
    let error = refused(&armour("EC PRIVATE KEY", &[0x30, 0x00]), None);
    assert_eq!(error.code(), "key.unsupported");
    let error = refused(&armour("DSA PRIVATE KEY", &[0x30, 0x00]), None);
    assert_eq!(
        error.to_string(),
        "private key: PEM label \"DSA PRIVATE KEY\"; allowed P-256, P-384, Ed25519, RSA of 2048 to 4096 bits"
    );
}

#[test]
fn a_key_whose_halves_do_not_fit_is_refused() {
    let (key, other) = (FileKey::generate(KeyKind::P256).unwrap(), FileKey::generate(KeyKind::P256).unwrap());
    let mut der = key.pkcs8_der().expose().to_vec();
    let public = other.spki_der()[other.spki_der().len() - 64..].to_vec();
    let at = der.len() - 64;
    assert_eq!(der[at..], key.spki_der()[key.spki_der().len() - 64..]);
    der[at..].copy_from_slice(&public);
    assert_eq!(FileKey::from_pkcs8_der(&der).err().unwrap().code(), "key.malformed");
}

#[test]
fn trailing_bytes_after_a_key_are_refused() {
    let key = FileKey::generate(KeyKind::Ed25519).unwrap();
    let mut der = key.pkcs8_der().expose().to_vec();
    der.push(0);
    assert_eq!(FileKey::from_pkcs8_der(&der).err().unwrap().code(), "key.malformed");
}

#[test]
fn curves_and_algorithms_that_we_do_not_use_are_named() {
    let key = FileKey::generate(KeyKind::P256).unwrap();
    let swap = |from: &[u8], to: &[u8]| {
        let mut der = key.pkcs8_der().expose().to_vec();
        let at = der.windows(from.len()).position(|window| window == from).unwrap();
        der[at..at + to.len()].copy_from_slice(to);
        FileKey::from_pkcs8_der(&der).err().unwrap().to_string()
    };
    // prime256v1 becomes prime239v3, id-ecPublicKey becomes an arc that means nothing.
    let curve = swap(
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x06],
    );
    assert!(curve.starts_with("private key: EC key on curve 1.2.840.10045.3.1.6; allowed"), "{curve}");
    let algorithm =
        swap(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x05]);
    assert!(algorithm.starts_with("private key: algorithm 1.2.840.10045.2.5; allowed"), "{algorithm}");
}

#[test]
fn a_size_of_rsa_key_that_we_do_not_make_is_named() {
    for bits in [0, 1024, 2049, 8192] {
        let error = FileKey::generate(KeyKind::Rsa { bits }).err().unwrap();
        assert_eq!(error, SignerError::KeySize { bits });
    }
}

#[test]
fn a_request_proves_the_key_and_carries_the_name() {
    for kind in KINDS {
        let key = FileKey::generate(kind).unwrap();
        let request = Csr::parse_der(&csr(&key, "pump-7").unwrap()).unwrap();
        assert_eq!(request.common_name(), Some("pump-7"));
        assert_eq!(request.spki_der(), key.spki_der());
        assert_eq!(request.key_kind(), kind);
    }
}
