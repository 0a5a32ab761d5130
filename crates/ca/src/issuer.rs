use std::time::Duration;

use types::{IssuerId, Now, PrincipalKind};
use x509::{Certificate, SubjectTemplate};

use crate::error::CaError;

/// A hierarchy whose CAs live this long may sign leaves of more than four years.
const LONG_LIFE_SPAN: Duration = Duration::from_secs(30 * 365 * 86_400);

/// An issuing CA as the settings and the store describe it; its key is elsewhere.
#[derive(Clone)]
pub struct Issuer {
    /// What operators call it: `devices`, `services`, `servers`.
    pub label: String,
    /// Its certificate.
    pub certificate: Certificate,
    /// The kinds of principal that it signs for.
    pub kinds: Vec<PrincipalKind>,
    /// Whether it signs server certificates.
    pub servers: bool,
    /// Where its revocation list will be, for the CDP.
    pub crl_url: Option<String>,
    /// Where its own certificate will be, for the AIA.
    pub aia_url: Option<String>,
    /// What stands in every subject beside the name.
    pub template: SubjectTemplate,
}

impl Issuer {
    /// Under which id its certificates are known.
    #[must_use]
    pub fn id(&self) -> IssuerId {
        self.certificate.issuer_id_as_ca()
    }

    /// Whether it belongs to the hierarchy that `init` makes for devices that are never renewed.
    #[must_use]
    pub fn is_long_life(&self) -> bool {
        self.certificate.not_after() >= self.certificate.not_before().plus(LONG_LIFE_SPAN)
    }

    /// A CA that is none, or is out of its dates, signs nothing.
    pub(crate) fn check_usable(&self, now: Now) -> Result<(), CaError> {
        check_ca(&self.certificate, &self.label, now)
    }
}

pub(crate) fn check_ca(certificate: &Certificate, label: &str, now: Now) -> Result<(), CaError> {
    let label = || label.to_owned();
    if !certificate.is_ca() {
        return Err(CaError::NotACa { label: label() });
    }
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if now.wall < not_before {
        return Err(CaError::IssuerNotYetValid { label: label(), not_before, now: now.wall });
    }
    if now.wall >= not_after {
        return Err(CaError::IssuerExpired { label: label(), not_after, now: now.wall });
    }
    Ok(())
}
