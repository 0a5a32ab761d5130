//! The openssl program as an outside judge of what we write; says so where it is absent.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use x509::{CaPurpose, Certificate, CrlEntry, CrlReason, Profile, SubjectTemplate};

use crate::support::{Ca, DAY, Key, NOW, YEAR, at, draft, id, serial};

/// A folder for its files, or `None` with a word to the reader where there is no openssl.
fn judge() -> Option<TempDir> {
    match Command::new("openssl").arg("version").output() {
        Ok(output) if output.status.success() => Some(TempDir::new().unwrap()),
        _ => {
            eprintln!("openssl is absent: this outside judge was not asked");
            None
        }
    }
}

fn openssl(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn agrees(folder: &Path, args: &[&str]) -> String {
    let (agreed, text) = openssl(folder, args);
    assert!(agreed, "openssl {args:?}: {text}");
    text
}

fn put(folder: &Path, name: &str, text: &str) {
    fs_err::write(folder.join(name), text).unwrap();
}

fn server_profile() -> Profile {
    Profile::Server { dns: vec!["mqtt.example".to_owned()], ips: vec!["192.0.2.1".parse().unwrap()] }
}

#[test]
fn openssl_verifies_every_chain_under_its_strictest_rules() {
    let Some(folder) = judge() else { return };
    let folder = folder.path();
    let now = NOW.secs().to_string();
    for root_key in Key::all() {
        let root = Ca::root(root_key, "Bailiwick Root");
        put(folder, "root.pem", &root.certificate.to_pem());
        agrees(folder, &["verify", "-x509_strict", "-attime", &now, "-CAfile", "root.pem", "root.pem"]);
        for sub_key in Key::all() {
            let (clients, servers) = (
                root.sub(sub_key, "Devices CA", CaPurpose::Clients),
                root.sub(Key::p256(), "Servers CA", CaPurpose::Servers),
            );
            let mut wanted =
                draft(Some(&clients), &Key::p256(), "pump-7", Profile::Device { id: id("pump-7") });
            wanted.template = SubjectTemplate {
                country: Some("DE".to_owned()),
                state: Some("Bayern".to_owned()),
                organization: Some("Müller".to_owned()),
                unit: Some("Pumps".to_owned()),
            };
            let device = clients.issue(&wanted);
            let server = servers.issue(&draft(Some(&servers), &Key::rsa(), "mqtt.example", server_profile()));
            for (ca, leaf, purpose) in [(&clients, &device, "sslclient"), (&servers, &server, "sslserver")] {
                put(folder, "sub.pem", &ca.certificate.to_pem());
                put(folder, "leaf.pem", &leaf.to_pem());
                let rest = ["-attime", &now, "-CAfile", "root.pem", "-untrusted", "sub.pem", "leaf.pem"];
                let ask = ["verify", "-x509_strict", "-purpose", purpose];
                agrees(folder, &[&ask[..], &rest].concat());
                let wrong = if purpose == "sslclient" { "sslserver" } else { "sslclient" };
                let (agreed, text) = openssl(folder, &[&["verify", "-purpose", wrong], &rest[..]].concat());
                assert!(!agreed, "{text}");
            }
        }
    }
}

#[test]
fn openssl_prints_the_extensions_as_we_meant_them() {
    let Some(folder) = judge() else { return };
    let root = Ca::root(Key::p256(), "Root");
    let servers = root.sub(Key::p256(), "Servers CA", CaPurpose::Servers);
    let leaf = servers.issue(&draft(Some(&servers), &Key::p256(), "mqtt.example", server_profile()));
    put(folder.path(), "leaf.pem", &leaf.to_pem());
    let text = agrees(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-text", "-nameopt", "RFC2253"]);
    for part in [
        "Version: 3 (0x2)",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Server Authentication\n",
        "DNS:mqtt.example, DNS:192.0.2.1, IP Address:192.0.2.1",
        "URI:http://pki.example/crl/devices/0.crl",
        "CA Issuers - URI:http://pki.example/ca/devices.cer",
        "Not After : Aug  1 00:00:00 2027 GMT",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn openssl_verifies_our_lists_and_follows_them() {
    let Some(folder) = judge() else { return };
    let folder = folder.path();
    let root = Ca::root(Key::p384(), "Root");
    let ca = root.sub(Key::p256(), "Devices CA", CaPurpose::Clients);
    let mut wanted = draft(Some(&ca), &Key::p256(), "pump-7", Profile::Device { id: id("pump-7") });
    let revoked = ca.issue(&wanted);
    wanted.serial = serial(9);
    let fine = ca.issue(&wanted);
    let entries = [
        CrlEntry { serial: revoked.serial(), revoked_at: at(-DAY), reason: CrlReason::KeyCompromise },
        CrlEntry { serial: serial(1), revoked_at: at(-DAY), reason: CrlReason::Unspecified },
        CrlEntry { serial: serial(2), revoked_at: at(-DAY), reason: CrlReason::CertificateHold },
    ];
    for (name, text) in [
        ("root.pem", root.certificate.to_pem()),
        ("sub.pem", ca.certificate.to_pem()),
        ("chain.pem", format!("{}{}", root.certificate.to_pem(), ca.certificate.to_pem())),
        ("revoked.pem", revoked.to_pem()),
        ("fine.pem", fine.to_pem()),
        ("crl.pem", ca.crl(42, &entries).to_pem()),
        ("empty.pem", ca.crl(43, &[]).to_pem()),
        ("root-crl.pem", root.crl(1, &[]).to_pem()),
    ] {
        put(folder, name, &text);
    }
    for list in ["crl.pem", "empty.pem"] {
        agrees(folder, &["crl", "-in", list, "-noout", "-verify", "-CAfile", "sub.pem"]);
    }
    let text = agrees(folder, &["crl", "-in", "crl.pem", "-noout", "-text"]);
    for part in [
        "Version 2 (0x1)",
        "X509v3 CRL Number: \n                42",
        "Key Compromise",
        "Certificate Hold",
        "Last Update: Aug  1 00:00:00 2026 GMT",
        "Next Update: Aug  2 00:00:00 2026 GMT",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(
        agrees(folder, &["crl", "-in", "empty.pem", "-noout", "-text"]).contains("No Revoked Certificates.")
    );

    let now = NOW.secs().to_string();
    let verify = |leaf: &str| {
        let ask = ["verify", "-x509_strict", "-crl_check", "-attime", &now, "-CAfile", "root.pem"];
        openssl(folder, &[&ask[..], &["-untrusted", "sub.pem", "-CRLfile", "crl.pem", leaf]].concat())
    };
    let (agreed, text) = verify("fine.pem");
    assert!(agreed, "{text}");
    let (agreed, text) = verify("revoked.pem");
    assert!(!agreed && text.contains("certificate revoked"), "{text}");
    let all = [
        "verify",
        "-x509_strict",
        "-crl_check_all",
        "-attime",
        &now,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "sub.pem",
    ];
    agrees(folder, &[&all[..], &["-CRLfile", "crl.pem", "-CRLfile", "root-crl.pem", "fine.pem"]].concat());
}

#[test]
fn openssl_verifies_our_requests() {
    let Some(folder) = judge() else { return };
    for key in Key::all() {
        put(folder.path(), "csr.pem", &x509::pem::encode("CERTIFICATE REQUEST", &key.csr("pump-7")));
        let text = agrees(folder.path(), &["req", "-in", "csr.pem", "-verify", "-noout", "-subject"]);
        assert!(text.contains("verify OK") && text.contains("CN = pump-7"), "{text}");
    }
}

#[test]
fn a_chain_below_a_foreign_root_with_an_odd_name_verifies() {
    let Some(folder) = judge() else { return };
    let folder = folder.path();
    let config = "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=v3\nutf8=yes\nstring_mask=MASK:0x4\n\
         [dn]\n1.DC=com\n2.DC=example\n1.OU=b\n2.OU=a\nO=Müller\n+CN=Odd Root\n\
         [v3]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
         subjectKeyIdentifier=hash\n";
    put(folder, "root.cnf", config);
    let curve =
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-outform", "DER", "-out", "root.key"];
    agrees(folder, &[&["genpkey"], &curve[..]].concat());
    let make = ["req", "-x509", "-new", "-key", "root.key", "-keyform", "DER", "-config", "root.cnf"];
    agrees(folder, &[&make[..], &["-days", "3650", "-out", "root.pem"]].concat());
    let certificate =
        Certificate::parse_pem(&fs_err::read_to_string(folder.join("root.pem")).unwrap()).unwrap();
    agrees(
        folder,
        &[
            "pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-outform", "DER", "-in", "root.key", "-out",
            "root.p8",
        ],
    );
    let key = Key::p256_from_pkcs8(&fs_err::read(folder.join("root.p8")).unwrap());
    let from = certificate.not_before();
    let root = Ca { key, certificate };

    let key = Key::p384();
    let mut wanted = draft(Some(&root), &key, "Devices CA", Profile::SubCa { purpose: CaPurpose::Clients });
    (wanted.not_before, wanted.not_after) = (from, types::Wall(from.0 + YEAR));
    let sub = Ca { certificate: root.issue(&wanted), key };
    let mut wanted = draft(Some(&sub), &Key::p256(), "pump-7", Profile::Device { id: id("pump-7") });
    (wanted.not_before, wanted.not_after) = (from, types::Wall(from.0 + YEAR));
    let leaf = sub.issue(&wanted);
    put(folder, "sub.pem", &sub.certificate.to_pem());
    put(folder, "leaf.pem", &leaf.to_pem());
    let time = (from.secs() + 1).to_string();
    let ask = [
        "verify",
        "-x509_strict",
        "-attime",
        &time,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "sub.pem",
        "leaf.pem",
    ];
    agrees(folder, &ask);
    let anchors = x509::ChainAnchors::new([&root.certificate]).unwrap();
    let now = types::Wall(from.0 + 1000);
    let between = [sub.certificate.der()];
    assert!(x509::verify_chain(&anchors, leaf.der(), &between, now, x509::Usage::ClientAuth).is_ok());
}
