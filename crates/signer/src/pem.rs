use base64ct::{Base64, Encoding as _};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::{Decode as _, Encode as _};
use pkcs8::pkcs5;
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Kdf, Parameters, Salt, ScryptParams};
use types::{Clipped, Entropy, Secret};
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::SignerError;
use crate::key::FileKey;

/// openssl refuses scrypt above 32 MiB, which N = 2^15 with r = 8 already needs.
const SCRYPT_N: u64 = 1 << 14;
const SCRYPT_R: u16 = 8;
const SCRYPT_P: u16 = 1;
/// What a foreign file may ask us to spend on opening it: 1 GiB of memory or some seconds.
const SCRYPT_N_MAX: u64 = 1 << 20;
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;

struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

impl FileKey {
    /// Reads the one private key of a PEM text: PKCS#8 plain or encrypted, SEC1 with or without a
    /// block of EC PARAMETERS, PKCS#1; certificates beside it are passed over.
    ///
    /// # Errors
    /// No key, several, an encryption or algorithm that we do not use, or a wrong passphrase.
    pub fn from_pem(pem: &str, passphrase: Option<&Secret>) -> Result<Self, SignerError> {
        let blocks = blocks(pem)?;
        let keys: Vec<&Block<'_>> =
            blocks.iter().filter(|block| block.label.ends_with("PRIVATE KEY")).collect();
        let block = match keys.as_slice() {
            [block] => block,
            [] => return Err(SignerError::NoKey { found: found(&blocks) }),
            _ => return Err(SignerError::SeveralKeys { count: keys.len() }),
        };
        if block.body.contains("Proc-Type:") || block.body.contains("DEK-Info:") {
            let what = "encrypted in openssl's old PEM format".to_owned();
            return Err(SignerError::UnsupportedEncryption { what });
        }
        let der = unbase64(block)?;
        match block.label {
            "PRIVATE KEY" => Self::from_pkcs8_der(&der),
            "ENCRYPTED PRIVATE KEY" => {
                let passphrase = passphrase.ok_or(SignerError::PassphraseNeeded)?;
                Self::from_pkcs8_der(&decrypt(&der, passphrase)?)
            }
            "EC PRIVATE KEY" => Self::from_sec1_der(&der),
            "RSA PRIVATE KEY" => Self::from_pkcs1_der(&der),
            label => Err(SignerError::UnsupportedKey { found: format!("PEM label \"{}\"", Clipped(label)) }),
        }
    }

    /// The key as plain PKCS#8 PEM.
    #[must_use]
    pub fn to_pem(&self) -> Secret {
        Secret::new(armour("PRIVATE KEY", self.pkcs8_der().expose()))
    }

    /// The key as PKCS#8 PEM, encrypted with scrypt and AES-256-CBC in PBES2; openssl reads it.
    ///
    /// # Errors
    /// An empty passphrase, or the structure cannot be encoded.
    pub fn to_encrypted_pem(
        &self,
        passphrase: &Secret,
        entropy: &mut dyn Entropy,
    ) -> Result<String, SignerError> {
        let failed = |_| SignerError::Crypto { what: "encrypt a key" };
        if passphrase.expose().is_empty() {
            return Err(SignerError::EmptyPassphrase);
        }
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        entropy.fill(&mut salt);
        entropy.fill(&mut iv);
        let scrypt = ScryptParams {
            salt: Salt::new(salt).map_err(|_| SignerError::Crypto { what: "encrypt a key" })?,
            cost_parameter: SCRYPT_N,
            block_size: SCRYPT_R,
            parallelization: SCRYPT_P,
            key_length: None,
        };
        let scheme = Parameters { kdf: Kdf::Scrypt(scrypt), encryption: EncryptionScheme::Aes256Cbc { iv } };
        let sealed = scheme.encrypt(passphrase.expose(), self.pkcs8_der().expose()).map_err(failed)?;
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: pkcs5::EncryptionScheme::from(scheme),
            encrypted_data: OctetStringRef::new(&sealed)
                .map_err(|_| SignerError::Crypto { what: "encode an encrypted key" })?,
        };
        let der = info.to_der().map_err(|_| SignerError::Crypto { what: "encode an encrypted key" })?;
        String::from_utf8(armour("ENCRYPTED PRIVATE KEY", &der))
            .map_err(|_| SignerError::Crypto { what: "encode an encrypted key" })
    }
}

