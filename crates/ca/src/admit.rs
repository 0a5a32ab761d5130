use std::fmt;
use std::net::IpAddr;

use types::{Clipped, DeviceId, Principal, PrincipalKind};
use x509::Csr;

use crate::error::CaError;

/// What entitles the asker; checked by whoever took it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A one-time token that was made for this device and is good now.
    ProvisioningToken {
        /// The device that the token names.
        device: DeviceId,
        /// The token's public half.
        token_id: String,
    },
    /// An operator who was authenticated by certificate, or owns the machine.
    Operator {
        /// Who.
        name: String,
    },
    /// The ceremony that makes the hierarchy, its first operator and its servers.
    Ceremony,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProvisioningToken { device, token_id } => {
                write!(f, "provisioning token {} for \"{device}\"", Clipped(token_id))
            }
            Self::Operator { name } => write!(f, "operator \"{}\"", Clipped(name)),
            Self::Ceremony => f.write_str("ceremony"),
        }
    }
}

/// What the certificate shall be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A device of the fleet.
    Device {
        /// Its id.
        id: DeviceId,
    },
    /// A backend service.
    Service {
        /// Its name.
        name: DeviceId,
    },
    /// A person.
    Operator {
        /// Their name.
        name: DeviceId,
    },
    /// A listener of ours.
    Server {
        /// What stands as the common name.
        name: String,
        /// The host names that it answers to.
        dns: Vec<String>,
        /// The addresses that it answers to.
        ips: Vec<IpAddr>,
    },
}

impl Wanted {
    /// The principal that the certificate will speak for; a server is none.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        let (kind, name) = match self {
            Self::Device { id } => (PrincipalKind::Device, id),
            Self::Service { name } => (PrincipalKind::Service, name),
            Self::Operator { name } => (PrincipalKind::Operator, name),
            Self::Server { .. } => return None,
        };
        Some(Principal { kind, name: name.clone() })
    }

    fn name(&self) -> &str {
        match self {
            Self::Device { id: name } | Self::Service { name } | Self::Operator { name } => name.as_str(),
            Self::Server { name, .. } => name,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.principal() {
            Some(principal) => principal.fmt(f),
            None => write!(f, "server \"{}\"", Clipped(self.name())),
        }
    }
}

/// What the store and the rules know about the name and the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the registry says that the name is; nothing, if it does not know it.
    pub registered: Option<PrincipalKind>,
    /// Whether a rule `user X` names it.
    pub name_in_rules: bool,
    /// Whose key this already is, if a certificate was issued for it.
    pub key_used_by: Option<DeviceId>,
    /// Whether the name stands on the deny-list.
    pub denied: bool,
}

/// A request that may be answered with a certificate. Only [`admit`] makes one, and [`crate::prepare`]
/// consumes it.
///
/// ```compile_fail,E0451
/// // The fields are private: nobody skips the decision.
/// let forged = ca::AdmittedCsr { spki_der: vec![], wanted: todo!(), evidence: ca::Evidence::Ceremony };
/// ```
/// ```compile_fail,E0599
/// // And it cannot be copied.
/// fn twice(admitted: ca::AdmittedCsr) -> (ca::AdmittedCsr, ca::AdmittedCsr) {
///     (admitted.clone(), admitted)
/// }
/// ```
/// ```compile_fail,E0308
/// // A CSR that was not admitted cannot be prepared.
/// fn skip(csr: x509::Csr, issuer: &ca::Issuer, serial: types::Serial, now: types::Now) {
///     let _ = ca::prepare(csr, issuer, serial, ca::LEAF_LIFETIME_DEFAULT, now);
/// }
/// ```
pub struct AdmittedCsr {
    pub(crate) spki_der: Vec<u8>,
    pub(crate) wanted: Wanted,
    pub(crate) evidence: Evidence,
}

impl AdmittedCsr {
    /// What the certificate will be for.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// What entitled the asker.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

impl fmt::Debug for AdmittedCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdmittedCsr({} by {})", self.wanted, self.evidence)
    }
}

/// Decides whether this request may have this certificate. Nothing but the public key is taken
/// from the request; the subject and the extensions are ours.
///
/// # Errors
/// The first rule that it breaks.
pub fn admit(csr: Csr, evidence: Evidence, wanted: Wanted, facts: &Facts) -> Result<AdmittedCsr, CaError> {
    // 1. The evidence speaks for what is wanted.
    if !entitles(&evidence, &wanted) {
        return Err(CaError::EvidenceMismatch { evidence: evidence.to_string(), wanted: wanted.to_string() });
    }
    // 2. The request names nobody else.
    if let Some(found) = csr.common_name()
        && !names(found, &wanted)
    {
        let (found, wanted) = (Clipped(found).to_string(), Clipped(wanted.name()).to_string());
        return Err(CaError::NameDiffers { found, wanted });
    }
    if let Wanted::Server { name, dns, ips } = &wanted
        && dns.is_empty()
        && ips.is_empty()
    {
        return Err(CaError::NoServerName { name: Clipped(name).to_string() });
    }
    // 3. The registry knows the name as this kind, and nobody denied it.
    check_registry(&wanted, facts)?;
    // 4. The key is nobody else's. That it is strong, and that the asker has it, the Csr itself proves.
    if let Some(owner) = &facts.key_used_by
        && wanted.principal().is_none_or(|principal| principal.name != *owner)
    {
        let name = Clipped(wanted.name()).to_string();
        return Err(CaError::KeyShared { name, owner: owner.to_string() });
    }
    Ok(AdmittedCsr { spki_der: csr.spki_der().to_vec(), wanted, evidence })
}

/// A token is for its device only; operators and the ceremony make everything but devices, whose
/// keys are proven by a token.
fn entitles(evidence: &Evidence, wanted: &Wanted) -> bool {
    match (evidence, wanted) {
        (Evidence::ProvisioningToken { device, .. }, Wanted::Device { id }) => device == id,
        (Evidence::ProvisioningToken { .. }, _) => false,
        (Evidence::Operator { .. } | Evidence::Ceremony, Wanted::Device { .. }) => false,
        (
            Evidence::Operator { .. } | Evidence::Ceremony,
            Wanted::Service { .. } | Wanted::Operator { .. } | Wanted::Server { .. },
        ) => true,
    }
}

/// Whether the common name of a request means what is wanted; a MAC address may stand in any notation.
fn names(found: &str, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Device { id: name } | Wanted::Service { name } | Wanted::Operator { name } => {
            DeviceId::parse_written(found).is_ok_and(|(id, _)| id == *name)
        }
        Wanted::Server { name, dns, .. } => {
            found.eq_ignore_ascii_case(name) || dns.iter().any(|host| found.eq_ignore_ascii_case(host))
        }
    }
}

fn check_registry(wanted: &Wanted, facts: &Facts) -> Result<(), CaError> {
    let Some(Principal { kind, name }) = wanted.principal() else { return Ok(()) };
    let name = name.to_string();
    match facts.registered {
        None => return Err(CaError::NotRegistered { kind, name }),
        Some(found) if found != kind => return Err(CaError::WrongKind { name, found, wanted: kind }),
        Some(_) => {}
    }
    if facts.denied {
        return Err(CaError::Denied { name });
    }
    if kind == PrincipalKind::Device && facts.name_in_rules {
        return Err(CaError::NameInRules { name });
    }
    Ok(())
}
