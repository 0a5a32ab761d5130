//! What anybody may fetch: the CA bundle, CA certificates, CRLs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::time::Duration;

use common::*;
use enroll::{plain_router, publish_due};
use http::Method;
use serde_json::Value;
use types::hex;
use x509::{Certificate, Crl, SignatureAlgorithm};

#[tokio::test]
async fn the_bundle_is_signed_over_its_canonical_body_and_holds_what_the_bootstrap_pins() {
    let world = World::new().await;
    let answer = world.get("/ca/bundle").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let json = answer.json();
    let certificates = |field: &str| -> Vec<Certificate> {
        json[field]
            .as_array()
            .unwrap()
            .iter()
            .map(|pem| Certificate::parse_pem(pem.as_str().unwrap()).unwrap())
            .collect()
    };
    let (roots, intermediates) = (certificates("roots"), certificates("intermediates"));
    assert_eq!((roots.len(), intermediates.len(), &json["version"]), (1, 3, &Value::from(4)));
    // A reader rebuilds the body from what it parsed.
    let mut body = "version 4\n".to_owned();
    for root in &roots {
        body += &format!("root {}\n", hex(&x509::sha256(root.der())));
    }
    for intermediate in &intermediates {
        body += &format!("intermediate {}\n", hex(&x509::sha256(intermediate.der())));
    }
    let signature = &json["signature"];
    assert_eq!(signature["algorithm"], "ecdsa-p256-sha256");
    let (_, spki) = x509::pem::decode(signature["key"].as_str().unwrap()).unwrap().remove(0);
    let value = signature["value"].as_str().unwrap();
    let value = <base64ct::Base64 as base64ct::Encoding>::decode_vec(value).unwrap();
    let check = |body: &str| {
        let message = signer::bundle_message(body.as_bytes());
        x509::verify_signature(&spki, SignatureAlgorithm::EcdsaP256Sha256, &message, &value)
    };
    check(&body).unwrap();
    check(&body.replace("version 4", "version 5")).unwrap_err();
    // The bootstrap of a device finds its pinned root in it, and nothing else.
    let pinned = tls::roots_matching(&answer.body, &[world.pki.root().certificate().spki_hash()]).unwrap();
    assert_eq!(pinned.len(), 1);
    assert_eq!(pinned[0].der(), world.pki.root().certificate().der());
    tls::roots_matching(&answer.body, &[issuing(&world.pki, "devices").certificate().spki_hash()])
        .unwrap_err();
}

#[tokio::test]
async fn what_a_cache_has_is_not_sent_again() {
    let world = World::new().await;
    publish_due(&world.enroll, world.store.view().epoch(), world.now()).await.unwrap();
    let id = issuing(&world.pki, "devices").id();
    for path in [
        "/ca/bundle".to_owned(),
        format!("/ca/{id}.cer"),
        format!("/crl/{id}/0.crl"),
        format!("/crl/{id}/0.pem"),
    ] {
        let first = world.get(&path).await;
        let etag = first.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.ends_with('"'), "{path}: {etag}");
        let mut again = request(Method::GET, &path, None);
        again.headers_mut().insert("if-none-match", format!("\"other\", W/{etag}").parse().unwrap());
        let again = send(&world.router, again).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{path}");
        assert_eq!(again.header("etag"), etag);
        let mut other = request(Method::GET, &path, None);
        other.headers_mut().insert("if-none-match", "\"other\"".parse().unwrap());
        assert_eq!(send(&world.router, other).await.body, first.body);
    }
}

#[tokio::test]
async fn ca_certificates_are_der_by_id_or_label_and_pem_for_people() {
    let world = World::new().await;
    let devices = issuing(&world.pki, "devices").certificate();
    for name in [devices.issuer_id_as_ca().to_string(), "devices".to_owned()] {
        let answer = world.get(&format!("/ca/{name}.cer")).await;
        assert_eq!(answer.header("content-type"), "application/pkix-cert");
        assert_eq!(answer.body, devices.der());
        assert_eq!(answer.header("cache-control"), "public, max-age=86400, must-revalidate");
    }
    assert_eq!(world.get("/ca/root.cer").await.body, world.pki.root().certificate().der());
    assert_eq!(world.get("/ca/root.pem").await.text(), world.pki.root().certificate().to_pem());
    let id = world.pki.root().certificate().issuer_id_as_ca();
    assert_eq!(world.get(&format!("/ca/{id}.cer")).await.body, world.pki.root().certificate().der());
    for missing in ["/ca/nobody.cer", "/ca/root.txt", "/ca/root", "/ca/00000000000000000000000000000000.cer"]
    {
        assert_eq!(world.get(missing).await.problem().0, 404, "{missing}");
    }
}

#[tokio::test]
async fn a_crl_is_der_or_pem_and_may_be_kept_until_its_next_update() {
    let world = World::new().await;
    let issuer = issuing(&world.pki, "devices");
    let path = format!("/crl/{}/0.crl", issuer.id());
    let none = world.get(&path).await;
    assert_eq!(none.problem().1, "crl.none_yet");
    publish_due(&world.enroll, world.store.view().epoch(), world.now()).await.unwrap();
    let der = world.get(&path).await;
    assert_eq!(der.header("content-type"), "application/pkix-crl");
    assert_eq!(der.header("cache-control"), "public, max-age=604800, must-revalidate");
    let crl = Crl::parse_der(&der.body).unwrap();
    crl.verify(issuer.certificate()).unwrap();
    crl.verify(issuing(&world.pki, "services").certificate()).unwrap_err();
    assert!(crl.serials().is_empty());
    world.clock.advance(Duration::from_secs(86_400));
    let pem = world.get("/crl/devices/0.pem").await;
    assert_eq!(pem.header("cache-control"), "public, max-age=518400, must-revalidate");
    assert_eq!(x509::pem::decode(&pem.text()).unwrap(), [("X509 CRL".to_owned(), der.body)]);
    world.clock.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(world.get(&path).await.header("cache-control"), "public, max-age=0, must-revalidate");
    for missing in ["/crl/devices/1.crl", "/crl/devices/0.txt", "/crl/nobody/0.crl", "/crl/devices"] {
        assert_eq!(world.get(missing).await.problem().0, 404, "{missing}");
    }
    // Nobody has made a list of the root's.
    assert_eq!(
        world
            .get(&format!("/crl/{}/0.crl", world.pki.root().certificate().issuer_id_as_ca()))
            .await
            .problem()
            .0,
        503
    );
}

#[tokio::test]
async fn the_plain_listener_has_crls_and_ca_certificates_and_nothing_else() {
    let world = World::new().await;
    publish_due(&world.enroll, world.store.view().epoch(), world.now()).await.unwrap();
    let plain = plain_router(&world.enroll);
    for (method, path, status) in [
        (Method::GET, "/ca/devices.cer", 200),
        (Method::HEAD, "/ca/devices.cer", 200),
        (Method::GET, "/crl/devices/0.crl", 200),
        (Method::GET, "/ca/bundle", 404),
        (Method::POST, "/provision", 404),
        (Method::POST, "/ca/devices.cer", 405),
        (Method::GET, "/", 404),
    ] {
        let answer = send(&plain, request(method.clone(), path, None)).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
    }
}
