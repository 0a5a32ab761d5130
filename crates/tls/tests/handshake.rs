//! The server's side of a handshake over real sockets: who is refused, why, and what the client sees.
#![expect(clippy::expect_used, reason = "what a test cannot set up has to fail it at once")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{
    Saw, both_versions, connector, identity, listen, meet, raw_client, read_welcome, side, side_with,
    welcome, within,
};
use testkit::pki::{Leaf, Pki};
use testkit::{FixedClock, fixed_now};
use tls::rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use tls::rustls::{self, HandshakeKind};
use tls::{ClientCertificates, MinVersion, RefusedHandshake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use trust::{Change, Revocation, View};
use types::{Clock, DeviceId, Epoch, Now, PrincipalKind, Reason};

fn shown(leaf: &Leaf) -> Option<(Vec<Vec<u8>>, types::Secret)> {
    Some((leaf.chain_der(), leaf.key_pkcs8()))
}

fn epoch(counter: u64) -> Epoch {
    Epoch { incarnation: 0, counter }
}

#[tokio::test]
async fn a_device_is_admitted_over_both_versions_with_its_evidence() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    for (version, versions) in both_versions() {
        let config = raw_client(default_provider(), versions, shown(&leaf));
        let (accepted, saw, _) = meet(&side.acceptor, config).await;
        let accepted = accepted.expect(version);
        assert_eq!(saw, Saw::Welcome, "{version}");
        let chain = accepted.chain.expect("a chain");
        assert_eq!(chain.leaf().common_names(), ["pump-7"]);
        assert_eq!(chain.issuer(), pki.devices().id());
        assert_eq!(accepted.info.version, version);
        assert_eq!(accepted.info.sni.as_deref(), Some("localhost"));
        let suite = match version {
            "TLSv1.3" => "TLS13_AES_128_GCM_SHA256",
            _ => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        };
        assert_eq!(accepted.info.suite, suite);
        assert_eq!(accepted.view.epoch(), epoch(1));
    }
}

#[tokio::test]
async fn a_client_that_sends_only_its_leaf_is_admitted_and_the_server_sends_its_whole_chain() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    for (version, versions) in both_versions() {
        let config =
            raw_client(default_provider(), versions, Some((vec![leaf.der().to_vec()], leaf.key_pkcs8())));
        let (accepted, saw, stream) = meet(&side.acceptor, config).await;
        assert!(accepted.is_ok(), "{version}");
        assert_eq!(saw, Saw::Welcome);
        let stream = stream.expect("a stream");
        let sent = stream.get_ref().1.peer_certificates().expect("the server's chain");
        assert_eq!(sent.len(), 2, "leaf and servers CA, without the root");
        assert_eq!(sent[1].as_ref(), pki.servers().certificate().der());
        let bytes: usize = sent.iter().map(|der| der.len()).sum();
        assert!(bytes < 4096, "{bytes}");
    }
}

