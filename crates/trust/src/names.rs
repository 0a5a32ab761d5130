use types::{Clipped, DeviceId, PrincipalKind, Reason};
use x509::Certificate;

use crate::anchor::IdentitySource;
use crate::refusal::Refusal;

const URN: &str = "urn:bailiwick:";

/// The one name that the certificate carries where its anchor says. Whatever else names a
/// principal in the certificate must say the same, so that no two readers see two names.
pub(crate) fn name_of(certificate: &Certificate, source: IdentitySource) -> Result<DeviceId, Refusal> {
    let uris = urn_names(certificate)?;
    let found = match source {
        IdentitySource::CommonName => certificate.common_names(),
        IdentitySource::SerialNumber => certificate.subject_serial_numbers(),
        IdentitySource::SanUri => uris.iter().map(|(_, name)| name.clone()).collect(),
    };
    let serial = certificate.serial();
    let bad = |detail: String| Refusal::new(Reason::BadName, format!("certificate 0x{serial}: {detail}"));
    let text = match found.as_slice() {
        [one] => one,
        [] => return Err(bad(format!("it carries no {}; exactly one is needed", source.as_str()))),
        [first, second, ..] => {
            return Err(bad(format!(
                "it carries {} names as {}, \"{}\" and \"{}\"; exactly one is needed",
                found.len(),
                source.as_str(),
                Clipped(first),
                Clipped(second)
            )));
        }
    };
    let name = DeviceId::parse(text).map_err(|error| bad(format!("{}: {error}", source.as_str())))?;
    for (_, other) in &uris {
        if !other.eq_ignore_ascii_case(name.as_str()) {
            return Err(bad(format!(
                "its {} says \"{name}\" and its SAN URI \"{}\"",
                source.as_str(),
                Clipped(other)
            )));
        }
    }
    Ok(name)
}

/// The kinds that the certificate's own `urn:bailiwick:` names claim; checked against the ledger.
pub(crate) fn urn_names(certificate: &Certificate) -> Result<Vec<(PrincipalKind, String)>, Refusal> {
    let mut names = Vec::new();
    for uri in certificate.san_uris() {
        let Some(rest) = uri.strip_prefix(URN) else { continue };
        let parsed = rest
            .split_once(':')
            .and_then(|(kind, name)| PrincipalKind::parse(kind).map(|kind| (kind, name.to_owned())));
        names.push(parsed.ok_or_else(|| {
            let serial = certificate.serial();
            let detail = format!(
                "certificate 0x{serial}: SAN URI \"{}\" is not urn:bailiwick:device|service|operator:NAME",
                Clipped(&uri)
            );
            Refusal::new(Reason::BadName, detail)
        })?);
    }
    Ok(names)
}
