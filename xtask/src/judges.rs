//! The outside judges: programs that others wrote, each used as its own documentation says.

use std::path::PathBuf;

use crate::run::{Outcome, captured, command, present, root, shown, target, tried};
use crate::stand::Stand;

/// A check of one judge: what it shows, and whether it held.
struct Score {
    name: &'static str,
    passed: u32,
    failures: Vec<String>,
}

impl Score {
    fn new(name: &'static str) -> Self {
        Self { name, passed: 0, failures: Vec::new() }
    }

    fn expect(&mut self, what: &str, held: bool, evidence: &str) {
        if held {
            self.passed += 1;
            println!("  {}: {what}", self.name);
        } else {
            self.failures.push(format!("{what}: {}", evidence.trim()));
        }
    }

    fn close(self) -> Outcome {
        if self.failures.is_empty() && self.passed > 0 {
            println!("{}: {} checks held", self.name, self.passed);
            return Ok(());
        }
        Err(format!(
            "{}: {} held, {} did not: {}",
            self.name,
            self.passed,
            self.failures.len(),
            self.failures.join("\n")
        ))
    }
}

fn npm_folder() -> PathBuf {
    target().join("judges").join("npm")
}

fn python_folder() -> PathBuf {
    target().join("judges").join("python")
}

/// Installs what the judges need, once; says plainly what it could not.
pub(crate) fn install() -> Outcome {
    let wanted = [
        ("openssl", "openssl"),
        ("curl", "curl"),
        ("mosquitto_pub", "mosquitto-clients"),
        ("mosquitto", "mosquitto"),
        ("npm", "npm"),
        ("node", "nodejs"),
        ("python3", "python3"),
        ("pip3", "python3-pip"),
    ];
    let on_path = |program: &str| present(program) || PathBuf::from("/usr/sbin").join(program).is_file();
    let missing: Vec<&str> =
        wanted.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        println!("installing {} with apt-get", missing.join(" "));
        shown(command("apt-get", &["update", "-qq"]))
            .map_err(|error| format!("{error}; install by hand: apt-get install {}", missing.join(" ")))?;
        let mut install = command("apt-get", &["install", "-y", "-qq", "--no-install-recommends"]);
        // A policy of 101 keeps Debian from starting its own broker on the standard port.
        install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        shown(install)
            .map_err(|error| format!("{error}; install by hand: apt-get install {}", missing.join(" ")))?;
    }
    let npm = npm_folder();
    if !npm.join("node_modules/mqtt/package.json").is_file() {
        std::fs::DirBuilder::new().recursive(true).create(&npm).map_err(|error| error.to_string())?;
        let folder = npm.to_string_lossy().into_owned();
        shown(command(
            "npm",
            &["install", "--silent", "--no-audit", "--no-fund", "--prefix", &folder, "mqtt@5"],
        ))
        .map_err(|error| format!("{error}; the judge mqttjs needs the npm package mqtt, version 5"))?;
    }
    let python = python_folder();
    if !python.join("paho/mqtt/client.py").is_file() {
        let folder = python.to_string_lossy().into_owned();
        shown(command(
            "python3",
            &["-m", "pip", "install", "--quiet", "--target", &folder, "paho-mqtt>=2,<3"],
        ))
        .map_err(|error| format!("{error}; the judge paho needs the Python package paho-mqtt, version 2"))?;
    }
    Ok(())
}

/// A judge, in its short form or its full one.
type Judge = fn(bool) -> Outcome;

/// Runs one judge, or all of them.
pub(crate) fn judge(name: &str, full: bool) -> Outcome {
    let judges: [(&str, Judge); 5] =
        [("openssl", openssl), ("curl", curl), ("mosquitto", mosquitto), ("mqttjs", mqttjs), ("paho", paho)];
    if name == "all" {
        install()?;
        return judges.iter().try_for_each(|(_, judge)| judge(full));
    }
    match judges.iter().find(|(known, _)| *known == name) {
        Some((_, judge)) => judge(full),
        None => Err(format!("no judge \"{name}\"; there are: all, openssl, curl, mosquitto, mqttjs, paho")),
    }
}

fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

