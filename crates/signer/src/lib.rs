//! Holds private keys and signs with them; keeps them encrypted at rest.
//! In: key files, passphrases, messages. Out: signatures, public keys, certificate requests.
//! Invariant: a key file is 0600, whole or absent, and never overwritten (test: `a_key_file_is_never_overwritten`).
//! Never: prints a key or a passphrase, decides what may be signed.
//! Spec: RFC 5208, RFC 5958, RFC 8018, RFC 7914, RFC 5915, RFC 8017; DESIGN.md section 3, row "keys at rest".

mod entropy;
mod error;
mod file;
mod key;
mod pem;
mod purpose;

pub use entropy::SystemEntropy;
pub use error::SignerError;
pub use key::{FileKey, RawSigner, csr};
pub use purpose::{BundleKey, CheckpointKey, IssuingKey, bundle_message};
