//! Names keys and verifies signatures.
//! In: SubjectPublicKeyInfo, algorithm, message, signature. Out: kinds, hashes, verdicts.
//! Invariant: the algorithm must fit the key's own, and the key must be one that we accept.
//! Never: holds a private key.
//! Spec: RFC 5480; RFC 8017; RFC 8410.

use aws_lc_rs::digest;
use rustls_pki_types::{SignatureVerificationAlgorithm, alg_id};
use types::{IssuerId, SpkiHash};
use webpki::aws_lc_rs as algorithms;

use crate::error::X509Error;
use crate::{oid, tlv};

/// SHA-256 of the bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The name of a key: SHA-256 of its SubjectPublicKeyInfo.
#[must_use]
pub fn spki_hash(spki_der: &[u8]) -> SpkiHash {
    SpkiHash(sha256(spki_der))
}

/// The name of a CA: the first 16 bytes of the SHA-256 of its SubjectPublicKeyInfo.
#[must_use]
pub fn issuer_id(spki_der: &[u8]) -> IssuerId {
    let mut out = [0; 16];
    out.copy_from_slice(&sha256(spki_der)[..16]);
    IssuerId(out)
}

/// The key identifier of RFC 7093 section 2 method 1: the leftmost 160 bits of the SHA-256 of the
/// key's bits, without tag, length and the count of unused bits.
///
/// # Errors
/// The bytes are no SubjectPublicKeyInfo.
pub fn key_identifier(spki_der: &[u8]) -> Result<[u8; 20], X509Error> {
    let (_, bits) = split_spki(spki_der)?;
    let mut out = [0; 20];
    out.copy_from_slice(&sha256(bits)[..20]);
    Ok(out)
}

/// The kinds of key that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA with a modulus of so many bits.
    Rsa {
        /// The length of the modulus.
        bits: u32,
    },
}

impl KeyKind {
    /// How a key of this kind signs for us.
    #[must_use]
    pub fn signature_algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::P256 => SignatureAlgorithm::EcdsaP256Sha256,
            Self::P384 => SignatureAlgorithm::EcdsaP384Sha384,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
            Self::Rsa { .. } => SignatureAlgorithm::RsaPkcs1Sha256,
        }
    }
}

/// How our own CAs sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256; the signature is DER.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384; the signature is DER.
    EcdsaP384Sha384,
    /// Ed25519.
    Ed25519,
    /// RSA PKCS#1 version 1.5 with SHA-256.
    RsaPkcs1Sha256,
}

impl SignatureAlgorithm {
    fn verifier(self) -> &'static dyn SignatureVerificationAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => algorithms::ECDSA_P256_SHA256,
            Self::EcdsaP384Sha384 => algorithms::ECDSA_P384_SHA384,
            Self::Ed25519 => algorithms::ED25519,
            Self::RsaPkcs1Sha256 => algorithms::RSA_PKCS1_2048_8192_SHA256,
        }
    }

    /// The DER AlgorithmIdentifier that names it in certificates, requests and lists.
    #[must_use]
    pub fn identifier_der(self) -> Vec<u8> {
        tlv::element(tlv::SEQUENCE, &[self.verifier().signature_alg_id().as_ref()])
    }
}

/// What may sign a request, a certificate or a list: no SHA-1, no P-521, nothing that rustls would not take.
pub(crate) static VERIFIERS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// The content of the AlgorithmIdentifier and the bits of the key.
fn split_spki(spki_der: &[u8]) -> Result<(&[u8], &[u8]), X509Error> {
    const WHAT: &str = "public key";
    let mut spki = tlv::only(WHAT, tlv::SEQUENCE, spki_der)?;
    let algorithm = spki.expect(tlv::SEQUENCE)?.content;
    let bits = tlv::whole_bits(WHAT, spki.expect(tlv::BIT_STRING)?.content)?;
    spki.finish()?;
    Ok((algorithm, bits))
}

