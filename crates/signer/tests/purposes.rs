//! Keys of one purpose: what one signs, nobody can take for another's.
#![expect(clippy::unwrap_used, reason = "what cannot be made or read fails its test")]

use audit::{GENESIS, chain, verify};
use signer::{BundleKey, CheckpointKey, FileKey, IssuingKey, RawSigner as _, bundle_message};
use types::Wall;
use x509::KeyKind;

fn key() -> FileKey {
    FileKey::generate(KeyKind::P256).unwrap()
}

#[test]
fn an_issuing_key_is_known_by_its_public_key() {
    let key = key();
    let id = x509::issuer_id(key.spki_der());
    let issuing = IssuingKey::new(key);
    assert_eq!(issuing.issuer(), id);
    let signature = issuing.sign(b"tbs").unwrap();
    assert_eq!(x509::verify_signature(issuing.spki_der(), issuing.algorithm(), b"tbs", &signature), Ok(()));
}

#[test]
fn a_checkpoint_seals_the_log_for_the_key_that_made_it_only() {
    let (ours, other) = (CheckpointKey::new(key()), CheckpointKey::new(key()));
    let first = chain(GENESIS, 1, Wall(5), "{}");
    let second = chain(first.hash, 2, Wall(6), "{}");
    let mark = ours.checkpoint(2, second.hash, Wall(7)).unwrap();
    let lines = [first, second];
    let check = |key: &CheckpointKey| {
        verify(lines.iter().cloned(), std::slice::from_ref(&mark), |message, signature| {
            key.is_signed(message, signature)
        })
    };
    assert_eq!(check(&ours).unwrap().signed_through, 2);
    assert_eq!(check(&other).unwrap_err().code(), "log.bad_signature");
    assert_eq!(x509::key_kind(ours.spki_der()), Ok(KeyKind::P256));
}

#[test]
fn a_bundle_signature_covers_a_tag_of_its_own() {
    let bundle = BundleKey::new(key());
    let signature = bundle.sign(b"content").unwrap();
    let check = |message: &[u8]| {
        x509::verify_signature(bundle.spki_der(), bundle.algorithm(), message, &signature).is_ok()
    };
    assert!(check(&bundle_message(b"content")));
    assert!(!check(b"content"));
    assert_eq!(bundle_message(b"x"), b"bailiwick ca bundle v1\0x");
}
