//! Turns certificates, requests and revocation lists from bytes into meaning and back.
//! In: DER or PEM, drafts, signatures made elsewhere. Out: parsed values, to-be-signed bytes, verified chains.
//! Invariant: a `Csr` has proven possession of its key; a `VerifiedChain` comes only from `verify_chain`.
//! Never: holds a private key, reads a clock, randomness, a file or the network.
//! Spec: RFC 5280; RFC 2986; RFC 7093 method 1; RFC 7468.

mod certificate;
mod chain;
mod crl;
mod csr;
mod date;
mod draft;
mod error;
mod key;
mod lint;
mod name;
mod oid;
pub mod pem;
mod tlv;

pub use certificate::{CERTIFICATE_BYTES_MAX, Certificate};
pub use chain::{ChainAnchors, ChainError, INTERMEDIATES_MAX, Usage, VerifiedChain, verify_chain};
pub use crl::{Crl, CrlEntry, CrlHead, CrlReason, build_crl_tbs};
pub use csr::{CSR_BYTES_MAX, Csr, csr_info};
pub use draft::{CaPurpose, Draft, Profile, SubjectTemplate, assemble, build_tbs};
pub use error::X509Error;
pub use key::{
    KeyKind, SignatureAlgorithm, issuer_id, key_identifier, key_kind, sha256, spki_hash, verify_signature,
};
pub use lint::{Lint, lint};