/// `openssl verify -x509_strict` on every chain, `openssl crl`, `openssl s_client`.
fn openssl(full: bool) -> Outcome {
    let stand = Stand::start()?;
    let mut score = Score::new("openssl");
    let count = if full { 50 } else { 3 };
    for number in 0..count {
        stand.cli(&["device", "add", &format!("judge-{number}"), "--out", "devices"])?;
    }
    stand.cli(&["service", "add", "judge-service", "--out", "services"])?;
    stand.cli(&["operator", "add", "judge-operator", "--out", "operators"])?;
    stand.cli(&["ca", "export", "export"])?;
    let root_ca = text(stand.path("export/root/ca.crt"));
    for ca in ["devices", "services", "servers"] {
        let file = text(stand.path(&format!("export/intermediate/{ca}.crt")));
        let (held, said) =
            tried(command("openssl", &["verify", "-x509_strict", "-CAfile", &root_ca, &file]))?;
        score.expect(&format!("verify -x509_strict of the {ca} CA"), held, &said);
    }
    let mut leafs: Vec<(String, &str, &str)> =
        (0..count).map(|number| (format!("devices/judge-{number}.crt"), "devices", "sslclient")).collect();
    leafs.push(("services/judge-service.crt".into(), "services", "sslclient"));
    leafs.push(("operators/judge-operator.crt".into(), "services", "sslclient"));
    leafs.push(("export/server/broker.crt".into(), "servers", "sslserver"));
    for (leaf, ca, purpose) in &leafs {
        let (chain, file) =
            (text(stand.path(&format!("export/intermediate/{ca}.crt"))), text(stand.path(leaf)));
        let args =
            ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &root_ca, "-untrusted", &chain, &file];
        let (held, said) = tried(command("openssl", &args))?;
        score.expect(&format!("verify -x509_strict of {leaf}"), held, &said);
    }
    stand.cli(&["device", "revoke", "judge-0"])?;
    openssl_crl(&stand, &mut score)?;
    openssl_handshakes(&stand, &mut score, &root_ca)?;
    score.close()
}

fn openssl_crl(stand: &Stand, score: &mut Score) -> Outcome {
    let leaf = text(stand.path("devices/judge-0.crt"));
    let shown =
        captured(command("openssl", &["x509", "-in", &leaf, "-noout", "-ext", "crlDistributionPoints"]))?;
    let path = shown.split("URI:").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    let path = path.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
    let (der, pem) = (text(stand.path("devices.crl")), text(stand.path("devices.crl.pem")));
    let base = format!("http://localhost:{}/{path}", stand.port("plain")?);
    captured(command("curl", &["-sSf", "-o", &der, &base]))?;
    captured(command("curl", &["-sSf", "-o", &pem, &base.replace(".crl", ".pem")]))?;
    let ca = text(stand.path("export/intermediate/devices.crt"));
    let (held, said) =
        tried(command("openssl", &["crl", "-inform", "DER", "-in", &der, "-CAfile", &ca, "-noout"]))?;
    score.expect("crl: the signature of the DER list", held && said.contains("verify OK"), &said);
    let (held, said) = tried(command("openssl", &["crl", "-in", &pem, "-CAfile", &ca, "-noout"]))?;
    score.expect("crl: the signature of the PEM list", held && said.contains("verify OK"), &said);
    let root_ca = text(stand.path("export/root/ca.crt"));
    let check = |leaf: &str| {
        let leaf = text(stand.path(leaf));
        // -partial_chain with the devices CA as anchor: only the leaf's own list is asked for.
        let args = [
            "verify",
            "-x509_strict",
            "-partial_chain",
            "-crl_check",
            "-CRLfile",
            &pem,
            "-trusted",
            &ca,
            &leaf,
        ];
        tried(command("openssl", &args))
    };
    let (held, said) = check("devices/judge-0.crt")?;
    score.expect("verify -crl_check refuses the revoked device", !held && said.contains("revoked"), &said);
    let (held, said) = check("devices/judge-1.crt")?;
    score.expect("verify -crl_check accepts the other device", held, &format!("{root_ca} {said}"));
    Ok(())
}

fn openssl_handshakes(stand: &Stand, score: &mut Score, root_ca: &str) -> Outcome {
    let connect = format!("localhost:{}", stand.port("mqtt")?);
    let (cert, key) = (text(stand.path("devices/judge-1.crt")), text(stand.path("devices/judge-1.key")));
    let with = ["-cert", cert.as_str(), "-key", key.as_str()];
    let attempt = |extra: &[&str]| {
        let mut args =
            vec!["s_client", "-connect", &connect, "-CAfile", root_ca, "-verify_return_error", "-brief"];
        args.extend(extra);
        tried(command("openssl", &args))
    };
    let verified = "Verification: OK";
    for (what, version, protocol) in [("TLS 1.3", "-tls1_3", "TLSv1.3"), ("TLS 1.2", "-tls1_2", "TLSv1.2")] {
        let (_, said) = attempt(&[&with[..], &[version]].concat())?;
        score.expect(
            &format!("s_client by {what} with a certificate"),
            said.contains(verified) && said.contains(protocol),
            &said,
        );
    }
    let (_, said) = attempt(&[&with[..], &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]].concat())?;
    score.expect("s_client by TLS 1.1 is refused", !said.contains(verified), &said);
    for weak in ["ECDHE-ECDSA-AES128-SHA256", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-SHA"] {
        let (_, said) = attempt(&[&with[..], &["-tls1_2", "-cipher", weak]].concat())?;
        score.expect(&format!("s_client with {weak} only is refused"), !said.contains(verified), &said);
    }
    let (held, said) = attempt(&["-tls1_2"])?;
    score.expect("s_client without a certificate is refused", !held, &said);
    let log = stand.log();
    score.expect("the log names the missing certificate", log.contains("tls.no_certificate"), &log);
    Ok(())
}

