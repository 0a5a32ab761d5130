//! The client's side: false servers, each refused by its own check, and the bootstrap with a pinned root.
#![expect(clippy::expect_used, reason = "what a test cannot set up has to fail it at once")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use common::{connector, identity, listen, side_with, within};
use serde_json::json;
use testkit::pki::{Leaf, Pki};
use testkit::{FixedClock, Recorder, fixed_now};
use tls::http::{HttpLimits, serve};
use tls::{
    ClientCertificates, Connector, Identity, MinVersion, ServerRefused, TlsError, pinned_root, roots_matching,
};
use tokio::sync::watch;
use types::{Blame, Now, Secret, SpkiHash, Wall};

fn loopback() -> IpAddr {
    "127.0.0.1".parse().expect("an address")
}

/// Lets our client meet a server that shows `chain`: what each made of the other.
async fn meet(
    connector: &Connector,
    pki: &Pki,
    server: Identity,
    host: &str,
) -> (Result<(), TlsError>, String) {
    let clock = Arc::new(FixedClock::default());
    let side = side_with(pki, server, ClientCertificates::NotAsked, MinVersion::V12, &[], clock);
    let (listener, address) = listen().await;
    let serving = async {
        let (tcp, _) = listener.accept().await.expect("accepted");
        match side.acceptor.accept(tcp).await {
            Ok(_) => "admitted".to_owned(),
            Err(refused) => refused.detail,
        }
    };
    let calling = async { connector.connect_to(address, host).await.map(drop) };
    let (called, served) = within(async { tokio::join!(calling, serving) }).await;
    (called, served)
}

#[tokio::test]
async fn each_false_server_is_refused_by_its_own_check_and_is_told_so() {
    let pki = Pki::fixed();
    let connector = connector(&pki, None);
    let hosts = ["localhost"];
    let ips = [loopback()];
    let cases: Vec<(&str, Leaf, &str, ServerRefused, &str)> = vec![
        ("same-name CA", pki.foreign().localhost(), "localhost", ServerRefused::UnknownIssuer, "UnknownCA"),
        (
            "wrong host",
            pki.server(&["other.example"], &[]),
            "localhost",
            ServerRefused::WrongHost,
            "BadCertificate",
        ),
        (
            "wrong address",
            pki.server(&["localhost"], &[]),
            "127.0.0.1",
            ServerRefused::WrongHost,
            "BadCertificate",
        ),
        (
            "expired",
            pki.expired_server(&hosts, &ips),
            "localhost",
            ServerRefused::Expired,
            "CertificateExpired",
        ),
        (
            "devices CA",
            pki.server_by_devices_ca(&hosts, &ips),
            "localhost",
            ServerRefused::NotAServersCa,
            "UnsupportedCertificate",
        ),
        ("a device", pki.device("pump-7"), "localhost", ServerRefused::WrongUsage, "UnsupportedCertificate"),
        (
            "self-signed",
            pki.self_signed("pump-7"),
            "localhost",
            ServerRefused::WrongUsage,
            "UnsupportedCertificate",
        ),
    ];
    for (what, leaf, host, refused, alert) in cases {
        let (called, served) = meet(&connector, &pki, identity(&leaf), host).await;
        let error = called.expect_err(what);
        assert_eq!(error.server_refused(), Some(refused), "{what}: {error}");
        assert_eq!(error.blame(), Blame::Peer);
        assert_eq!(error.code(), refused.code());
        assert_eq!(served, format!("the client refused us with the TLS alert {alert}"), "{what}");
    }
}

#[tokio::test]
async fn the_right_server_is_believed_by_name_and_by_address_over_both_versions() {
    let pki = Pki::fixed();
    let clock = Arc::new(FixedClock::default());
    let roots = [pki.root().certificate().clone()];
    let both =
        [connector(&pki, None), Connector::new_tls12(&roots, None, clock, Vec::new()).expect("a connector")];
    for connector in &both {
        for host in ["localhost", "LOCALHOST", "127.0.0.1"] {
            let (called, served) = meet(connector, &pki, identity(&pki.localhost()), host).await;
            assert_eq!((called, served.as_str()), (Ok(()), "admitted"), "{host}");
        }
        let wild = pki.server(&["*.fleet.example"], &[]);
        for (host, admitted) in
            [("a.fleet.example", true), ("fleet.example", false), ("a.b.fleet.example", false)]
        {
            let (called, _) = meet(connector, &pki, identity(&wild), host).await;
            assert_eq!(called.is_ok(), admitted, "{host}");
        }
    }
}

#[tokio::test]
async fn a_server_that_leaves_its_chain_out_is_refused() {
    let pki = Pki::fixed();
    let leaf = pki.localhost();
    let server = Identity::new(vec![leaf.certificate()], &leaf.key_pkcs8()).expect("an identity");
    let (called, _) = meet(&connector(&pki, None), &pki, server, "localhost").await;
    assert_eq!(called.expect_err("refused").server_refused(), Some(ServerRefused::UnknownIssuer));
}

