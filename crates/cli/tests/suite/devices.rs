//! Devices and services through their lives: names, files, suspension, revocation.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::site::*;

fn standing(site: &Site, id: &str) -> String {
    site.json(&["device", "show", id])["standing"].as_str().unwrap().to_owned()
}

fn ids(site: &Site, args: &[&str]) -> Vec<String> {
    let list = site.json(&[&["device", "list"], args].concat());
    list["devices"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_added_is_listed_and_shown_as_it_was_given() {
    let site = Site::new();
    let args = ["device", "add", "pump-7", "--project", "default", "--fleet", "north", "--label", "the roof"];
    assert_eq!(site.run(&args).done().out, "added pump-7\n");
    let shown = site.json(&["device", "show", "pump-7"]);
    assert_eq!(
        [&shown["id"], &shown["project"], &shown["fleet"], &shown["label"], &shown["standing"]],
        ["pump-7", "default", "north", "the roof", "active"]
    );
    assert_eq!(shown["certificates"], Value::Array(Vec::new()));
    let table = site.run(&["device", "list"]).done().out;
    assert_eq!(
        table,
        "id      project  fleet  standing  label\npump-7  default  north  active    the roof\n"
    );
    assert!(site.run(&["device", "show", "pump-7"]).done().out.starts_with("id        pump-7\n"));
}

#[test]
fn a_list_is_read_in_pages_of_any_size() {
    let site = Site::new();
    let served = site.serve();
    for number in 0..5 {
        site.run(&["device", "add", &format!("d{number}")]).done();
    }
    assert_eq!(ids(&site, &[]), ["d0", "d1", "d2", "d3", "d4"]);
    assert_eq!(ids(&site, &["--limit", "2"]), ["d0", "d1"]);
    assert_eq!(ids(&site, &["--limit", "2", "--after", "d1"]), ["d2", "d3"]);
    assert_eq!(ids(&site, &["--after", "d4"]), Vec::<String>::new());
    let page = site.run(&["device", "list", "--limit", "2"]).done();
    assert!(page.err.contains("that may not be all: go on with --after d1"), "{}", page.err);
    let page = site.run(&["device", "list", "--limit", "6"]).done();
    assert!(!page.err.contains("not be all"), "{}", page.err);
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_more_devices_than_a_page_holds_is_whole() {
    let site = Site::new();
    let local = server::Local::open(&site.layout()).await.unwrap().unwrap();
    for number in 0..1_003 {
        let body = format!("{{\"id\":\"d{number:04}\"}}").into_bytes();
        let request = http::Request::post("/api/v1/devices")
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        let (status, said) = local.ask(request).await.unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&said));
    }
    local.close().await;
    let all = ids(&site, &[]);
    assert_eq!((all.len(), all[0].as_str(), all[1_002].as_str()), (1_003, "d0000", "d1002"));
    assert_eq!(ids(&site, &["--after", "d1000"]), ["d1001", "d1002"]);
    assert_eq!(site.run(&["device", "list"]).done().out.lines().count(), 1_004);
}

#[test]
fn a_mac_in_any_notation_is_one_device() {
    let site = Site::new();
    site.run(&["device", "add", "AA:BB:CC:00:11:22"]).done();
    assert_eq!(ids(&site, &[]), ["aabbcc001122"]);
    assert_eq!(site.json(&["device", "show", "aa-bb-cc-00-11-22"])["id"], "aabbcc001122");
    site.run(&["device", "add", "aabb.cc00.1122"]).refused(1, &["taken"]);
}

#[test]
fn a_device_with_files_is_one_certificate_that_openssl_would_verify() {
    let site = Site::new();
    let out = site.device("pump-7");
    let mode = |name: &str| fs_err::metadata(out.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("pump-7.key"), mode("pump-7.crt"), mode("ca.crt")], [0o600, 0o644, 0o644]);
    let chain = fs_err::read_to_string(out.join("pump-7.crt")).unwrap();
    let chain = x509::Certificate::parse_pem_chain(&chain).unwrap();
    assert_eq!(chain.len(), 2, "the leaf and its CA; the root is in ca.crt");
    assert_eq!(chain[0].common_names(), ["pump-7"]);
    let key = signer::FileKey::load(&out.join("pump-7.key"), None).unwrap();
    assert_eq!(signer::RawSigner::spki_der(&key), chain[0].spki_der());
    assert_eq!(fs_err::read_to_string(out.join("ca.crt")).unwrap(), site.root().to_pem());
    let shown = site.json(&["device", "show", "pump-7"]);
    assert_eq!(shown["certificates"][0]["fingerprint"], chain[0].der_hash().to_string());
    assert_eq!(shown["certificates"][0]["state"], "unconfirmed");
}