/// Opens an EncryptedPrivateKeyInfo. A wrong passphrase shows as bad padding, or, one time in
/// about 256, as bytes that are no PKCS#8: both are reported alike.
fn decrypt(der: &[u8], passphrase: &Secret) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    let unsupported = |what: String| SignerError::UnsupportedEncryption { what };
    let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|error| match error.kind() {
        pkcs8::der::ErrorKind::OidUnknown { oid } => unsupported(format!("algorithm {oid}")),
        _ => SignerError::Malformed { what: "no PKCS#8 EncryptedPrivateKeyInfo" },
    })?;
    let pkcs5::EncryptionScheme::Pbes2(scheme) = &info.encryption_algorithm else {
        return Err(unsupported("PBES1".to_owned()));
    };
    match &scheme.kdf {
        Kdf::Scrypt(scrypt)
            if scrypt.cost_parameter > SCRYPT_N_MAX || !scrypt.cost_parameter.is_power_of_two() =>
        {
            return Err(unsupported(format!("scrypt N = {}; limit {SCRYPT_N_MAX}", scrypt.cost_parameter)));
        }
        Kdf::Scrypt(scrypt) if scrypt.block_size > 32 || scrypt.parallelization > 16 => {
            let (r, p) = (scrypt.block_size, scrypt.parallelization);
            return Err(unsupported(format!("scrypt r = {r}, p = {p}; limits 32 and 16")));
        }
        Kdf::Pbkdf2(pbkdf2) if pbkdf2.iteration_count > PBKDF2_ROUNDS_MAX => {
            let rounds = pbkdf2.iteration_count;
            return Err(unsupported(format!("PBKDF2 with {rounds} rounds; limit {PBKDF2_ROUNDS_MAX}")));
        }
        _ => {}
    }
    let plain =
        scheme.decrypt(passphrase.expose(), info.encrypted_data.as_bytes()).map_err(|error| match error {
            pkcs5::Error::UnsupportedAlgorithm { oid } => unsupported(format!("algorithm {oid}")),
            pkcs5::Error::AlgorithmParametersInvalid { oid } => {
                unsupported(format!("bad parameters of {oid}"))
            }
            _ => SignerError::WrongPassphrase,
        })?;
    let plain = Zeroizing::new(plain);
    match pkcs8::PrivateKeyInfoRef::from_der(&plain) {
        Ok(_) => Ok(plain),
        Err(_) => Err(SignerError::WrongPassphrase),
    }
}

fn found(blocks: &[Block<'_>]) -> String {
    if blocks.is_empty() {
        return "the text has no PEM block".to_owned();
    }
    let labels: Vec<String> = blocks.iter().map(|block| format!("\"{}\"", Clipped(block.label))).collect();
    format!("the text has {}", labels.join(", "))
}

/// The PEM blocks of a text (RFC 7468), whatever stands between them.
fn blocks(text: &str) -> Result<Vec<Block<'_>>, SignerError> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, after)) = after.split_once("-----") else {
            return Err(SignerError::BadPem { label: String::new(), what: "the BEGIN line is cut off" });
        };
        let end = format!("-----END {label}-----");
        let Some((body, after)) = after.split_once(end.as_str()) else {
            return Err(SignerError::BadPem {
                label: Clipped(label).to_string(),
                what: "the END line is missing",
            });
        };
        blocks.push(Block { label, body });
        rest = after;
    }
    Ok(blocks)
}

fn unbase64(block: &Block<'_>) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    let packed: Zeroizing<Vec<u8>> =
        Zeroizing::new(block.body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    let bad = SignerError::BadPem { label: Clipped(block.label).to_string(), what: "no base64" };
    let mut out = Zeroizing::new(vec![0; packed.len()]);
    let length = match Base64::decode(packed.as_slice(), &mut out) {
        Ok(decoded) => decoded.len(),
        Err(_) => return Err(bad),
    };
    out.truncate(length);
    Ok(out)
}

/// PEM with lines of 64 characters, in a buffer that never grows, so that no copy stays behind.
fn armour(label: &str, der: &[u8]) -> Vec<u8> {
    let mut base64 = Base64::encode_string(der);
    let mut out = Vec::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40);
    out.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    for line in base64.as_bytes().chunks(64) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    base64.zeroize();
    out
}
