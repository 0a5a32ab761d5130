//! Keys, CAs and fixed dates for the tests; nothing here is secret and nothing is committed.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use types::{DeviceId, Serial, Wall};
use x509::{
    CaPurpose, Certificate, Crl, CrlEntry, CrlHead, Draft, KeyKind, Profile, SignatureAlgorithm,
    SubjectTemplate, assemble, build_crl_tbs, build_tbs, csr_info, lint,
};

/// 2026-08-01T00:00:00Z.
pub(crate) const NOW: Wall = Wall(1_785_542_400_000);
pub(crate) const DAY: i64 = 86_400_000;
pub(crate) const YEAR: i64 = 365 * DAY;

pub(crate) fn at(offset: i64) -> Wall {
    Wall(NOW.0 + offset)
}

pub(crate) enum Key {
    Ec(EcdsaKeyPair, SignatureAlgorithm),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    pub(crate) fn p256() -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self::Ec(pair, SignatureAlgorithm::EcdsaP256Sha256)
    }

    pub(crate) fn p384() -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        Self::Ec(pair, SignatureAlgorithm::EcdsaP384Sha384)
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn p256_from_pkcs8(der: &[u8]) -> Self {
        let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, der).unwrap();
        Self::Ec(pair, SignatureAlgorithm::EcdsaP256Sha256)
    }

    pub(crate) fn all() -> Vec<Self> {
        vec![Self::p256(), Self::p384(), Self::ed25519(), Self::rsa()]
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        match self {
            Self::Ec(pair, _) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::Ec(_, algorithm) => *algorithm,
            Self::Ed(_) => SignatureAlgorithm::Ed25519,
            Self::Rsa(_) => SignatureAlgorithm::RsaPkcs1Sha256,
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out).unwrap();
                out
            }
        }
    }

    pub(crate) fn csr(&self, common_name: &str) -> Vec<u8> {
        let info = csr_info(common_name, &self.spki()).unwrap();
        assemble(&info, self.algorithm(), &self.sign(&info))
    }
}

pub(crate) fn serial(number: u8) -> Serial {
    Serial::from_random([number; 20])
}

pub(crate) fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

/// A draft that is right for its profile; tests change what they are about.
pub(crate) fn draft(issuer: Option<&Ca>, key: &Key, name: &str, profile: Profile) -> Draft {
    let years = match &profile {
        Profile::Root => 10,
        Profile::SubCa { .. } => 5,
        _ => 1,
    };
    let leaf = !matches!(profile, Profile::Root | Profile::SubCa { .. });
    Draft {
        serial: serial(7),
        issuer: issuer.map(|ca| ca.certificate.clone()),
        common_name: name.to_owned(),
        template: SubjectTemplate::default(),
        spki_der: key.spki(),
        not_before: at(-DAY),
        not_after: at(years * YEAR),
        profile,
        signature: issuer.map_or(key.algorithm(), |ca| ca.key.algorithm()),
        crl_url: leaf.then(|| "http://pki.example/crl/devices/0.crl".to_owned()),
        aia_url: leaf.then(|| "http://pki.example/ca/devices.cer".to_owned()),
    }
}

/// Signs the draft without asking whether the lint would let it pass.
pub(crate) fn sign_unchecked(draft: &Draft, key: &Key) -> Vec<u8> {
    let tbs = build_tbs(draft).unwrap();
    assemble(&tbs, key.algorithm(), &key.sign(&tbs))
}

pub(crate) fn sign(draft: &Draft, key: &Key) -> Certificate {
    let der = sign_unchecked(draft, key);
    assert_eq!(lint(&der, draft), Ok(()));
    Certificate::parse_der(&der).unwrap()
}

pub(crate) struct Ca {
    pub(crate) key: Key,
    pub(crate) certificate: Certificate,
}

impl Ca {
    pub(crate) fn root(key: Key, name: &str) -> Self {
        let certificate = sign(&draft(None, &key, name, Profile::Root), &key);
        Self { key, certificate }
    }

    pub(crate) fn sub(&self, key: Key, name: &str, purpose: CaPurpose) -> Self {
        let certificate = sign(&draft(Some(self), &key, name, Profile::SubCa { purpose }), &self.key);
        Self { key, certificate }
    }

    pub(crate) fn device(&self, key: &Key, name: &str) -> Certificate {
        sign(&draft(Some(self), key, name, Profile::Device { id: id(name) }), &self.key)
    }

    pub(crate) fn issue(&self, draft: &Draft) -> Certificate {
        sign(draft, &self.key)
    }

    pub(crate) fn crl(&self, number: u64, entries: &[CrlEntry]) -> Crl {
        let head = CrlHead {
            issuer: &self.certificate,
            number,
            this_update: NOW,
            next_update: at(DAY),
            signature: self.key.algorithm(),
        };
        let tbs = build_crl_tbs(&head, entries.iter().copied());
        Crl::parse_der(&assemble(&tbs, self.key.algorithm(), &self.key.sign(&tbs))).unwrap()
    }
}

/// A root and its devices CA.
pub(crate) fn hierarchy() -> (Ca, Ca) {
    let root = Ca::root(Key::p256(), "Bailiwick Root");
    let devices = root.sub(Key::p256(), "Bailiwick Devices CA", CaPurpose::Clients);
    (root, devices)
}

pub(crate) fn kind(key: &Key) -> KeyKind {
    x509::key_kind(&key.spki()).unwrap()
}
