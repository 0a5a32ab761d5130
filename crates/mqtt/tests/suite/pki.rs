//! Peers as the real check makes them: a CA, a certificate, a ledger entry, `trust::admit`.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use policy::VerifiedPeer;
use trust::{Admission, Anchor, CertState, DeniedSet, IdentitySource, LedgerEntry, RevokedSet, View};
use types::{DeviceId, Epoch, Mono, Now, Principal, PrincipalKind, ProjectId, Serial, Wall};
use x509::{
    CaPurpose, Certificate, Draft, Profile, SignatureAlgorithm, SubjectTemplate, Usage, assemble, build_tbs,
    verify_chain,
};

/// 2026-08-01T00:00:00Z.
pub(crate) const NOW: Now = Now { mono: Mono(1_000_000_000_000), wall: Wall(1_785_542_400_000) };
const DAY: i64 = 86_400_000;

pub(crate) struct Pki {
    key: EcdsaKeyPair,
    ca: Certificate,
    pub(crate) view: View,
}

pub(crate) static PKI: LazyLock<Pki> = LazyLock::new(Pki::new);

impl Pki {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let ca = certificate(&key, None, "devices ca", Profile::SubCa { purpose: CaPurpose::Clients });
        let anchor = Anchor {
            id: ca.issuer_id_as_ca(),
            label: "devices".to_owned(),
            certificate: ca.clone(),
            kinds: vec![PrincipalKind::Device, PrincipalKind::Service, PrincipalKind::Operator],
            admission: Admission::Registered,
            identity: IdentitySource::CommonName,
        };
        let epoch = Epoch { incarnation: 0, counter: 1 };
        let view = View::new(epoch, vec![anchor], RevokedSet::empty(), DeniedSet::empty()).unwrap();
        Self { key, ca, view }
    }

    pub(crate) fn peer(&self, kind: PrincipalKind, name: &str) -> Arc<VerifiedPeer> {
        let id = DeviceId::parse(name).unwrap();
        let profile = match kind {
            PrincipalKind::Device => Profile::Device { id: id.clone() },
            PrincipalKind::Service => Profile::Service { name: id.clone() },
            PrincipalKind::Operator => Profile::Operator { name: id.clone() },
        };
        let leaf = certificate(&self.key, Some(&self.ca), name, profile);
        let chain =
            verify_chain(self.view.client_anchors(), leaf.der(), &[], NOW.wall, Usage::ClientAuth).unwrap();
        let entry = LedgerEntry {
            der_hash: leaf.der_hash(),
            cert: chain.cert_ref(),
            principal: Principal { kind, name: id },
            anchor: self.ca.issuer_id_as_ca(),
            project: ProjectId::parse(ProjectId::DEFAULT).unwrap(),
            fleet: None,
            state: CertState::Active,
        };
        Arc::new(trust::admit(&self.view, &chain, Some(&entry), NOW).unwrap())
    }
}

fn certificate(
    key: &EcdsaKeyPair,
    issuer: Option<&Certificate>,
    name: &str,
    profile: Profile,
) -> Certificate {
    let mut serial = [7; 20];
    for (byte, of_name) in serial.iter_mut().zip(name.bytes()) {
        *byte ^= of_name;
    }
    let profile = if issuer.is_none() { Profile::Root } else { profile };
    let draft = Draft {
        serial: Serial::from_random(serial),
        issuer: issuer.cloned(),
        common_name: name.to_owned(),
        template: SubjectTemplate::default(),
        spki_der: key.public_key().as_der().unwrap().as_ref().to_vec(),
        not_before: Wall(NOW.wall.0 - DAY),
        not_after: Wall(NOW.wall.0 + 300 * DAY),
        profile,
        signature: SignatureAlgorithm::EcdsaP256Sha256,
        crl_url: None,
        aia_url: None,
    };
    let tbs = build_tbs(&draft).unwrap();
    let signature = key.sign(&SystemRandom::new(), &tbs).unwrap();
    Certificate::parse_der(&assemble(&tbs, SignatureAlgorithm::EcdsaP256Sha256, signature.as_ref())).unwrap()
}
