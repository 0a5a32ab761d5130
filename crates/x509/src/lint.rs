//! Holds the bytes of a certificate against its draft.
//! In: final bytes and the draft. Out: every field that differs.
//! Invariant: any changed bit of the signed part is found (test: every_flipped_byte_of_the_signed_part_is_found_by_the_lint).
//! Never: looks at the signature's bits.
//! Spec: RFC 5280 section 4.

use std::fmt;
use std::net::IpAddr;

use types::Wall;
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::extensions::{DistributionPointName, ExtendedKeyUsage, GeneralName, ParsedExtension};
use x509_parser::nom::Parser;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use crate::certificate::Certificate;
use crate::draft::{Draft, Profile, build_tbs};
use crate::key;
use crate::{name, oid, tlv};

/// One field of a certificate that is not as its draft says, or as no certificate of ours may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

impl std::error::Error for Lint {}

#[derive(Default)]
struct Findings(Vec<Lint>);

impl Findings {
    fn say(&mut self, field: &'static str, detail: impl Into<String>) {
        self.0.push(Lint { field, detail: detail.into() });
    }

    fn hold(&mut self, field: &'static str, holds: bool, detail: &str) {
        if !holds {
            self.say(field, detail);
        }
    }
}

/// Reads the final bytes back with another parser than the one that wrote them, and holds every field
/// against the draft, and the draft against its issuer. The signature's bits are not looked at.
///
/// # Errors
/// Every field that differs.
pub fn lint(certificate_der: &[u8], draft: &Draft) -> Result<(), Vec<Lint>> {
    let mut findings = Findings::default();
    match X509CertificateParser::new().parse(certificate_der) {
        Ok(([], certificate)) => {
            check_fields(&mut findings, &certificate, draft);
            check_extension_set(&mut findings, &certificate, draft);
            check_extension_values(&mut findings, &certificate, draft);
        }
        Ok((rest, _)) => {
            findings.say("encoding", format!("{} stray bytes behind the certificate", rest.len()))
        }
        Err(error) => findings.say("encoding", error.to_string()),
    }
    if let Err(error) = Certificate::parse_der(certificate_der) {
        findings.say("encoding", error.to_string());
    }
    if let Some(issuer) = &draft.issuer {
        check_issuer(&mut findings, issuer, draft);
    }
    // Last, and only where the reading found nothing: what a lenient parser lets pass, byte by byte.
    if findings.0.is_empty() {
        let same = Certificate::parse_der(certificate_der)
            .is_ok_and(|found| build_tbs(draft).is_ok_and(|built| built == found.tbs_der()));
        findings.hold("encoding", same, "is not the one that the draft builds");
    }
    if findings.0.is_empty() { Ok(()) } else { Err(findings.0) }
}

fn check_fields(findings: &mut Findings, certificate: &X509Certificate<'_>, draft: &Draft) {
    findings.hold("version", certificate.version.0 == 2, "is not v3");
    let serial = draft.serial.as_bytes();
    findings.hold("serial", certificate.raw_serial() == serial, "is not the draft's");
    // RFC 5280 section 4.1.2.2: positive, at most 20 bytes; ours always have 20.
    let sound = serial.len() == 20 && serial.first().is_some_and(|first| first & 0x80 == 0);
    findings.hold("serial", sound, "is not positive and 20 bytes long");

    let algorithm = draft.signature.identifier_der();
    let outer = tlv::only("certificate", tlv::SEQUENCE, certificate.as_raw()).and_then(|mut outer| {
        outer.expect(tlv::SEQUENCE)?;
        outer.expect(tlv::SEQUENCE)
    });
    findings.hold(
        "signature algorithm",
        outer.is_ok_and(|outer| outer.whole == algorithm)
            && certificate.signature == certificate.signature_algorithm,
        "is not the draft's in both places",
    );

    let signer = draft.issuer.as_ref().map_or(certificate.subject_pki.raw, Certificate::spki_der);
    let own = key::key_kind(signer).map(key::KeyKind::signature_algorithm);
    findings.hold("signature algorithm", own == Ok(draft.signature), "is not the one of the issuer's key");

    let issuer = draft.issuer.as_ref().map_or(certificate.subject.as_raw(), Certificate::subject_der);
    findings.hold(
        "issuer",
        certificate.issuer.as_raw() == issuer,
        "is not the issuer's subject, byte by byte",
    );
    check_subject(findings, &certificate.subject, draft);
    check_date(findings, "not before", certificate.validity.not_before, draft.not_before);
    check_date(findings, "not after", certificate.validity.not_after, draft.not_after);
    findings.hold(
        "public key",
        certificate.subject_pki.raw == draft.spki_der,
        "is not the draft's, byte by byte",
    );
    if let Err(error) = key::key_kind(certificate.subject_pki.raw) {
        findings.say("public key", error.to_string());
    }
    let unique_ids = certificate.issuer_uid.is_some() || certificate.subject_uid.is_some();
    findings.hold("unique ids", !unique_ids, "are there");
}