/// `/provision` and `/generate-token` as a shell script would use them.
fn curl(_full: bool) -> Outcome {
    let stand = Stand::start()?;
    let mut score = Score::new("curl");
    stand.cli(&["operator", "add", "curl-operator", "--out", "operators"])?;
    stand.cli(&["ca", "export", "export"])?;
    stand.cli(&["device", "add", "curl-1"])?;
    let root_ca = text(stand.path("export/root/ca.crt"));
    let admin = format!("https://localhost:{}", stand.port("admin")?);
    let devices = format!("https://localhost:{}", stand.port("devices")?);
    let ask = |url: &str, extra: &[&str]| {
        let mut args =
            vec!["-sS", "--cacert", &root_ca, "-w", "\n%{http_code}", "-H", "Content-Type: application/json"];
        args.extend(extra);
        args.push(url);
        tried(command("curl", &args))
    };
    let (_, said) = ask(&format!("{admin}/generate-token"), &["-d", "{\"device_id\":\"curl-1\"}"])?;
    score.expect(
        "/generate-token without an operator's certificate is refused",
        !said.ends_with("200"),
        &said,
    );
    let (cert, key) =
        (text(stand.path("operators/curl-operator.crt")), text(stand.path("operators/curl-operator.key")));
    let body = "{\"device_id\":\"curl-1\"}";
    let (_, said) = ask(&format!("{admin}/generate-token"), &["--cert", &cert, "--key", &key, "-d", body])?;
    let answer: serde_json::Value =
        serde_json::from_str(said.lines().next().unwrap_or_default()).unwrap_or_default();
    let token = answer["token"].as_str().unwrap_or_default().to_owned();
    score.expect("/generate-token with an operator's certificate", token.starts_with("bw1."), &said);
    let csr = |name: &str| -> Outcome<String> {
        let (key, out) = (text(stand.path(&format!("{name}.key"))), text(stand.path(&format!("{name}.csr"))));
        let args = [
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &out,
            "-subj",
            "/CN=curl-1",
        ];
        captured(command("openssl", &args))?;
        captured(command("cat", &[&out]))
    };
    let provision = |token: &str, csr: &str| {
        let body = serde_json::json!({"token": token, "csr": csr}).to_string();
        ask(&format!("{devices}/provision"), &["-d", &body])
    };
    let (first, second) = (csr("first")?, csr("second")?);
    let (_, malformed) = provision(&token, "no CSR at all")?;
    score.expect("a malformed CSR is 400 and costs no token", malformed.ends_with("400"), &malformed);
    let (_, issued) = provision(&token, &first)?;
    score.expect(
        "/provision with token and CSR",
        issued.ends_with("200") && issued.contains("BEGIN CERTIFICATE"),
        &issued,
    );
    let (_, again) = provision(&token, &first)?;
    let certificate = |said: &str| -> Option<String> {
        let answer: serde_json::Value = serde_json::from_str(said.lines().next()?).ok()?;
        answer["certificate"].as_str().map(str::to_owned)
    };
    let same = certificate(&issued).is_some() && certificate(&issued) == certificate(&again);
    score.expect("the same token with the same key gets the same certificate", same, &again);
    let (_, other) = provision(&token, &second)?;
    let (_, unknown) = provision("bw1.00000000000000000000000000.00000000000000000000000000", &second)?;
    score.expect("the token with another key is 403", other.ends_with("403"), &other);
    score.expect("an unknown token gets the same 403", other == unknown, &unknown);
    score.expect(
        "the token is in no line of the log",
        !stand.log().contains(&token),
        "the log holds the token",
    );
    score.close()
}