#[tokio::test]
async fn a_sub_ca_that_is_held_as_a_root_is_no_way_around_the_servers_ca() {
    let pki = Pki::fixed();
    let devices = [pki.devices().certificate().clone()];
    let held =
        Connector::new(&devices, None, Arc::new(FixedClock::default()), Vec::new()).expect("a connector");
    let (called, _) =
        meet(&held, &pki, identity(&pki.server_by_devices_ca(&["localhost"], &[])), "localhost").await;
    assert_eq!(called.expect_err("refused").server_refused(), Some(ServerRefused::NotAServersCa));
}

#[tokio::test]
async fn a_date_that_refuses_is_told_so_that_a_lost_clock_can_be_mended() {
    let pki = Pki::fixed();
    let roots = [pki.root().certificate().clone()];
    let at = |wall: Wall| {
        let clock = Arc::new(FixedClock(Now { wall, ..fixed_now() }));
        Connector::new(&roots, None, clock, Vec::new()).expect("a connector")
    };
    let leaf = pki.localhost();
    let certificate = leaf.certificate();
    let second = std::time::Duration::from_secs(1);
    for (wall, expected) in [
        (Wall(0), Some((ServerRefused::NotYetValid, certificate.not_before()))),
        (
            certificate.not_before().minus(second),
            Some((ServerRefused::NotYetValid, certificate.not_before())),
        ),
        (certificate.not_before(), None),
        (certificate.not_after(), None),
        (certificate.not_after().plus(second), Some((ServerRefused::Expired, certificate.not_after()))),
    ] {
        let (called, _) = meet(&at(wall), &pki, identity(&leaf), "localhost").await;
        let found = match called {
            Ok(()) => None,
            Err(TlsError::Server { refused, date, .. }) => Some((refused, date.expect("a date"))),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, expected, "{wall}");
    }
}

#[tokio::test]
async fn a_refused_client_learns_the_alert() {
    let pki = Pki::fixed();
    let side = common::side(&pki);
    let (listener, address) = listen().await;
    let expired = pki.expired_device("pump-7");
    let connector = connector(&pki, Some(&expired));
    let calling = async {
        let mut stream =
            connector.connect_to(address, "localhost").await.expect("TLS 1.3 is done before the alert");
        let error = tokio::io::AsyncReadExt::read_u8(&mut stream).await.expect_err("refused");
        TlsError::from_io(&error)
    };
    let serving = async { side.acceptor.accept(listener.accept().await.expect("accepted").0).await.is_err() };
    let (error, refused) = within(async { tokio::join!(calling, serving) }).await;
    assert!(refused);
    assert_eq!(error, TlsError::Alert { alert: "CertificateExpired".to_owned() });
}

#[tokio::test]
async fn what_cannot_be_reached_says_so() {
    let pki = Pki::fixed();
    let (listener, address) = listen().await;
    drop(listener);
    let error = connector(&pki, None).connect("127.0.0.1", address.port()).await.expect_err("closed");
    assert!(matches!(error, TlsError::Unreachable { .. }), "{error}");
    let error = connector(&pki, None).connect("not a host", 1).await.expect_err("no host");
    assert!(matches!(error, TlsError::Unreachable { .. } | TlsError::BadHost { .. }), "{error}");
    // A server that speaks no TLS.
    let (listener, address) = listen().await;
    let answering = async {
        let (mut tcp, _) = listener.accept().await.expect("accepted");
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"HTTP/1.1 400 no\r\n\r\n").await.expect("sent");
        let mut sink = [0; 1024];
        let _ = tokio::io::AsyncReadExt::read(&mut tcp, &mut sink).await;
    };
    let connector = connector(&pki, None);
    let (called, ()) =
        within(async { tokio::join!(connector.connect_to(address, "localhost"), answering) }).await;
    assert!(matches!(called.map(drop), Err(TlsError::Handshake { .. })));
}

#[test]
fn an_identity_is_a_chain_and_its_own_key_within_the_size() {
    let pki = Pki::fixed();
    let leaf = pki.localhost();
    let other = pki.localhost();
    let made = |chain, key: &Secret| Identity::new(chain, key).map(|identity| identity.leaf().serial());
    assert_eq!(made(leaf.chain(), &leaf.key_pkcs8()), Ok(leaf.certificate().serial()));
    assert_eq!(made(Vec::new(), &leaf.key_pkcs8()), Err(TlsError::EmptyChain));
    let subject = leaf.certificate().subject_text();
    assert_eq!(made(leaf.chain(), &other.key_pkcs8()), Err(TlsError::KeyMismatch { subject }));
    assert!(matches!(made(leaf.chain(), &Secret::new(vec![1, 2, 3])), Err(TlsError::BadKey { .. })));
    let long = [leaf.chain(), leaf.chain(), leaf.chain(), leaf.chain(), leaf.chain(), leaf.chain()].concat();
    match made(long, &leaf.key_pkcs8()) {
        Err(TlsError::ChainTooLong { bytes }) => assert!(bytes > 4096),
        other => panic!("{other:?}"),
    }
}