#[tokio::test]
async fn every_wrong_certificate_is_refused_with_its_reason_and_its_alert() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let foreign = pki.foreign();
    let cases: Vec<(&str, Leaf, Reason, &str)> = vec![
        ("same-name foreign CA", foreign.device("pump-7"), Reason::UnknownIssuer, "UnknownCA"),
        ("self-signed", pki.self_signed("pump-7"), Reason::UnknownIssuer, "UnknownCA"),
        ("tampered", pki.tampered("pump-7"), Reason::UnknownIssuer, "UnknownCA"),
        ("expired", pki.expired_device("pump-7"), Reason::Expired, "CertificateExpired"),
        ("not yet valid", pki.not_yet_valid_device("pump-7"), Reason::NotYetValid, "CertificateExpired"),
        ("serverAuth only", pki.wrong_usage("pump-7"), Reason::WrongUsage, "UnsupportedCertificate"),
        ("CA bit", pki.with_ca_bit("pump-7"), Reason::WrongUsage, "UnsupportedCertificate"),
        ("X.509 v1", pki.version_one("pump-7"), Reason::VersionOne, "UnsupportedCertificate"),
        ("wildcard name", pki.odd_name("+"), Reason::BadName, "BadCertificate"),
        ("two names", pki.two_names("pump-7", "pump-8"), Reason::BadName, "BadCertificate"),
        ("no name", pki.no_name(), Reason::BadName, "BadCertificate"),
    ];
    for (version, versions) in both_versions() {
        for (what, leaf, reason, alert) in &cases {
            let config = raw_client(default_provider(), versions, shown(leaf));
            let (accepted, saw, _) = meet(&side.acceptor, config).await;
            let refused = accepted.err().unwrap_or_else(|| panic!("{what} was admitted over {version}"));
            assert_eq!(refused.reason, *reason, "{what} {version}: {}", refused.detail);
            assert_eq!(saw, Saw::Alert((*alert).to_owned()), "{what} {version}");
            assert_eq!(refused.sni.as_deref(), Some("localhost"), "{what}");
            let certificate = leaf.certificate();
            assert_eq!(refused.serial, Some(certificate.serial()), "{what}");
            assert_eq!(refused.subject, Some(certificate.subject_text()), "{what}");
            assert_eq!(refused.issuer, Some(certificate.issuer_text()), "{what}");
        }
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let pki = Pki::fixed();
    let side = side(&pki);
    for ((version, versions), alert) in
        both_versions().into_iter().zip(["CertificateRequired", "CertificateRequired"])
    {
        let (accepted, saw, _) = meet(&side.acceptor, raw_client(default_provider(), versions, None)).await;
        let refused = accepted.err().expect("refused");
        assert_eq!(refused.reason, Reason::NoCertificate, "{version}");
        assert_eq!(saw, Saw::Alert(alert.to_owned()), "{version}");
        assert_eq!((refused.subject, refused.serial), (None, None));
    }
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_but_not_wrong() {
    let pki = Pki::fixed();
    let server = identity(&pki.localhost());
    let clock = Arc::new(FixedClock::default());
    let side = side_with(&pki, server, ClientCertificates::Optional, MinVersion::V12, &[], clock);
    for (_, versions) in both_versions() {
        let (accepted, saw, _) = meet(&side.acceptor, raw_client(default_provider(), versions, None)).await;
        assert!(accepted.expect("admitted").chain.is_none());
        assert_eq!(saw, Saw::Welcome);
        let right = raw_client(default_provider(), versions, shown(&pki.device("pump-7")));
        assert!(meet(&side.acceptor, right).await.0.expect("admitted").chain.is_some());
        let wrong = raw_client(default_provider(), versions, shown(&pki.expired_device("pump-7")));
        assert_eq!(meet(&side.acceptor, wrong).await.0.err().expect("refused").reason, Reason::Expired);
    }
}

#[tokio::test]
async fn revoked_suspended_and_denied_devices_are_refused_from_the_next_handshake_on() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    let cert = leaf.cert_ref();
    let name = DeviceId::parse("PUMP-7").unwrap();
    let changes = [
        (
            Change { revoke: vec![(cert, Revocation::Revoked)], ..Change::default() },
            Reason::Revoked,
            "CertificateRevoked",
        ),
        (
            Change { revoke: vec![(cert, Revocation::Suspended)], ..Change::default() },
            Reason::Suspended,
            "CertificateRevoked",
        ),
        (Change { deny: vec![name], ..Change::default() }, Reason::Denied, "AccessDenied"),
        (
            Change { revoke_issuers: vec![pki.devices().id()], ..Change::default() },
            Reason::IssuerInvalid,
            "UnknownCA",
        ),
    ];
    for (version, versions) in both_versions() {
        for (change, reason, alert) in &changes {
            let before = pki.view();
            side.view.send_replace(Arc::new(before.clone()));
            let config = raw_client(default_provider(), versions, shown(&leaf));
            assert!(meet(&side.acceptor, config.clone()).await.0.is_ok(), "{version} {reason:?}");
            let after = before.with(Change { epoch: epoch(2), ..change.clone() });
            side.view.send_replace(Arc::new(after));
            let (accepted, saw, _) = meet(&side.acceptor, config).await;
            assert_eq!(accepted.err().expect("refused").reason, *reason, "{version}");
            assert_eq!(saw, Saw::Alert((*alert).to_owned()), "{version} {reason:?}");
        }
    }
}