#[test]
fn files_that_are_there_are_never_written_over_and_nothing_is_registered() {
    for taken in ["pump-7.key", "pump-7.crt"] {
        let site = Site::new();
        let out = site.beside("files");
        fs_err::create_dir(&out).unwrap();
        fs_err::write(out.join(taken), "precious").unwrap();
        let before = picture(&out);
        let ran = site.run(&["device", "add", "pump-7", "--out", "files"]);
        ran.refused(1, &[taken]);
        assert_eq!(picture(&out), before);
        assert_eq!(ids(&site, &[]), Vec::<String>::new());
        site.run(&["service", "add", "pump-7", "--out", "files"]).refused(1, &[taken]);
        assert_eq!(picture(&out), before);
        site.run(&["device", "show", "pump-7"]).refused(1, &["\"pump-7\" is not registered"]);
        assert_eq!(site.json(&["operator", "list"])["principals"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn another_installations_root_in_the_folder_is_not_written_over() {
    let site = Site::new();
    let out = site.beside("files");
    fs_err::create_dir(&out).unwrap();
    fs_err::write(out.join("ca.crt"), "another root").unwrap();
    let before = picture(&out);
    site.run(&["device", "add", "pump-7", "--out", "files"]).refused(1, &["ca.crt", "nothing was changed"]);
    assert_eq!(picture(&out), before);
    assert_eq!(ids(&site, &[]), Vec::<String>::new());
    // The same root is what a second device of the same folder finds.
    fs_err::write(out.join("ca.crt"), site.root().to_pem()).unwrap();
    site.device("pump-7");
    site.device("pump-8");
}

#[test]
fn a_refused_add_leaves_no_key_behind() {
    let site = Site::new();
    site.service("reader");
    let before = picture(&site.beside("files"));
    site.run(&["device", "add", "pump-7"]).done();
    let out = ["--out", "files"];
    site.run(&[&["device", "add", "pump-7"], &out[..]].concat()).refused(1, &["name \"pump-7\" is taken"]);
    site.run(&[&["device", "add", "Reader"], &out[..]].concat()).refused(1, &["taken by the service"]);
    site.run(&[&["service", "add", "pump-7"], &out[..]].concat()).refused(1, &["taken by the device"]);
    site.run(&[&["operator", "add", "pump-7"], &out[..]].concat()).refused(1, &["taken by the device"]);
    site.run(&[&["device", "add", "admin"], &out[..]].concat()).refused(1, &["admin"]);
    assert_eq!(picture(&site.beside("files")), before);
    let fresh = site.beside("fresh");
    site.run(&["device", "add", "pump-7", "--out", "fresh"]).refused(1, &["taken"]);
    assert!(!fresh.exists(), "a folder that was made for nothing");
    assert_eq!(site.json(&["device", "show", "pump-7"])["certificates"], Value::Array(Vec::new()));
}

#[test]
fn a_name_of_another_kind_or_of_a_rule_is_refused_in_any_case() {
    let site = Site::new();
    let served = site.serve();
    site.run(&["device", "add", "pump-7"]).done();
    site.service("reader");
    for name in ["reader", "READER"] {
        site.run(&["device", "add", name]).refused(1, &["taken by the service of that name"]);
    }
    for noun in ["service", "operator"] {
        site.run(&[noun, "add", "PUMP-7", "--out", "files"])
            .refused(1, &["taken by the device of that name"]);
    }
    // `user admin` and `user backend-service` stand in the shipped rules: a device of that name
    // would look like what they give rights to.
    for name in ["admin", "Admin", "backend-service"] {
        site.run(&["device", "add", name]).refused(1, &[name, "is the name of a user in the topic rules"]);
    }
    assert_eq!(ids(&site, &[]), ["pump-7"]);
    site.service("backend-service");
    served.stop();
}

#[test]
fn a_name_that_is_none_is_a_matter_of_usage() {
    let site = Site::new();
    for name in ["", "a b", "../etc", "a/b", "#", "+", "-x-", "pump\n7", "\u{e4}"] {
        for args in [&["device", "show"][..], &["device", "revoke"], &["token", "create"], &["device", "add"]]
        {
            let args = [args, &["--", name][..]].concat();
            let ran = site.run(&args);
            assert!([1, 2].contains(&ran.code), "{args:?}: {ran:?}");
            assert_eq!(ran.out, "", "{args:?}");
        }
        let out = site.run(&["device", "add", "--out", "files", "--", name]);
        assert_eq!(out.code, 2, "{name:?}: {out:?}");
        assert!(!site.beside("files").exists(), "{name:?}");
    }
    assert_eq!(ids(&site, &[]), Vec::<String>::new());
}

#[test]
fn without_a_server_nothing_lags_behind_a_revocation() {
    let site = Site::new();
    site.device("pump-7");
    for act in ["suspend", "restore", "revoke"] {
        let said = site.json(&["device", act, "pump-7"]);
        assert_eq!(said["lagging"], Value::Array(Vec::new()), "{said}");
        assert!(said["crl"]["number"].as_u64().unwrap() > 1, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_is_refused_restored_connects_again_revoked_is_final() {
    let site = Site::new();
    let files = site.device("pump-7");
    let served = site.serve();
    let mut live = served.client(&site, &files, "pump-7").await.unwrap();

    let said = site.run(&["device", "suspend", "pump-7"]).done().out;
    assert!(
        said.starts_with("suspended \"pump-7\" (0x") && said.contains("; 1 live session closed"),
        "{said}"
    );
    live.ended().await.unwrap();
    assert_eq!(standing(&site, "pump-7"), "suspended");
    let mark = served.mark();
    assert!(served.client(&site, &files, "pump-7").await.is_err());
    served.line(mark, "conn.refused", |line| line["reason"] == "trust.suspended");

    let said = site.run(&["device", "restore", "pump-7"]).done().out;
    assert!(said.starts_with("restored \"pump-7\" (0x"), "{said}");
    assert_eq!(standing(&site, "pump-7"), "active");
    let mut live = served.client(&site, &files, "pump-7").await.unwrap();
    site.run(&["device", "restore", "pump-7"]).refused(1, &["device \"pump-7\" is not suspended"]);

    let said = site.json(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    assert_eq!((&said["sessions_closed"], &said["lagging"]), (&1.into(), &Value::Array(Vec::new())));
    assert!(said["crl"]["number"].as_u64().unwrap() > 1, "{said}");
    live.ended().await.unwrap();
    assert_eq!(standing(&site, "pump-7"), "revoked");
    site.run(&["device", "revoke", "pump-7"]).refused(1, &["\"pump-7\" was already revoked, epoch"]);
    let restore = site.run(&["device", "restore", "pump-7"]);
    assert_eq!(restore.code, 1, "{restore:?}");
    assert!(served.client(&site, &files, "pump-7").await.is_err());
    site.run(&["token", "create", "pump-7", "--replace"]).refused(1, &["pump-7"]);
    served.stop();
}

#[test]
fn a_reason_is_taken_as_the_help_writes_it_and_as_rfc_5280_does() {
    let site = Site::new();
    for (number, reason) in
        ["keyCompromise", "key-compromise", "cessation-of-operation", "cessationOfOperation", "superseded"]
            .into_iter()
            .enumerate()
    {
        let name = format!("d{number}");
        site.device(&name);
        site.run(&["device", "revoke", &name, "--reason", reason]).done();
    }
    site.device("pump-7");
    site.run(&["device", "revoke", "pump-7", "--reason", "boredom"]).refused(1, &["keyCompromise"]);
    assert_eq!(standing(&site, "pump-7"), "active");
}

#[test]
fn a_revocation_without_a_server_is_in_force_when_one_starts() {
    let site = Site::new();
    let files = site.device("pump-7");
    site.run(&["device", "revoke", "pump-7"]).done();
    let served = site.serve();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert!(runtime.block_on(served.client(&site, &files, "pump-7")).is_err());
    served.stop();
}

#[test]
fn every_client_is_given_the_port_that_the_server_really_has() {
    let site = Site::new();
    site.run(&["device", "add", "pump-7"]).done();
    let served = site.serve();
    for client in ["mosquitto", "mqttjs", "paho", "esp-idf", "arduino"] {
        let text = site.run(&["device", "show", "pump-7", "--for", client]).done().out;
        assert!(text.contains(&served.mqtt.port().to_string()) && text.contains("pump-7"), "{text}");
    }
    let text = site.run(&["device", "show", "pump-7", "--for", "curl"]).done().out;
    assert!(text.contains(&format!("https://localhost:{}/provision", served.devices.port())), "{text}");
    site.run(&["device", "show", "pump-8", "--for", "curl"]).refused(1, &["\"pump-8\" is not registered"]);
    served.stop();
}