/// A server whose `/ca/bundle` answers `body`.
async fn bundle_server(pki: &Pki, status: u16, body: String) -> (u16, watch::Sender<bool>) {
    let clock = Arc::new(FixedClock::default());
    let side = side_with(
        pki,
        identity(&pki.localhost()),
        ClientCertificates::Optional,
        MinVersion::V12,
        &[b"http/1.1"],
        clock,
    );
    let (listener, address) = listen().await;
    let (stop, stopped) = watch::channel(false);
    let answer = move || {
        let body = body.clone();
        async move { (axum::http::StatusCode::from_u16(status).expect("a status"), body) }
    };
    let router = Router::new().route("/ca/bundle", get(answer));
    let observer = Arc::new(Recorder::new());
    let acceptor = side.acceptor.clone();
    tokio::spawn(async move {
        let _view = side.view;
        serve(listener, Some(acceptor), router, HttpLimits::default(), observer, stopped).await;
    });
    (address.port(), stop)
}

#[tokio::test]
async fn the_pinned_root_is_taken_and_all_else_is_discarded() {
    let pki = Pki::fixed();
    let foreign = pki.foreign();
    let body = json!({
        "version": 5,
        "roots": [foreign.root_pem(), pki.root_pem()],
        "intermediates": [pki.servers().certificate().to_pem()],
        "signature": {"key": "-----BEGIN PUBLIC KEY-----"},
    });
    for body in [body.to_string(), format!("{}{}", foreign.root_pem(), pki.root_pem())] {
        let (port, _stop) = bundle_server(&pki, 200, body).await;
        let root =
            within(pinned_root("127.0.0.1", port, &[SpkiHash([9; 32]), pki.pin()])).await.expect("the root");
        assert_eq!(root.der(), pki.root().certificate().der());
    }
}

#[tokio::test]
async fn another_root_is_refused_whatever_its_name() {
    let pki = Pki::fixed();
    let foreign = pki.foreign();
    for (status, body, pins, words) in [
        (
            200,
            json!({"roots": [foreign.root_pem()]}).to_string(),
            vec![pki.pin()],
            "1 certificates offered, none with a pinned key",
        ),
        (
            200,
            json!({"roots": []}).to_string(),
            vec![pki.pin()],
            "0 certificates offered, none with a pinned key",
        ),
        (
            200,
            json!({"roots": [pki.root_pem()]}).to_string(),
            vec![],
            "1 certificates offered, none with a pinned key",
        ),
        (200, "nothing".to_owned(), vec![pki.pin()], "0 certificates offered, none with a pinned key"),
        (
            404,
            json!({"roots": [pki.root_pem()]}).to_string(),
            vec![pki.pin()],
            "the server answered 404 Not Found",
        ),
    ] {
        let (port, _stop) = bundle_server(&pki, status, body).await;
        let error = within(pinned_root("localhost", port, &pins)).await.expect_err(words);
        assert_eq!(error, TlsError::PinnedRoot { detail: words.to_owned() });
    }
}

#[tokio::test]
async fn an_endless_bundle_is_cut_off() {
    let pki = Pki::fixed();
    let (port, _stop) = bundle_server(&pki, 200, "x".repeat(300 * 1024)).await;
    let error = within(pinned_root("localhost", port, &[pki.pin()])).await.expect_err("too large");
    assert_eq!(error, TlsError::AnswerTooLarge { limit: 256 * 1024 });
}

#[test]
fn a_pinned_key_alone_does_not_make_a_root() {
    let pki = Pki::fixed();
    let servers = pki.servers().certificate();
    let error = roots_matching(servers.to_pem().as_bytes(), &[servers.spki_hash()]).expect_err("no root");
    let words = "the certificate with the pinned key is not self-issued";
    assert_eq!(error, TlsError::PinnedRoot { detail: words.to_owned() });

    let own = pki.self_signed("pump-7").certificate();
    let error = roots_matching(own.to_pem().as_bytes(), &[own.spki_hash()]).expect_err("no CA");
    assert_eq!(
        error,
        TlsError::PinnedRoot { detail: "the certificate with the pinned key is no CA".to_owned() }
    );

    // One bit of the signed bytes changed, the key left as it is.
    let mut der = pki.root().certificate().der().to_vec();
    let serial_at = 18;
    der[serial_at] ^= 1;
    let forged = x509::Certificate::parse_der(&der).expect("still readable");
    assert_eq!(forged.spki_hash(), pki.pin());
    let error = roots_matching(forged.to_pem().as_bytes(), &[pki.pin()]).expect_err("not self-signed");
    assert!(error.to_string().contains("self-signature"), "{error}");
    assert!(roots_matching(&[0xff, 0xfe], &[pki.pin()]).is_err());
}