/// A clock that revokes the device the moment the verifier, which already holds its view, reads it.
struct RevokingClock {
    view: watch::Sender<Arc<View>>,
    after: Arc<View>,
    reads: AtomicUsize,
}

impl Clock for RevokingClock {
    fn now(&self) -> Now {
        // rustls itself reads the clock once before it asks the verifier.
        if self.reads.fetch_add(1, Ordering::SeqCst) == 1 {
            self.view.send_replace(self.after.clone());
        }
        fixed_now()
    }
}

#[tokio::test]
async fn a_revocation_during_the_handshake_refuses_at_its_end() {
    let pki = Pki::fixed();
    let leaf = pki.device("pump-7");
    for (version, versions) in both_versions() {
        let (view, watched) = watch::channel(Arc::new(pki.view()));
        let change = Change {
            epoch: epoch(2),
            revoke: vec![(leaf.cert_ref(), Revocation::Revoked)],
            ..Change::default()
        };
        let after = Arc::new(pki.view().with(change));
        let clock = Arc::new(RevokingClock { view, after, reads: AtomicUsize::new(0) });
        let live = Arc::new(tls::LiveIdentity::new(identity(&pki.localhost())));
        let acceptor = tls::Acceptor::new(
            live,
            watched,
            ClientCertificates::Required,
            Vec::new(),
            MinVersion::V12,
            clock.clone(),
        )
        .expect("an acceptor");
        let config = raw_client(default_provider(), versions, shown(&leaf));
        let (accepted, saw, _) = meet(&acceptor, config).await;
        let refused = accepted.err().expect(version);
        assert_eq!(refused.reason, Reason::Revoked, "{version}");
        assert_eq!(refused.serial, Some(leaf.certificate().serial()));
        assert!(matches!(saw, Saw::Other(_)), "the handshake itself had passed: {saw:?}");
        assert!(clock.reads.load(Ordering::SeqCst) >= 2);
    }
}

#[tokio::test]
async fn no_session_resumes_so_a_revoked_certificate_cannot_come_back_in() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    for (version, versions) in both_versions() {
        side.view.send_replace(Arc::new(pki.view()));
        // One configuration for all, with rustls's own session cache switched on.
        let config = raw_client(default_provider(), versions, shown(&leaf));
        for round in 0..3 {
            let (accepted, saw, stream) = meet(&side.acceptor, config.clone()).await;
            assert!(accepted.is_ok(), "{version} {round}");
            assert_eq!(saw, Saw::Welcome);
            let kind = stream.expect("a stream").get_ref().1.handshake_kind();
            assert!(
                matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)),
                "{version} {round}: {kind:?}"
            );
        }
        let change = Change {
            epoch: epoch(2),
            revoke: vec![(leaf.cert_ref(), Revocation::Revoked)],
            ..Change::default()
        };
        side.view.send_replace(Arc::new(pki.view().with(change)));
        let (accepted, _, _) = meet(&side.acceptor, config).await;
        assert_eq!(accepted.err().expect("refused").reason, Reason::Revoked, "{version}");
    }
}

#[tokio::test]
async fn key_exchange_is_x25519_or_p256_and_never_p384() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    for (version, versions) in both_versions() {
        // The order of an mbedTLS 2.28 client, and what it gets.
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::SECP384R1, kx_group::SECP256R1];
        let (accepted, _, _) = meet(&side.acceptor, raw_client(provider, versions, shown(&leaf))).await;
        assert_eq!(accepted.expect(version).info.group, "secp256r1", "{version}");

        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519];
        let (accepted, _, _) = meet(&side.acceptor, raw_client(provider, versions, shown(&leaf))).await;
        assert_eq!(accepted.expect(version).info.group, "X25519", "{version}");

        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::SECP384R1];
        let (accepted, saw, _) = meet(&side.acceptor, raw_client(provider, versions, shown(&leaf))).await;
        let refused = accepted.err().expect(version);
        assert_eq!(refused.reason, Reason::TlsFailed);
        assert!(refused.detail.starts_with("no common version, suite or group"), "{}", refused.detail);
        assert_eq!(saw, Saw::Alert("HandshakeFailure".to_owned()));
    }
}

