use base64ct::{Base64, Encoding};
use ca::Issuer;
use serde::Serialize;
use signer::BundleKey;
use types::hex;
use x509::Certificate;

use crate::error::EnrollError;

/// The CA bundle, made and signed once at start: `GET /ca/bundle`.
pub(crate) struct Bundle {
    /// The JSON document.
    pub(crate) json: String,
    /// Its entity tag, quoted.
    pub(crate) etag: String,
}

/// The document. Readers ignore fields that they do not know.
#[derive(Serialize)]
struct Document<'a> {
    version: u64,
    roots: Vec<String>,
    intermediates: Vec<String>,
    signature: Signature<'a>,
}

/// Who signed the canonical body, and how.
#[derive(Serialize)]
struct Signature<'a> {
    algorithm: &'a str,
    key: String,
    value: String,
}

impl Bundle {
    /// Signs the roots and the intermediates. The version is how many certificates there are: a
    /// certificate once listed stays, so it only rises.
    pub(crate) fn make<'a>(
        roots: &[Certificate],
        issuers: impl Iterator<Item = &'a Issuer>,
        key: &BundleKey,
    ) -> Result<Self, EnrollError> {
        let intermediates: Vec<&Certificate> = issuers.map(|issuer| &issuer.certificate).collect();
        let version = (roots.len() + intermediates.len()) as u64;
        let body = canonical_body(version, roots.iter(), intermediates.iter().copied());
        let signature = Signature {
            algorithm: algorithm_name(key.algorithm()),
            key: x509::pem::encode("PUBLIC KEY", key.spki_der()),
            value: Base64::encode_string(&key.sign(body.as_bytes())?),
        };
        let document = Document {
            version,
            roots: roots.iter().map(Certificate::to_pem).collect(),
            intermediates: intermediates.iter().map(|certificate| certificate.to_pem()).collect(),
            signature,
        };
        let json = serde_json::to_string(&document)
            .map_err(|error| EnrollError::Wiring(format!("ca bundle: {error}")))?;
        let etag = format!("\"{version}-{}\"", hex(&x509::sha256(body.as_bytes())[..8]));
        Ok(Self { json, etag })
    }
}

/// What the signature covers, after the tag of [`signer::bundle_message`]: `version N`, then for
/// each certificate in the order of the document a line `root` or `intermediate` and the SHA-256 of
/// its DER in hex; every line ends with a newline. It says the same whatever the JSON looks like.
fn canonical_body<'a>(
    version: u64,
    roots: impl Iterator<Item = &'a Certificate>,
    intermediates: impl Iterator<Item = &'a Certificate>,
) -> String {
    let mut body = format!("version {version}\n");
    for (word, certificate) in
        roots.map(|root| ("root", root)).chain(intermediates.map(|certificate| ("intermediate", certificate)))
    {
        body.push_str(&format!("{word} {}\n", certificate.der_hash()));
    }
    body
}

fn algorithm_name(algorithm: x509::SignatureAlgorithm) -> &'static str {
    use x509::SignatureAlgorithm::{EcdsaP256Sha256, EcdsaP384Sha384, Ed25519, RsaPkcs1Sha256};
    match algorithm {
        EcdsaP256Sha256 => "ecdsa-p256-sha256",
        EcdsaP384Sha384 => "ecdsa-p384-sha384",
        Ed25519 => "ed25519",
        RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
    }
}