/// Debian's `mosquitto_pub` and `mosquitto_sub`, exactly as `device show --for mosquitto` prints them.
fn mosquitto(full: bool) -> Outcome {
    let stand = Stand::start()?;
    let mut score = Score::new("mosquitto");
    stand.cli(&["device", "add", "sensor-001", "--out", "files"])?;
    stand.cli(&["device", "add", "sensor-002", "--out", "files"])?;
    let printed = stand.cli(&["device", "show", "sensor-001", "--for", "mosquitto", "--files", "files"])?;
    let line = |program: &str| {
        printed
            .lines()
            .find(|line| line.trim_start().starts_with(program))
            .map(str::to_owned)
            .ok_or(format!("device show printed no {program}:\n{printed}"))
    };
    let (publish, subscribe) = (line("mosquitto_pub")?, line("mosquitto_sub")?);
    let shell = |script: &str| {
        let mut shell = command("sh", &["-c", script]);
        shell.current_dir(stand.folder());
        tried(shell)
    };
    let (held, said) = shell(&format!("{publish} -r"))?;
    score.expect("mosquitto_pub as printed", held, &said);
    // The subscription as printed stays open; three seconds without a message are its normal end here (27).
    let (_, said) = shell(&format!("{subscribe} -W 3"))?;
    score.expect(
        "mosquitto_sub as printed is granted",
        !said.contains("denied") && !said.to_lowercase().contains("error"),
        &said,
    );
    stand.cli(&["service", "add", "backend-service", "--out", "files"])?;
    let port = stand.port("mqtt")?;
    let common = |name: &str, cert: &str| {
        format!(
            "-h localhost -p {port} --cafile files/ca.crt --cert files/{cert} --key files/{name}.key -q 1 -i judge-{name}"
        )
    };
    let round = |device: &str, cert: &str, topic: &str| {
        // One shell: the subscriber waits for one message, the publisher repeats until it has it.
        let reader = format!(
            "mosquitto_sub {} -t 'assets/#' -C 1 -W 20 -F '%t %p'",
            common("backend-service", "backend-service.crt")
        );
        let writer = format!(
            "mosquitto_pub {} -t {topic} -m hello --repeat 40 --repeat-delay 0.1",
            common(device, cert)
        );
        shell(&format!(
            "{reader} > got & reader=$!; {writer} & writer=$!; wait $reader; kill $writer 2>/dev/null; cat got"
        ))
    };
    let (_, said) = round("sensor-001", "sensor-001.crt", "assets/sensor-001/telemetry")?;
    score.expect(
        "a message reaches the backend service",
        said.contains("assets/sensor-001/telemetry hello"),
        &said,
    );
    shell("openssl x509 -in files/sensor-002.crt -out files/leaf-only.crt")?;
    let (_, said) = round("sensor-002", "leaf-only.crt", "assets/sensor-002/telemetry")?;
    score.expect(
        "a file with the leaf certificate only works too",
        said.contains("assets/sensor-002/telemetry hello"),
        &said,
    );
    let (held, said) = shell(&format!(
        "mosquitto_sub {} -t 'assets/sensor-002/#' -C 1 -W 3",
        common("sensor-001", "sensor-001.crt")
    ))?;
    score.expect(
        "another device's telemetry is refused",
        said.contains("requests were denied"),
        &format!("{held} {said}"),
    );
    let (held, said) = shell(&format!(
        "mosquitto_sub -h localhost -p {port} --cafile files/ca.crt -t 'assets/#' -C 1 -W 3"
    ))?;
    score.expect("no certificate, no connection", !held, &said);
    stand.cli(&["device", "revoke", "sensor-002"])?;
    let (held, said) = shell(&format!(
        "mosquitto_pub {} -t assets/sensor-002/telemetry -m x",
        common("sensor-002", "leaf-only.crt")
    ))?;
    score.expect("a revoked device is refused", !held, &said);
    if full {
        let (held, said) = shell(&format!(
            "for n in $(seq 200); do mosquitto_pub {} -t assets/sensor-001/telemetry -m $n || exit 1; done",
            common("sensor-001", "sensor-001.crt")
        ))?;
        score.expect("two hundred connections in a row", held, &said);
    }
    score.close()
}

/// One device publishes and one service reads, by a library with the options of its documentation.
fn library(name: &'static str, run: impl Fn(&Stand, &str) -> std::process::Command) -> Outcome {
    let stand = Stand::start()?;
    let mut score = Score::new(name);
    for device in ["sensor-001", "sensor-002"] {
        stand.cli(&["device", "add", device, "--out", "files"])?;
    }
    stand.cli(&["service", "add", "backend-service", "--out", "files"])?;
    let port = stand.port("mqtt")?;
    let mut script = run(&stand, &port);
    script
        .current_dir(stand.folder())
        .env("BAILIWICK_PORT", &port)
        .env("BAILIWICK_FILES", stand.path("files"));
    let (held, said) = tried(script)?;
    for line in said.lines().filter(|line| line.starts_with("ok ")) {
        score.expect(line.trim_start_matches("ok "), true, "");
    }
    score.expect("the script ends well", held, &said);
    score.close()
}

fn mqttjs(_full: bool) -> Outcome {
    library("mqttjs", |_, _| {
        let mut node = command("node", &[&text(root().join("judges/mqttjs.cjs"))]);
        node.env("NODE_PATH", npm_folder().join("node_modules"));
        node
    })
}

fn paho(_full: bool) -> Outcome {
    library("paho", |_, _| {
        let mut python = command("python3", &[&text(root().join("judges/paho_judge.py"))]);
        python.env("PYTHONPATH", python_folder());
        python
    })
}