#[tokio::test]
async fn a_suite_outside_row_b1_is_refused() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    let suites = [
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    for suite in suites {
        let mut provider = default_provider();
        provider.cipher_suites = vec![suite];
        let versions = [suite.version()];
        let (accepted, saw, _) = meet(&side.acceptor, raw_client(provider, &versions, shown(&leaf))).await;
        assert_eq!(accepted.err().expect("refused").reason, Reason::TlsFailed, "{suite:?}");
        assert_eq!(saw, Saw::Alert("HandshakeFailure".to_owned()), "{suite:?}");
    }
}

#[tokio::test]
async fn a_listener_of_1_3_refuses_1_2() {
    let pki = Pki::fixed();
    let clock = Arc::new(FixedClock::default());
    let side = side_with(
        &pki,
        identity(&pki.localhost()),
        ClientCertificates::Required,
        MinVersion::V13,
        &[],
        clock,
    );
    let leaf = pki.device("pump-7");
    for ((version, versions), admitted) in both_versions().into_iter().zip([false, true]) {
        let (accepted, _, _) =
            meet(&side.acceptor, raw_client(default_provider(), versions, shown(&leaf))).await;
        assert_eq!(accepted.is_ok(), admitted, "{version}");
    }
}

#[tokio::test]
async fn protocols_are_agreed_on_by_alpn_and_a_client_without_a_list_is_taken() {
    let pki = Pki::fixed();
    let clock = Arc::new(FixedClock::default());
    let server = identity(&pki.localhost());
    let side = side_with(
        &pki,
        server,
        ClientCertificates::Required,
        MinVersion::V12,
        &[b"mqtt", b"http/1.1"],
        clock,
    );
    let leaf = pki.device("pump-7");
    for (offered, agreed) in [
        (vec![], Ok(None)),
        (vec!["http/1.1"], Ok(Some("http/1.1"))),
        (vec!["h2", "mqtt"], Ok(Some("mqtt"))),
        (vec!["h2"], Err(())),
    ] {
        let config = raw_client(default_provider(), &[&rustls::version::TLS13], shown(&leaf));
        let mut config = (*config).clone();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (accepted, saw, _) = meet(&side.acceptor, Arc::new(config)).await;
        match agreed {
            Ok(name) => {
                assert_eq!(accepted.expect("admitted").info.alpn.as_deref(), name.map(str::as_bytes));
            }
            Err(()) => {
                assert_eq!(accepted.err().expect("refused").reason, Reason::TlsFailed);
                assert_eq!(saw, Saw::Alert("NoApplicationProtocol".to_owned()));
            }
        }
    }
}

#[tokio::test]
async fn the_same_client_has_the_same_fingerprint_and_another_has_another() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    let mut prints = Vec::new();
    for versions in [[&rustls::version::TLS13], [&rustls::version::TLS13], [&rustls::version::TLS12]] {
        let config = raw_client(default_provider(), &versions, shown(&leaf));
        prints.push(meet(&side.acceptor, config).await.0.expect("admitted").info.fingerprint);
    }
    assert_eq!(prints[0], prints[1]);
    assert_ne!(prints[0], prints[2]);
}

