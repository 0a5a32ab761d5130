//! What every installation's hierarchy has in common: the sub-CAs, who comes from each, their addresses.

use types::{IssuerId, PrincipalKind};

/// The labels of the sub-CAs, which are also the names of their key files.
pub(crate) const SUB_CAS: [&str; 3] = ["devices", "services", "servers"];

/// Where an issuer's revocation list and certificate are fetched; the same in every certificate.
pub(crate) fn crl_url(base: &str, issuer: IssuerId) -> String {
    format!("{base}/crl/{issuer}/0.crl")
}

pub(crate) fn aia_url(base: &str, issuer: IssuerId) -> String {
    format!("{base}/ca/{issuer}.cer")
}

/// Who may come from a sub-CA.
pub(crate) fn kinds(label: &str) -> Vec<PrincipalKind> {
    match label {
        "devices" => vec![PrincipalKind::Device],
        "services" => vec![PrincipalKind::Service, PrincipalKind::Operator],
        _ => Vec::new(),
    }
}