/// What kind of key it is.
///
/// # Errors
/// A key of another kind, an RSA modulus outside 2048 to 4096 bits, or a malformed one.
pub fn key_kind(spki_der: &[u8]) -> Result<KeyKind, X509Error> {
    let (algorithm, bits) = split_spki(spki_der)?;
    let point = |len: usize, kind: KeyKind| {
        if bits.len() == len && bits.first() == Some(&4) {
            Ok(kind)
        } else {
            Err(X509Error::malformed("public key", "elliptic-curve point is not in the uncompressed form"))
        }
    };
    if algorithm == alg_id::ECDSA_P256.as_ref() {
        point(65, KeyKind::P256)
    } else if algorithm == alg_id::ECDSA_P384.as_ref() {
        point(97, KeyKind::P384)
    } else if algorithm == alg_id::ED25519.as_ref() {
        match bits.len() {
            32 => Ok(KeyKind::Ed25519),
            len => Err(X509Error::malformed("public key", format!("Ed25519 key of {len} bytes"))),
        }
    } else if algorithm == alg_id::RSA_ENCRYPTION.as_ref() {
        rsa_kind(bits)
    } else {
        Err(X509Error::UnsupportedKey { detail: algorithm_name(algorithm) })
    }
}

fn rsa_kind(bits: &[u8]) -> Result<KeyKind, X509Error> {
    let wrong = |detail: &str| X509Error::malformed("rsa key", detail);
    let mut key = tlv::only("rsa key", tlv::SEQUENCE, bits)?;
    let modulus = unsigned(key.expect(tlv::INTEGER)?.content).ok_or_else(|| wrong("modulus"))?;
    let exponent = unsigned(key.expect(tlv::INTEGER)?.content).ok_or_else(|| wrong("exponent"))?;
    key.finish()?;
    let unused = modulus.first().map_or(0, |first| first.leading_zeros());
    let bits = u32::try_from(modulus.len()).unwrap_or(u32::MAX / 8).saturating_mul(8).saturating_sub(unused);
    if !(2048..=4096).contains(&bits) {
        return Err(X509Error::WeakKey { bits });
    }
    if modulus.last().is_none_or(|last| last & 1 == 0) {
        return Err(wrong("modulus is even"));
    }
    match exponent {
        [0..=2] => Err(wrong("exponent below 3")),
        [.., last] if last & 1 == 1 && exponent.len() <= 4 => Ok(KeyKind::Rsa { bits }),
        _ => Err(wrong("exponent is even or longer than 32 bits")),
    }
}

/// The significant bytes of a positive, minimally encoded INTEGER.
fn unsigned(content: &[u8]) -> Option<&[u8]> {
    match content {
        [0, rest @ ..] => rest.first().is_some_and(|b| b & 0x80 != 0).then_some(rest),
        [first, ..] if first & 0x80 == 0 => Some(content),
        _ => None,
    }
}

/// A name for people of an AlgorithmIdentifier's content.
fn algorithm_name(content: &[u8]) -> String {
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    let mut reader = tlv::Reader::new("algorithm", content);
    let Ok(id) = reader.expect(tlv::OID) else { return "no object identifier".to_owned() };
    match (id.content, reader.optional(tlv::OID)) {
        (EC, Ok(Some(curve))) => match curve.content {
            [0x2b, 0x81, 0x04, 0, 35] => "curve P-521".to_owned(),
            [0x2b, 0x81, 0x04, 0, 10] => "curve secp256k1".to_owned(),
            other => format!("curve {}", oid::dotted(other)),
        },
        (EC, _) => "curve with explicit parameters".to_owned(),
        (PSS, _) => "RSA-PSS with these parameters (the salt must be as long as the digest)".to_owned(),
        ([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], _) => {
            "SHA-1".to_owned()
        }
        ([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], _) => "MD5".to_owned(),
        ([0x2b, 0x65, 0x71], _) => "Ed448".to_owned(),
        (other, _) => format!("algorithm {}", oid::dotted(other)),
    }
}

/// Verifies a signature that one of our own CAs, or a key that we made, has given.
///
/// # Errors
/// The key is not of the algorithm's kind, or the signature is wrong.
pub fn verify_signature(
    spki_der: &[u8],
    alg: SignatureAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), X509Error> {
    verify_as("message", spki_der, alg.verifier().signature_alg_id().as_ref(), message, signature)
}

