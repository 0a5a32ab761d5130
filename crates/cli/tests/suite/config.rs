//! A configuration that is wrong is named with its place, and nothing is opened.

use crate::site::*;

/// Puts a line into the configuration, after the line that starts with `after`; its line number.
fn insert(site: &Site, after: &str, line: &str) -> usize {
    let path = site.layout().config();
    let text = fs_err::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|found| found.starts_with(after)).unwrap() + 1;
    lines.insert(at, line);
    fs_err::write(&path, lines.join("\n") + "\n").unwrap();
    at + 1
}

fn nothing_was_opened(site: &Site, ran: &Ran) {
    assert_eq!(ran.out, "", "{ran:?}");
    assert!(!ran.err.contains("server.started") && !ran.err.contains("policy.loaded"), "{ran:?}");
    assert!(!site.layout().socket().exists());
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_column() {
    let site = Site::new();
    let line = insert(&site, "[listeners]", "mqqt = \"127.0.0.1:0\"");
    let place = format!("{}:{line}:1: unknown field `mqqt`", site.layout().config().display());
    for args in [&["serve"][..], &["serve", "--check"], &["device", "list"]] {
        let ran = site.run(args);
        ran.refused(1, &[&place]);
        nothing_was_opened(&site, &ran);
    }
}

#[test]
fn a_file_that_is_no_toml_is_named_with_its_place() {
    let site = Site::new();
    let line = insert(&site, "[listeners]", "mqtt = = 1");
    let ran = site.run(&["serve"]);
    ran.refused(1, &[&format!("bailiwick.toml:{line}:8: ")]);
    nothing_was_opened(&site, &ran);
}

#[test]
fn two_mistakes_are_two_lines() {
    let site = Site::new();
    let text = fs_err::read_to_string(site.layout().config()).unwrap();
    let lines = text.lines().count();
    let more = "[certificates]\ndevice_lifetime = \"30000d\"\n  crl_validity = \"5m\"\n";
    fs_err::write(site.layout().config(), text + more).unwrap();
    let ran = site.run(&["serve"]);
    ran.refused(
        1,
        &[
            &format!("bailiwick.toml:{}:1: device_lifetime is above 4 years", lines + 2),
            &format!("bailiwick.toml:{}:3: crl_validity is under 1h", lines + 3),
        ],
    );
    nothing_was_opened(&site, &ran);
}

#[test]
fn a_rule_file_with_a_mistake_stops_serve_before_a_port_is_opened() {
    let site = Site::new();
    let file = site.layout().policy("devices.acl");
    let text = fs_err::read_to_string(&file).unwrap();
    fs_err::write(&file, text.clone() + "topic publish a/b\n").unwrap();
    let line = text.lines().count() + 1;
    for args in [&["serve"][..], &["serve", "--check"]] {
        let ran = site.run(args);
        ran.refused(1, &[&format!("devices.acl:{line}:")]);
        nothing_was_opened(&site, &ran);
    }
}

#[test]
fn a_missing_rule_file_is_named() {
    let site = Site::new();
    fs_err::remove_file(site.layout().policy("assets.acl")).unwrap();
    let ran = site.run(&["serve"]);
    ran.refused(1, &["policy/assets.acl"]);
    nothing_was_opened(&site, &ran);
}

#[test]
fn a_folder_without_an_installation_says_how_to_make_one() {
    let site = Site::new();
    let empty = site.beside("empty");
    fs_err::create_dir(&empty).unwrap();
    for args in [&["serve"][..], &["serve", "--check"], &["device", "list"], &["status"]] {
        let mut command = bailiwick();
        let ran = ran(command.arg("--dir").arg(&empty).args(args));
        ran.refused(1, &["holds no installation; make one with: bailiwick --dir", "init --host NAME"]);
        assert!(fs_err::read_dir(&empty).unwrap().next().is_none(), "{args:?}");
    }
}
