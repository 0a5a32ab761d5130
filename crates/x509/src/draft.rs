//! Builds the to-be-signed part of certificates.
//! In: a draft. Out: DER.
//! Invariant: the issuer's name and the key are copied byte by byte.
//! Never: signs; draws a serial; chooses a date.
//! Spec: RFC 5280 section 4; RFC 7093 method 1.

use std::net::IpAddr;

use der::Encode;
use der::asn1::{Ia5String, OctetString};
use types::{Clipped, DeviceId, Serial, Wall};
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
    CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
    crl::dp::DistributionPoint,
};

use crate::certificate::Certificate;
use crate::error::X509Error;
use crate::key::{self, SignatureAlgorithm};
use crate::{date, name, oid, tlv};

/// What stands in every subject beside the common name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectTemplate {
    /// C: two letters.
    pub country: Option<String>,
    /// ST: up to 128 characters.
    pub state: Option<String>,
    /// O: up to 64 characters.
    pub organization: Option<String>,
    /// OU: up to 64 characters.
    pub unit: Option<String>,
}

/// What a sub-CA may issue for; it stands in its extendedKeyUsage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CaPurpose {
    /// Devices, services and operators: clientAuth only.
    Clients,
    /// Servers: serverAuth only.
    Servers,
}

/// What a certificate is for; decides its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A root CA.
    Root,
    /// A CA below a root.
    SubCa {
        /// What it may issue for.
        purpose: CaPurpose,
    },
    /// A device.
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
    /// A server of ours.
    Server {
        /// The DNS names under which it is reached.
        dns: Vec<String>,
        /// The addresses under which it is reached.
        ips: Vec<IpAddr>,
    },
}

impl Profile {
    pub(crate) fn is_ca(&self) -> bool {
        matches!(self, Self::Root | Self::SubCa { .. })
    }

    /// The extended key usage, by the content bytes of its identifier; a root has none.
    pub(crate) fn purpose(&self) -> Option<&'static [u8]> {
        match self {
            Self::Root => None,
            Self::SubCa { purpose: CaPurpose::Servers } | Self::Server { .. } => Some(oid::SERVER_AUTH),
            Self::SubCa { purpose: CaPurpose::Clients }
            | Self::Device { .. }
            | Self::Service { .. }
            | Self::Operator { .. } => Some(oid::CLIENT_AUTH),
        }
    }

    /// The name of the principal, which is its common name too.
    fn principal(&self) -> Option<(&'static str, &DeviceId)> {
        match self {
            Self::Device { id } => Some(("device", id)),
            Self::Service { name } => Some(("service", name)),
            Self::Operator { name } => Some(("operator", name)),
            Self::Root | Self::SubCa { .. } | Self::Server { .. } => None,
        }
    }

    /// The URI that stands beside the common name.
    pub(crate) fn uri(&self) -> Option<String> {
        self.principal().map(|(kind, name)| format!("urn:bailiwick:{kind}:{name}"))
    }

    /// The DNS names of a server: its own and its addresses in text, which mbedTLS 2.28 needs.
    pub(crate) fn dns_names(&self) -> Vec<String> {
        let Self::Server { dns, ips } = self else { return Vec::new() };
        let mut names: Vec<String> = Vec::with_capacity(dns.len() + ips.len());
        for name in dns.iter().cloned().chain(ips.iter().map(IpAddr::to_string)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    pub(crate) fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Server { ips, .. } => ips,
            _ => &[],
        }
    }
}

/// Everything that a certificate will say.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its serial number.
    pub serial: Serial,
    /// The CA that will sign it; `None` for a self-signed one.
    pub issuer: Option<Certificate>,
    /// The subject's common name; for a principal, its name.
    pub common_name: String,
    /// The rest of the subject.
    pub template: SubjectTemplate,
    /// The key that it binds.
    pub spki_der: Vec<u8>,
    /// The first second of its validity; parts of a second are cut.
    pub not_before: Wall,
    /// The last second of its validity; parts of a second are cut.
    pub not_after: Wall,
    /// What it is for.
    pub profile: Profile,
    /// How the issuer will sign.
    pub signature: SignatureAlgorithm,
    /// Where the CRL lies that would name it.
    pub crl_url: Option<String>,
    /// Where the issuer's certificate lies.
    pub aia_url: Option<String>,
}

