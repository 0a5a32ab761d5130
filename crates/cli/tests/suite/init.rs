//! `init`: all or nothing, private files, and never over something that is there.

use std::os::unix::fs::MetadataExt;

use tempfile::TempDir;

use crate::site::*;

fn init(folder: &TempDir, dir: &str) -> std::process::Command {
    let mut command = bailiwick();
    command.current_dir(folder.path()).args(["--dir", dir, "init", "--host", "localhost"]).args(FREE_PORTS);
    command
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs_err::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_whose_path_is_too_long_for_the_socket_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let longest = 107 - "/bailiwick.sock".len() - "/".len() - folder.path().as_os_str().len();
    ran(&mut init(&folder, &"x".repeat(longest + 1)))
        .refused(1, &["bailiwick.sock: 108 bytes; a socket's path has 107 at most"]);
    assert_eq!(names(&folder), Vec::<String>::new());
    ran(&mut init(&folder, &"x".repeat(longest))).done();
}

#[test]
fn every_folder_is_0700_and_every_key_and_the_unlock_secret_are_0600() {
    let site = Site::new();
    let all = picture(&site.dir);
    let mut private = 0;
    for (path, mode, bytes) in &all {
        if path.is_dir() {
            assert_eq!(*mode, 0o700, "{}", path.display());
        }
        let secret =
            bytes.windows(11).any(|window| window == b"PRIVATE KEY") || path.ends_with("unlock.secret");
        if secret || path.ends_with("bailiwick.db") {
            private += 1;
            assert_eq!(*mode, 0o600, "{}", path.display());
        }
    }
    // Root, three sub-CAs, server, checkpoint, bundle, the operator's key, the unlock secret, the database.
    assert_eq!(private, 10);
    assert_eq!(fs_err::metadata(&site.dir).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn every_online_key_is_encrypted_and_the_passphrase_is_nowhere() {
    let site = Site::new();
    for (path, _, bytes) in picture(&site.dir) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(PASSPHRASE), "{}", path.display());
        if text.contains("PRIVATE KEY") && !path.ends_with("operator/admin.key") {
            assert!(text.contains("BEGIN ENCRYPTED PRIVATE KEY"), "{}", path.display());
        }
    }
}

#[test]
fn a_second_init_is_refused_and_changes_nothing() {
    let site = Site::new();
    let before = picture(&site.dir);
    let again = site.run(&["init", "--host", "other.example"]);
    again.refused(1, &["holds an installation already; nothing was changed"]);
    assert_eq!(picture(&site.dir), before);
}

#[test]
fn a_folder_with_other_files_is_refused_and_keeps_them() {
    let folder = TempDir::new().unwrap();
    fs_err::create_dir(folder.path().join("home")).unwrap();
    fs_err::write(folder.path().join("home/letter.txt"), "dear").unwrap();
    ran(&mut init(&folder, "home")).refused(1, &["home", "nothing was changed"]);
    assert_eq!(fs_err::read_to_string(folder.path().join("home/letter.txt")).unwrap(), "dear");
    assert_eq!(names(&folder), ["home"]);
}

#[test]
fn an_init_that_fails_half_way_leaves_nothing() {
    // The name passes the configuration and is refused by the certificate of the server, when all
    // keys are made already.
    for host in ["bad host", "-", "a..b", ""] {
        let folder = TempDir::new().unwrap();
        let mut command = bailiwick();
        command.current_dir(folder.path()).args(["--dir", "fleet", "init", "--host", host]);
        let ran = ran(&mut command);
        assert_eq!(ran.code, 1, "{host:?}: {ran:?}");
        assert_eq!(names(&folder), Vec::<String>::new(), "{host:?}");
    }
    let folder = TempDir::new().unwrap();
    let url = ["--public-url", "https://broker.example"];
    ran(init(&folder, "fleet").args(url)).refused(1, &["public_url \"https://broker.example\"", "http://"]);
    assert_eq!(names(&folder), Vec::<String>::new());
}

#[test]
fn an_init_that_failed_in_a_folder_that_was_there_leaves_it_there_and_empty() {
    let folder = TempDir::new().unwrap();
    fs_err::create_dir(folder.path().join("fleet")).unwrap();
    let mut command = bailiwick();
    command.current_dir(folder.path()).args(["--dir", "fleet", "init", "--host", "bad host"]);
    assert_eq!(ran(&mut command).code, 1);
    assert_eq!(names(&folder), ["fleet"]);
    assert_eq!(picture(folder.path()).len(), 1);
}

#[test]
fn a_missing_or_short_passphrase_is_a_matter_of_usage_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let missing = ran(init(&folder, "fleet").env_remove("BAILIWICK_ROOT_PASSPHRASE"));
    missing.refused(2, &["the root key needs a passphrase", "hint: give --root-passphrase-file"]);
    let short = ran(init(&folder, "fleet").env("BAILIWICK_ROOT_PASSPHRASE", "1234567"));
    short.refused(2, &["the passphrase has 7 bytes; at least 8 are needed"]);
    assert_eq!(names(&folder), Vec::<String>::new());
}

#[test]
fn the_passphrase_may_come_from_a_file_and_opens_the_root_key() {
    let folder = TempDir::new().unwrap();
    fs_err::write(folder.path().join("pass"), "from a file, 8 bytes and more\n").unwrap();
    let mut command = init(&folder, "fleet");
    command.env_remove("BAILIWICK_ROOT_PASSPHRASE").args(["--root-passphrase-file", "pass"]);
    ran(&mut command).done();
    let key = folder.path().join("fleet/root/root.key.pem");
    let open = |text: &str| signer::FileKey::load(&key, Some(&types::Secret::new(text.as_bytes().to_vec())));
    assert!(open("from a file, 8 bytes and more").is_ok());
    assert!(open(PASSPHRASE).is_err());
}

#[test]
fn the_current_folder_can_be_made_an_installation() {
    let folder = TempDir::new().unwrap();
    ran(&mut init(&folder, ".")).done();
    assert!(names(&folder).contains(&"bailiwick.toml".to_owned()));
    let mut check = bailiwick();
    ran(check.current_dir(folder.path()).args(["--dir", ".", "serve", "--check"])).done();
}

#[test]
fn an_empty_folder_that_is_there_is_filled_and_not_replaced() {
    // A mounted volume can't be removed and put back.
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("fleet");
    fs_err::create_dir(&dir).unwrap();
    let before = fs_err::metadata(&dir).unwrap().ino();
    ran(&mut init(&folder, "fleet")).done();
    let after = fs_err::metadata(&dir).unwrap();
    assert_eq!(after.ino(), before);
    assert_eq!(after.mode() & 0o777, 0o700);
    assert_eq!(names(&folder), ["fleet"]);
    assert!(!picture(&dir).iter().any(|(path, ..)| path.to_string_lossy().contains("making")));
}

#[test]
fn what_init_prints_as_json_is_where_things_are() {
    let folder = TempDir::new().unwrap();
    let made = ran(init(&folder, "fleet").arg("--json")).done().json();
    let root = fs_err::read_to_string(folder.path().join("fleet/ca/root.crt")).unwrap();
    let root = x509::Certificate::parse_pem(&root).unwrap();
    assert_eq!(made["root_fingerprint"], root.der_hash().to_string());
    assert!(folder.path().join(made["root_key"].as_str().unwrap()).is_file());
    assert!(folder.path().join(made["operator"].as_str().unwrap()).join("admin.crt").is_file());
}