/// What the server makes of a client that sends these bytes and closes.
async fn refused_bytes(side: &common::Side, bytes: &[u8]) -> RefusedHandshake {
    let (listener, address) = listen().await;
    let client = async {
        let mut tcp = TcpStream::connect(address).await.expect("connected");
        tcp.write_all(bytes).await.expect("sent");
        tcp.shutdown().await.expect("closed");
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
    };
    let server = async {
        let (tcp, _) = listener.accept().await.expect("accepted");
        side.acceptor.accept(tcp).await.err().expect("refused")
    };
    within(async { tokio::join!(server, client).0 }).await
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_refused_in_words_that_say_so() {
    let side = side(&Pki::fixed());
    for (bytes, reason, detail) in [
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
            Reason::TlsFailed,
            "plain HTTP bytes on a TLS port",
        ),
        (
            b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab",
            Reason::TlsFailed,
            "plain MQTT bytes on a TLS port",
        ),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07", Reason::TlsFailed, "bytes that are not TLS on a TLS port"),
        (b"", Reason::ConnectionLost, "closed before the first byte"),
        (b"\x16\x03\x01\x00", Reason::ConnectionLost, "lost during the handshake: unexpected end of file"),
    ] {
        let refused = refused_bytes(&side, bytes).await;
        assert_eq!((refused.reason, refused.detail.as_str()), (reason, detail), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_silent_client_runs_into_the_deadline_and_blocks_nobody() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let (listener, address) = listen().await;
    let silent = TcpStream::connect(address).await.expect("connected");
    let (first, _) = listener.accept().await.expect("accepted");
    let acceptor = side.acceptor.clone();
    let deadline = Duration::from_millis(400);
    let waiting =
        tokio::spawn(async move { tokio::time::timeout(deadline, acceptor.accept(first)).await.is_err() });
    // While it is waited for, another comes in.
    let config = raw_client(default_provider(), &[&rustls::version::TLS13], shown(&pki.device("pump-7")));
    let (accepted, saw, _) = meet(&side.acceptor, config).await;
    assert!(accepted.is_ok());
    assert_eq!(saw, Saw::Welcome);
    assert!(within(waiting).await.expect("joined"), "the silent one ran into its deadline");
    drop(silent);
}

#[tokio::test]
async fn data_behind_the_finished_is_not_lost_when_the_parts_are_taken() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    let (listener, address) = listen().await;
    let connector = connector(&pki, Some(&leaf));
    let client = async {
        let tcp = TcpStream::connect(address).await.expect("connected");
        let mut stream = connector.connect_over(tcp, "localhost").await.expect("verified");
        stream.write_all(b"CONNECT").await.expect("sent");
        read_welcome(&mut stream).await
    };
    let server = async {
        let (tcp, _) = listener.accept().await.expect("accepted");
        let mut accepted = side.acceptor.accept(tcp).await.expect("admitted");
        let mut heard = Vec::new();
        while heard.len() < 7 {
            let mut plain = [0; 16];
            match std::io::Read::read(&mut accepted.tls.reader(), &mut plain) {
                Ok(len) => heard.extend_from_slice(&plain[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut bytes = [0; 512];
                    let len = accepted.tcp.read(&mut bytes).await.expect("read");
                    assert!(len > 0);
                    accepted.tls.read_tls(&mut &bytes[..len]).expect("taken in");
                    accepted.tls.process_new_packets().expect("decrypted");
                }
                Err(error) => panic!("{error}"),
            }
        }
        welcome(&mut accepted).await;
        heard
    };
    let (heard, saw) = within(async { tokio::join!(server, client) }).await;
    assert_eq!(heard, b"CONNECT");
    assert_eq!(saw, Saw::Welcome);
}

#[tokio::test]
async fn a_replaced_identity_is_shown_from_the_next_handshake_on() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.device("pump-7");
    let second = pki.localhost();
    for (replace, serial) in
        [(None, side.identity.leaf().serial()), (Some(identity(&second)), second.certificate().serial())]
    {
        if let Some(replacement) = replace {
            side.identity.replace(replacement);
        }
        let config = raw_client(default_provider(), &[&rustls::version::TLS13], shown(&leaf));
        let (_, _, stream) = meet(&side.acceptor, config).await;
        let stream = stream.expect("a stream");
        let sent = &stream.get_ref().1.peer_certificates().expect("a chain")[0];
        assert_eq!(x509::Certificate::parse_der(sent).unwrap().serial(), serial);
    }
}

#[tokio::test]
async fn a_live_connection_is_rechecked_against_the_newest_view() {
    let pki = Pki::fixed();
    let side = side(&pki);
    let leaf = pki.service("backend");
    let chain = pki.chain(&leaf, fixed_now().wall).expect("a chain");
    assert!(side.acceptor.recheck(&chain).is_ok());
    let deny = vec![DeviceId::parse("backend").unwrap()];
    let change = Change { epoch: epoch(2), deny, ..Change::default() };
    side.view.send_replace(Arc::new(pki.view().with(change)));
    assert_eq!(side.acceptor.recheck(&chain).unwrap_err().reason, Reason::Denied);
    assert_eq!(pki.authority(PrincipalKind::Service).id(), chain.issuer());
}
