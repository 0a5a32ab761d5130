use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use pkcs8::der::Decode as _;
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef};
use types::Secret;
use x509::{KeyKind, SignatureAlgorithm};

use crate::error::SignerError;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const CURVE_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const CURVE_P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// A private key that signs bytes and shows its public half; where it lives is its own affair.
pub trait RawSigner: Send + Sync {
    /// The public key as SubjectPublicKeyInfo.
    fn spki_der(&self) -> &[u8];

    /// What [`RawSigner::sign`] signs with.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// Signs `message`, which is hashed as the algorithm says; ECDSA signatures are DER.
    ///
    /// # Errors
    /// The key's home failed.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// A private key in memory that came from a file or was just made; no `Debug`, no `Clone`.
pub struct FileKey {
    pair: Pair,
    kind: KeyKind,
    spki_der: Vec<u8>,
    pkcs8: Secret,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair),
}

impl FileKey {
    /// Makes a fresh key; RSA in 2048, 3072 or 4096 bits.
    ///
    /// # Errors
    /// Another size of RSA, or the crypto library fails.
    pub fn generate(kind: KeyKind) -> Result<Self, SignerError> {
        let failed = |_| SignerError::Crypto { what: "make a key" };
        let pair = match kind {
            KeyKind::P256 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?)
            }
            KeyKind::P384 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map_err(failed)?)
            }
            KeyKind::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            KeyKind::Rsa { bits } => {
                let size = match bits {
                    2048 => rsa::KeySize::Rsa2048,
                    3072 => rsa::KeySize::Rsa3072,
                    4096 => rsa::KeySize::Rsa4096,
                    _ => return Err(SignerError::KeySize { bits }),
                };
                Pair::Rsa(rsa::KeyPair::generate(size).map_err(failed)?)
            }
        };
        Self::from_pair(pair, kind)
    }

    /// Takes a plain PKCS#8 structure, version 1 or 2.
    ///
    /// # Errors
    /// No such structure, an algorithm or size that we do not use, or parts that do not fit.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, SignerError> {
        let info = PrivateKeyInfoRef::from_der(der)
            .map_err(|_| SignerError::Malformed { what: "no PKCS#8 PrivateKeyInfo" })?;
        let rejected = |_| SignerError::Malformed { what: "the crypto library rejects its parts" };
        match info.algorithm.oid {
            EC_PUBLIC_KEY => {
                let curve = info.algorithm.parameters_oid().map_err(|_| SignerError::UnsupportedKey {
                    found: "EC key without a named curve".into(),
                })?;
                let (algorithm, kind) = ecdsa_for(curve)?;
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(rejected)?;
                Self::from_pair(Pair::Ecdsa(pair), kind)
            }
            ED25519 => {
                let pair = Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?;
                Self::from_pair(Pair::Ed25519(pair), KeyKind::Ed25519)
            }
            RSA_ENCRYPTION => Self::from_rsa(rsa::KeyPair::from_pkcs8(der).map_err(rejected)?),
            other => Err(SignerError::UnsupportedKey { found: format!("algorithm {other}") }),
        }
    }

    /// Takes an `ECPrivateKey` of RFC 5915, with or without the curve and the public key in it.
    pub(crate) fn from_sec1_der(der: &[u8]) -> Result<Self, SignerError> {
        for (algorithm, kind) in [
            (&ECDSA_P256_SHA256_ASN1_SIGNING, KeyKind::P256),
            (&ECDSA_P384_SHA384_ASN1_SIGNING, KeyKind::P384),
        ] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(algorithm, der) {
                return Self::from_pair(Pair::Ecdsa(pair), kind);
            }
        }
        Err(SignerError::UnsupportedKey { found: "EC key on another curve, or malformed".into() })
    }

    /// Takes an `RSAPrivateKey` of RFC 8017 (PKCS#1).
    pub(crate) fn from_pkcs1_der(der: &[u8]) -> Result<Self, SignerError> {
        let pair = rsa::KeyPair::from_der(der).map_err(|_| SignerError::Malformed {
            what: "no PKCS#1 RSAPrivateKey, or of a size we do not use",
        })?;
        Self::from_rsa(pair)
    }

    fn from_rsa(pair: rsa::KeyPair) -> Result<Self, SignerError> {
        let bits = modulus_bits(&pair);
        if !(2048..=4096).contains(&bits) {
            return Err(SignerError::UnsupportedKey { found: format!("RSA of {bits} bits") });
        }
        Self::from_pair(Pair::Rsa(pair), KeyKind::Rsa { bits })
    }

    fn from_pair(pair: Pair, kind: KeyKind) -> Result<Self, SignerError> {
        let failed = |_| SignerError::Crypto { what: "encode a key" };
        let public = |der: PublicKeyX509Der<'static>| der.as_ref().to_vec();
        let (pkcs8, spki_der) = match &pair {
            Pair::Ecdsa(pair) => (
                Secret::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()),
                public(pair.public_key().as_der().map_err(failed)?),
            ),
            // Version 1: openssl 3.0 does not read the version 2 structure of Ed25519 keys.
            Pair::Ed25519(pair) => (
                Secret::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()),
                public(pair.public_key().as_der().map_err(failed)?),
            ),
            Pair::Rsa(pair) => (
                Secret::new(
                    AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(pair)
                        .map_err(failed)?
                        .as_ref()
                        .to_vec(),
                ),
                public(pair.public_key().as_der().map_err(failed)?),
            ),
        };
        Ok(Self { pair, kind, spki_der, pkcs8 })
    }

    /// What kind of key it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key as plain PKCS#8 DER.
    #[must_use]
    pub fn pkcs8_der(&self) -> Secret {
        Secret::new(self.pkcs8.expose().to_vec())
    }
}

impl RawSigner for FileKey {
    fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.kind.signature_algorithm()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let failed = |_| SignerError::Crypto { what: "sign" };
        // The library takes a generator for the sake of another one's interface and uses its own.
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&rng, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

fn ecdsa_for(curve: ObjectIdentifier) -> Result<(&'static EcdsaSigningAlgorithm, KeyKind), SignerError> {
    match curve {
        CURVE_P256 => Ok((&ECDSA_P256_SHA256_ASN1_SIGNING, KeyKind::P256)),
        CURVE_P384 => Ok((&ECDSA_P384_SHA384_ASN1_SIGNING, KeyKind::P384)),
        other => Err(SignerError::UnsupportedKey { found: format!("EC key on curve {other}") }),
    }
}

/// The length of the modulus in bits; the bytes come without leading zeros.
fn modulus_bits(pair: &rsa::KeyPair) -> u32 {
    let modulus = pair.public_key().modulus();
    let bytes = modulus.big_endian_without_leading_zero();
    let unused = bytes.first().map_or(0, |first| first.leading_zeros());
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_mul(8).saturating_sub(unused)
}

/// A certificate request (RFC 2986) for `common_name`, signed by the key that it asks for; DER.
///
/// # Errors
/// The name does not fit, or the key fails.
pub fn csr(key: &dyn RawSigner, common_name: &str) -> Result<Vec<u8>, SignerError> {
    let info = x509::csr_info(common_name, key.spki_der())
        .map_err(|error| SignerError::Request { what: error.to_string() })?;
    let signature = key.sign(&info)?;
    Ok(x509::assemble(&info, key.algorithm(), &signature))
}