/// Verifies a signature by the key's own algorithm and the content of the AlgorithmIdentifier beside it.
pub(crate) fn verify_as(
    what: &'static str,
    spki_der: &[u8],
    signature_algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), X509Error> {
    key_kind(spki_der)?;
    let (key_algorithm, bits) = split_spki(spki_der)?;
    let verifier = VERIFIERS
        .iter()
        .find(|v| {
            v.public_key_alg_id().as_ref() == key_algorithm
                && v.signature_alg_id().as_ref() == signature_algorithm
        })
        .ok_or_else(|| X509Error::UnsupportedSignature { detail: algorithm_name(signature_algorithm) })?;
    verifier.verify_signature(bits, message, signature).map_err(|_| X509Error::BadSignature { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spki(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
        let algorithm = tlv::element(tlv::SEQUENCE, &[algorithm]);
        let bits = tlv::element(tlv::BIT_STRING, &[&[0], bits]);
        tlv::element(tlv::SEQUENCE, &[&algorithm, &bits])
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<KeyKind, X509Error> {
        let modulus = tlv::element(tlv::INTEGER, &[modulus]);
        let exponent = tlv::element(tlv::INTEGER, &[exponent]);
        let key = tlv::element(tlv::SEQUENCE, &[&modulus, &exponent]);
        key_kind(&spki(alg_id::RSA_ENCRYPTION.as_ref(), &key))
    }

    /// A positive, odd modulus of so many bits, as the content of its INTEGER.
    fn modulus(bits: usize) -> Vec<u8> {
        let mut digits = vec![0xff; bits.div_ceil(8)];
        digits[0] >>= bits.div_ceil(8) * 8 - bits;
        if bits.is_multiple_of(8) {
            digits.insert(0, 0);
        }
        digits
    }

    #[test]
    fn rsa_is_accepted_from_2048_to_4096_bits_and_not_one_bit_beyond() {
        let e = [1, 0, 1];
        for bits in [2048, 2049, 3072, 4095, 4096] {
            assert_eq!(rsa(&modulus(bits), &e), Ok(KeyKind::Rsa { bits: u32::try_from(bits).unwrap() }));
        }
        for bits in [8, 512, 1024, 2047, 4097, 8192, 16_384] {
            assert_eq!(
                rsa(&modulus(bits), &e),
                Err(X509Error::WeakKey { bits: u32::try_from(bits).unwrap() })
            );
        }
    }

    #[test]
    fn malformed_rsa_keys_are_refused() {
        let sound = modulus(2048);
        let mut even = sound.clone();
        *even.last_mut().unwrap() = 0xfe;
        let negative = vec![0xff; 256];
        let padded = [&[0][..], &modulus(2047)].concat();
        for (modulus, exponent, detail) in [
            (&even, &[1, 0, 1][..], "modulus is even"),
            (&negative, &[1, 0, 1], "modulus"),
            (&padded, &[1, 0, 1], "modulus"),
            (&sound, &[1], "exponent below 3"),
            (&sound, &[2], "exponent below 3"),
            (&sound, &[4], "exponent is even or longer than 32 bits"),
            (&sound, &[1, 0, 0, 0, 1], "exponent is even or longer than 32 bits"),
            (&sound, &[0x81], "exponent"),
            (&sound, &[], "exponent"),
        ] {
            assert_eq!(rsa(modulus, exponent), Err(X509Error::malformed("rsa key", detail)));
        }
        assert_eq!(rsa(&sound, &[3]), Ok(KeyKind::Rsa { bits: 2048 }));
    }

    #[test]
    fn points_and_edwards_keys_have_one_length_and_one_form() {
        let point = |first: u8, len: usize| {
            let mut bits = vec![7; len];
            bits[0] = first;
            bits
        };
        for (algorithm, len, kind) in
            [(alg_id::ECDSA_P256, 65, KeyKind::P256), (alg_id::ECDSA_P384, 97, KeyKind::P384)]
        {
            assert_eq!(key_kind(&spki(algorithm.as_ref(), &point(4, len))), Ok(kind));
            for bits in
                [point(4, len - 1), point(4, len + 1), point(2, len), point(2, len / 2 + 1), point(0, 1)]
            {
                assert!(key_kind(&spki(algorithm.as_ref(), &bits)).is_err());
            }
        }
        assert_eq!(key_kind(&spki(alg_id::ED25519.as_ref(), &[1; 32])), Ok(KeyKind::Ed25519));
        assert!(key_kind(&spki(alg_id::ED25519.as_ref(), &[1; 31])).is_err());
    }

    #[test]
    fn a_signature_of_another_algorithm_than_the_keys_is_refused() {
        let key = spki(alg_id::ED25519.as_ref(), &[1; 32]);
        assert_eq!(
            verify_signature(&key, SignatureAlgorithm::EcdsaP256Sha256, b"m", b"s").unwrap_err(),
            X509Error::UnsupportedSignature { detail: "algorithm 1.2.840.10045.4.3.2".to_owned() }
        );
        assert_eq!(
            verify_signature(&key, SignatureAlgorithm::Ed25519, b"m", &[0; 64]).unwrap_err(),
            X509Error::BadSignature { what: "message" }
        );
    }

    #[test]
    fn sha_256_is_the_one_of_fips_180() {
        assert_eq!(
            types::hex(&sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