/// The TBSCertificate of the draft: what the issuer's key will sign.
///
/// # Errors
/// A value that cannot stand in a certificate, by its field.
pub fn build_tbs(draft: &Draft) -> Result<Vec<u8>, X509Error> {
    check(draft)?;
    let subject = name::encode(&draft.template, &draft.common_name)?;
    // The issuer's name is copied, byte by byte: a re-encoding would break the chain of a foreign CA.
    let issuer = draft.issuer.as_ref().map_or(subject.as_slice(), Certificate::subject_der);
    let version = tlv::element(tlv::explicit(0), &[&[tlv::INTEGER, 1, 2]]);
    let mut serial = Vec::with_capacity(23);
    tlv::push_unsigned(&mut serial, draft.serial.as_bytes());
    let validity =
        tlv::element(tlv::SEQUENCE, &[&date::element(draft.not_before), &date::element(draft.not_after)]);
    let extensions = tlv::element(tlv::SEQUENCE, &[&extensions(draft)?]);
    let extensions = tlv::element(tlv::explicit(3), &[&extensions]);
    Ok(tlv::element(
        tlv::SEQUENCE,
        &[
            &version,
            &serial,
            &draft.signature.identifier_der(),
            issuer,
            &validity,
            &subject,
            &draft.spki_der,
            &extensions,
        ],
    ))
}

/// A certificate, request or list: the signed bytes, the algorithm and the signature.
#[must_use]
pub fn assemble(to_be_signed: &[u8], alg: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    let mut bits = Vec::with_capacity(tlv::element_len(signature.len() + 1));
    tlv::push_head(&mut bits, tlv::BIT_STRING, signature.len() + 1);
    bits.push(0);
    bits.extend_from_slice(signature);
    tlv::element(tlv::SEQUENCE, &[to_be_signed, &alg.identifier_der(), &bits])
}

fn check(draft: &Draft) -> Result<(), X509Error> {
    key::key_kind(&draft.spki_der)?;
    if draft.not_before.secs() >= draft.not_after.secs() {
        let detail = format!("notBefore {} is not before notAfter {}", draft.not_before, draft.not_after);
        return Err(X509Error::field("validity", detail));
    }
    if draft.not_before < Wall(0) || draft.not_after > date::LAST {
        return Err(X509Error::field("validity", "outside the years 1970 to 9999"));
    }
    if draft.issuer.is_none() != (draft.profile == Profile::Root) {
        return Err(X509Error::field("issuer", "a root signs itself, and nothing else does"));
    }
    if let Some((kind, name)) = draft.profile.principal()
        && name.as_str() != draft.common_name
    {
        let detail = format!("\"{}\" is not the {kind}'s name \"{name}\"", Clipped(&draft.common_name));
        return Err(X509Error::field("common name", detail));
    }
    if let Profile::Server { dns, ips } = &draft.profile {
        if dns.is_empty() && ips.is_empty() {
            return Err(X509Error::field("server names", "none; at least one name or address is needed"));
        }
        for name in dns {
            check_dns(name)?;
        }
    }
    for (field, url) in [("crl url", &draft.crl_url), ("aia url", &draft.aia_url)] {
        let Some(url) = url else { continue };
        let known = url.starts_with("http://") || url.starts_with("https://");
        if !known || !url.bytes().all(|b| b.is_ascii_graphic()) {
            let detail = format!("\"{}\" is no http URL in printable ASCII", Clipped(url));
            return Err(X509Error::field(field, detail));
        }
    }
    Ok(())
}

fn check_dns(name: &str) -> Result<(), X509Error> {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if bare.len() > 253 || !bare.split('.').all(label) {
        let detail = format!("\"{}\" is no host name", Clipped(name));
        return Err(X509Error::field("server names", detail));
    }
    Ok(())
}

