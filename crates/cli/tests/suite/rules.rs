//! `policy check` and `policy explain`.

use crate::site::*;

#[test]
fn a_check_of_the_shipped_rules_counts_them() {
    let site = Site::new();
    let ran = site.run(&["policy", "check"]).done();
    assert!(ran.out.ends_with("rules in 2 files: in order\n"), "{ran:?}");
    let shown = site.json(&["policy", "check"]);
    assert_eq!(shown["files"].as_array().unwrap().len(), 2);
    assert!(shown["rules"].as_u64().unwrap() >= 9, "{shown}");
}

#[test]
fn a_check_names_every_mistake_with_its_place_and_touches_nothing() {
    let site = Site::new();
    let file = site.beside("mine.acl");
    let text = "pattern read devices/%u/#\npattern publish devices/%u/x\n\nuser\ntopic read a/#/b\n";
    fs_err::write(&file, text).unwrap();
    let before = picture(&site.dir);
    let ran = site.run(&["policy", "check", "mine.acl"]);
    ran.refused(1, &["mine.acl:2:", "mine.acl:4:", "mine.acl:5:"]);
    assert!(!ran.err.contains("mine.acl:1:"), "{ran:?}");
    assert_eq!(picture(&site.dir), before);
    site.run(&["policy", "check", "none.acl"]).refused(1, &["none.acl"]);
    // Files are checked without an installation too.
    let mut command = bailiwick();
    command.current_dir(site.beside("")).args(["--dir", "nowhere", "policy", "check", "mine.acl"]);
    assert_eq!(crate::site::ran(&mut command).code, 1);
    fs_err::write(&file, "pattern read devices/%u/#\n").unwrap();
    assert_eq!(crate::site::ran(&mut command).done().out, "1 rules in 1 files: in order\n");
}

#[test]
fn a_rule_for_everybody_before_any_user_is_a_mistake_with_a_hint() {
    let site = Site::new();
    fs_err::write(site.beside("open.acl"), "topic readwrite #\n").unwrap();
    site.run(&["policy", "check", "open.acl"]).refused(1, &["open.acl:1:"]);
}

#[test]
fn an_explanation_names_file_and_line_of_the_rule_that_decides() {
    let site = Site::new();
    site.run(&["device", "add", "pump-7"]).done();
    let served = site.serve();
    let own = ["policy", "explain", "pump-7", "publish", "devices/pump-7/telemetry/environment"];
    let ran = site.run(&own).done();
    let text = fs_err::read_to_string(site.layout().policy("devices.acl")).unwrap();
    let line = text.lines().position(|line| line == "pattern write devices/%u/telemetry/#").unwrap() + 1;
    assert!(ran.out.starts_with("permitted: "), "{ran:?}");
    assert!(ran.out.contains(&format!("devices.acl:{line}")), "{ran:?}");
    assert_eq!(site.json(&own)["permitted"], true);

    for (action, topic) in [
        ("publish", "devices/pump-8/telemetry/environment"),
        ("subscribe", "#"),
        ("subscribe", "devices/+/commands/#"),
        ("receive", "devices/pump-8/commands/interval"),
        ("subscribe", "$SYS/#"),
    ] {
        let ran = site.run(&["policy", "explain", "pump-7", action, topic]);
        assert_eq!(ran.code, 3, "{action} {topic}: {ran:?}");
        assert!(ran.out.starts_with("denied: "), "{ran:?}");
        assert!(ran.err.contains(&format!("pump-7 may not {action}")), "{ran:?}");
    }
    site.run(&["policy", "explain", "nobody", "publish", "a"]).refused(1, &["nobody"]);
    site.run(&["policy", "explain", "pump-7", "eat", "a"]).refused(1, &["action"]);
    served.stop();
}