fn check_subject(findings: &mut Findings, subject: &X509Name<'_>, draft: &Draft) {
    let expected = name::parts(&draft.template, &draft.common_name);
    let mut rdns = subject.iter();
    for part in expected {
        let Some(rdn) = rdns.next() else {
            findings.say(part.field, "is missing");
            continue;
        };
        let mut attributes = rdn.iter();
        let same = attributes.next().is_some_and(|attribute| {
            attribute.attr_type().as_bytes() == part.oid && attribute.as_slice() == part.value.as_bytes()
        });
        findings.hold(part.field, same && attributes.next().is_none(), "is not the draft's");
    }
    findings.hold("subject", rdns.next().is_none(), "says more than the draft");
}

fn check_date(findings: &mut Findings, field: &'static str, found: ASN1Time, expected: Wall) {
    findings.hold(field, found.timestamp() == expected.secs(), "is not the draft's");
    // RFC 5280 section 4.1.2.5: 2050-01-01T00:00:00Z and later is GeneralizedTime.
    let generalized = expected.secs() >= 2_524_608_000;
    findings.hold(field, found.is_generalizedtime() == generalized, "is in the wrong form for its year");
}

/// Which extensions the draft asks for, and whether each is critical.
fn expected_extensions(draft: &Draft) -> Vec<(&'static [u8], bool)> {
    let leaf = !draft.profile.is_ca();
    let optional = [
        (oid::EXTENDED_KEY_USAGE, draft.profile.purpose().is_some()),
        (oid::AUTHORITY_KEY_ID, draft.issuer.is_some()),
        (oid::SUBJECT_ALT_NAME, leaf),
        (oid::CRL_DISTRIBUTION_POINTS, draft.crl_url.is_some()),
        (oid::AUTHORITY_INFO_ACCESS, draft.aia_url.is_some()),
    ];
    let mut expected =
        vec![(oid::BASIC_CONSTRAINTS, true), (oid::KEY_USAGE, true), (oid::SUBJECT_KEY_ID, false)];
    expected.extend(optional.into_iter().filter(|(_, wanted)| *wanted).map(|(id, _)| (id, false)));
    expected
}

fn check_extension_set(findings: &mut Findings, certificate: &X509Certificate<'_>, draft: &Draft) {
    let mut expected = expected_extensions(draft);
    for extension in certificate.extensions() {
        let id = extension.oid.as_bytes();
        match expected.iter().position(|(wanted, _)| *wanted == id) {
            Some(at) => {
                let (_, critical) = expected.swap_remove(at);
                if extension.critical != critical {
                    findings.say("extensions", format!("{} has the wrong criticality", oid::dotted(id)));
                }
            }
            None => {
                findings.say("extensions", format!("{} stands twice or is not the draft's", oid::dotted(id)))
            }
        }
    }
    for (missing, _) in expected {
        findings.say("extensions", format!("{} is missing", oid::dotted(missing)));
    }
}