fn extensions(draft: &Draft) -> Result<Vec<u8>, X509Error> {
    let mut out = Vec::with_capacity(400);
    let profile = &draft.profile;
    let constraints = BasicConstraints {
        ca: profile.is_ca(),
        path_len_constraint: matches!(profile, Profile::SubCa { .. }).then_some(0),
    };
    push_extension(&mut out, oid::BASIC_CONSTRAINTS, true, &constraints)?;
    let usage = if profile.is_ca() {
        KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)
    } else {
        KeyUsage(KeyUsages::DigitalSignature.into())
    };
    push_extension(&mut out, oid::KEY_USAGE, true, &usage)?;
    if let Some(purpose) = profile.purpose() {
        let purpose =
            der::asn1::ObjectIdentifier::from_bytes(purpose).map_err(|e| unencodable(&e.to_string()))?;
        push_extension(&mut out, oid::EXTENDED_KEY_USAGE, false, &ExtendedKeyUsage(vec![purpose]))?;
    }
    let own = key::key_identifier(&draft.spki_der)?;
    push_extension(&mut out, oid::SUBJECT_KEY_ID, false, &SubjectKeyIdentifier(octets(&own)?))?;
    if let Some(issuer) = &draft.issuer {
        let identifier = AuthorityKeyIdentifier {
            key_identifier: Some(octets(&issuer.signing_key_identifier()?)?),
            authority_cert_issuer: None,
            authority_cert_serial_number: None,
        };
        push_extension(&mut out, oid::AUTHORITY_KEY_ID, false, &identifier)?;
    }
    let names = alternative_names(profile)?;
    if !names.is_empty() {
        push_extension(&mut out, oid::SUBJECT_ALT_NAME, false, &SubjectAltName(names))?;
    }
    if let Some(url) = &draft.crl_url {
        let point = DistributionPoint {
            distribution_point: Some(DistributionPointName::FullName(vec![uri(url)?])),
            reasons: None,
            crl_issuer: None,
        };
        push_extension(&mut out, oid::CRL_DISTRIBUTION_POINTS, false, &CrlDistributionPoints(vec![point]))?;
    }
    if let Some(url) = &draft.aia_url {
        let method = der::asn1::ObjectIdentifier::from_bytes(oid::CA_ISSUERS);
        let entry = AccessDescription {
            access_method: method.map_err(|e| unencodable(&e.to_string()))?,
            access_location: uri(url)?,
        };
        push_extension(&mut out, oid::AUTHORITY_INFO_ACCESS, false, &AuthorityInfoAccessSyntax(vec![entry]))?;
    }
    Ok(out)
}

fn alternative_names(profile: &Profile) -> Result<Vec<GeneralName>, X509Error> {
    let mut names = Vec::new();
    if let Some(text) = profile.uri() {
        names.push(uri(&text)?);
    }
    for name in profile.dns_names() {
        names.push(GeneralName::DnsName(ia5(&name)?));
    }
    for ip in profile.addresses() {
        let address = match ip {
            IpAddr::V4(v4) => octets(&v4.octets())?,
            IpAddr::V6(v6) => octets(&v6.octets())?,
        };
        names.push(GeneralName::IpAddress(address));
    }
    Ok(names)
}

fn unencodable(detail: &str) -> X509Error {
    X509Error::field("extension", format!("cannot be encoded: {detail}"))
}

fn octets(bytes: &[u8]) -> Result<OctetString, X509Error> {
    OctetString::new(bytes).map_err(|e| unencodable(&e.to_string()))
}

fn ia5(text: &str) -> Result<Ia5String, X509Error> {
    Ia5String::new(text).map_err(|e| unencodable(&e.to_string()))
}

fn uri(text: &str) -> Result<GeneralName, X509Error> {
    ia5(text).map(GeneralName::UniformResourceIdentifier)
}

fn push_extension(
    out: &mut Vec<u8>,
    id: &[u8],
    critical: bool,
    value: &impl Encode,
) -> Result<(), X509Error> {
    let value = value.to_der().map_err(|e| unencodable(&e.to_string()))?;
    push_raw_extension(out, id, critical, &value);
    Ok(())
}

/// Appends one Extension; `critical` is left out where it is false, as DER demands of a default.
pub(crate) fn push_raw_extension(out: &mut Vec<u8>, id: &[u8], critical: bool, value: &[u8]) {
    let id = tlv::element(tlv::OID, &[id]);
    let critical: &[u8] = if critical { &[tlv::BOOLEAN, 1, 0xff] } else { &[] };
    let value = tlv::element(tlv::OCTET_STRING, &[value]);
    tlv::push(out, tlv::SEQUENCE, &[id.as_slice(), critical, &value].concat());
}
