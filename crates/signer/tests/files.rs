//! Key files: 0600, whole or absent, never overwritten.
#![expect(clippy::unwrap_used, reason = "what cannot be made or read fails its test")]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use signer::{FileKey, RawSigner as _, SignerError, SystemEntropy};
use types::{Blame, Secret};
use x509::KeyKind;

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn key() -> FileKey {
    FileKey::generate(KeyKind::P256).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_key_file_is_read_back_and_only_its_owner_may() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, sealed) = (folder.path().join("plain.pem"), folder.path().join("sealed.pem"));
    let (key, passphrase) = (key(), secret("unlock"));
    key.save_new(&plain, None, &mut SystemEntropy).unwrap();
    key.save_new(&sealed, Some(&passphrase), &mut SystemEntropy).unwrap();
    for path in [&plain, &sealed] {
        let mode = fs_err::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", path.display());
        assert_eq!(FileKey::load(path, Some(&passphrase)).unwrap().spki_der(), key.spki_der());
    }
    assert!(fs_err::read_to_string(&sealed).unwrap().contains("ENCRYPTED"));
    assert_eq!(names(folder.path()), ["plain.pem", "sealed.pem"]);
}

#[test]
fn a_key_file_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.key.pem");
    let first = key();
    first.save_new(&path, None, &mut SystemEntropy).unwrap();
    let error = key().save_new(&path, None, &mut SystemEntropy).unwrap_err();
    assert_eq!(error, SignerError::Exists { path: path.display().to_string() });
    assert_eq!(error.code(), "key.exists");
    assert_eq!(FileKey::load(&path, None).unwrap().spki_der(), first.spki_der());
    assert_eq!(names(folder.path()), ["device.key.pem"]);
}

#[test]
fn a_link_to_nowhere_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("elsewhere"), folder.path().join("key.pem"));
    symlink(&target, &link).unwrap();
    let error = key().save_new(&link, None, &mut SystemEntropy).unwrap_err();
    assert_eq!(error.code(), "key.exists");
    assert_eq!(names(folder.path()), ["key.pem"]);
}

#[test]
fn what_a_loss_of_power_left_behind_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join(".key.pem.partial"), "-----BEGIN PRIV").unwrap();
    let path = folder.path().join("key.pem");
    key().save_new(&path, None, &mut SystemEntropy).unwrap();
    assert!(FileKey::load(&path, None).is_ok());
    assert_eq!(names(folder.path()), ["key.pem"]);
    // Power lost between the link and the removal: the key stands, its second name goes.
    fs_err::hard_link(&path, folder.path().join(".key.pem.partial")).unwrap();
    assert_eq!(key().save_new(&path, None, &mut SystemEntropy).unwrap_err().code(), "key.exists");
    assert!(FileKey::load(&path, None).is_ok());
    assert_eq!(names(folder.path()), ["key.pem"]);
}

#[test]
fn an_empty_passphrase_leaves_no_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let error = key().save_new(&folder.path().join("k"), Some(&secret("")), &mut SystemEntropy).unwrap_err();
    assert_eq!(error, SignerError::EmptyPassphrase);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_missing_folder_and_a_missing_file_name_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no").join("key.pem");
    for error in [
        key().save_new(&path, None, &mut SystemEntropy).unwrap_err(),
        FileKey::load(&path, None).err().unwrap(),
    ] {
        assert_eq!((error.code(), error.blame()), ("key.io", Blame::Us));
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_file_that_is_too_large_or_no_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    fs_err::write(&path, vec![b'a'; 65_537]).unwrap();
    let error = FileKey::load(&path, None).err().unwrap();
    assert_eq!(error, SignerError::TooLarge { path: path.display().to_string(), bytes: 65_537 });
    fs_err::write(&path, vec![b'a'; 65_536]).unwrap();
    assert_eq!(FileKey::load(&path, None).err().unwrap().code(), "key.none");
    fs_err::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(FileKey::load(&path, None).err().unwrap().code(), "key.none");
}