fn check_extension_values(findings: &mut Findings, certificate: &X509Certificate<'_>, draft: &Draft) {
    /// keyUsage bits as x509-parser numbers them, the first named bit lowest.
    const DIGITAL_SIGNATURE: u16 = 1;
    const KEY_CERT_SIGN_AND_CRL_SIGN: u16 = 1 << 5 | 1 << 6;
    let profile = &draft.profile;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => {
                let path_len = matches!(profile, Profile::SubCa { .. }).then_some(0);
                let same = constraints.ca == profile.is_ca() && constraints.path_len_constraint == path_len;
                findings.hold("basic constraints", same, "are not the profile's");
            }
            ParsedExtension::KeyUsage(usage) => {
                let wanted = if profile.is_ca() { KEY_CERT_SIGN_AND_CRL_SIGN } else { DIGITAL_SIGNATURE };
                findings.hold("key usage", usage.flags == wanted, "is not the profile's");
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                findings.hold(
                    "extended key usage",
                    lists_only(usage, profile.purpose()),
                    "is not the profile's one purpose",
                );
            }
            ParsedExtension::SubjectKeyIdentifier(identifier) => {
                let same = key::key_identifier(&draft.spki_der).is_ok_and(|own| identifier.0 == own);
                findings.hold("subject key identifier", same, "is not the one of RFC 7093 method 1");
            }
            ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                let wanted = draft.issuer.as_ref().and_then(|issuer| issuer.signing_key_identifier().ok());
                let found = identifier.key_identifier.as_ref().map(|key| key.0);
                let bare =
                    identifier.authority_cert_issuer.is_none() && identifier.authority_cert_serial.is_none();
                let same = wanted.as_deref() == found && bare;
                findings.hold("authority key identifier", same, "is not the issuer's own");
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                check_alternative_names(findings, &names.general_names, profile);
            }
            ParsedExtension::CRLDistributionPoints(points) => {
                let found = match points.points.as_slice() {
                    [point] if point.reasons.is_none() && point.crl_issuer.is_none() => {
                        &point.distribution_point
                    }
                    _ => &None,
                };
                let same = match (found, &draft.crl_url) {
                    (Some(DistributionPointName::FullName(names)), Some(url)) => is_url(names, url),
                    _ => false,
                };
                findings.hold("crl distribution point", same, "is not the draft's one URL");
            }
            ParsedExtension::AuthorityInfoAccess(access) => {
                let same = match (access.accessdescs.as_slice(), &draft.aia_url) {
                    ([entry], Some(url)) => {
                        entry.access_method.as_bytes() == oid::CA_ISSUERS
                            && is_url(std::slice::from_ref(&entry.access_location), url)
                    }
                    _ => false,
                };
                findings.hold("authority information access", same, "is not the draft's one caIssuers URL");
            }
            _ => findings
                .say("extensions", format!("{} cannot be read", oid::dotted(extension.oid.as_bytes()))),
        }
    }
}

fn lists_only(usage: &ExtendedKeyUsage<'_>, purpose: Option<&[u8]>) -> bool {
    let others = usage.any
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    !others
        && usage.client_auth == (purpose == Some(oid::CLIENT_AUTH))
        && usage.server_auth == (purpose == Some(oid::SERVER_AUTH))
}

fn is_url(names: &[GeneralName<'_>], url: &str) -> bool {
    matches!(names, [GeneralName::URI(found)] if *found == url)
}

fn check_alternative_names(findings: &mut Findings, names: &[GeneralName<'_>], profile: &Profile) {
    let mut uris = Vec::new();
    let mut dns = Vec::new();
    let mut addresses = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.push(bytes.to_vec()),
            _ => findings.say("subject alternative name", "holds a name of another kind"),
        }
    }
    let wanted: Vec<Vec<u8>> = profile
        .addresses()
        .iter()
        .map(|ip| match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        })
        .collect();
    let field = "subject alternative name";
    findings.hold(field, uris == Vec::from_iter(profile.uri()), "does not hold exactly the profile's URI");
    findings.hold(field, dns == profile.dns_names(), "does not hold exactly the profile's DNS names");
    findings.hold(field, addresses == wanted, "does not hold exactly the profile's addresses");
}

/// What the issuer allows below it; a certificate that breaks it would never verify.
fn check_issuer(findings: &mut Findings, issuer: &Certificate, draft: &Draft) {
    use crate::certificate::KEY_CERT_SIGN;
    findings.hold(
        "issuer",
        issuer.is_ca() && issuer.key_usage_allows(KEY_CERT_SIGN),
        "is no CA that may sign certificates",
    );
    findings.hold(
        "issuer",
        !(draft.profile.is_ca() && issuer.path_len() == Some(0)),
        "allows no CA below it",
    );
    let allowed = match draft.profile.purpose() {
        Some(oid::SERVER_AUTH) => issuer.allows_server_auth(),
        Some(_) => issuer.allows_client_auth(),
        None => true,
    };
    findings.hold("issuer", !issuer.has_eku() || allowed, "may not issue for this purpose");
    let within = draft.not_after.secs() <= issuer.not_after().secs();
    findings.hold("validity", within, "reaches past the issuer's");
}
