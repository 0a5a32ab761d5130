//! Object identifiers, as the content bytes of their DER.
//! In: nothing. Out: constants.
//! Spec: RFC 5280 appendix A; RFC 4519; RFC 8017.

pub(crate) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
pub(crate) const SUBJECT_SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];
pub(crate) const COUNTRY: &[u8] = &[0x55, 4, 6];
pub(crate) const LOCALITY: &[u8] = &[0x55, 4, 7];
pub(crate) const STATE: &[u8] = &[0x55, 4, 8];
pub(crate) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
pub(crate) const UNIT: &[u8] = &[0x55, 4, 11];
pub(crate) const EMAIL: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
pub(crate) const DOMAIN_COMPONENT: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
pub(crate) const USER_ID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1];

pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
pub(crate) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
pub(crate) const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
pub(crate) const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 31];
pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
pub(crate) const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
pub(crate) const CA_ISSUERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 2];
pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// The dotted text of an identifier's content bytes, clipped.
pub(crate) fn dotted(content: &[u8]) -> String {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    for &byte in content {
        arc = arc.saturating_mul(128).saturating_add(u64::from(byte & 0x7f));
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let root = (arc / 40).min(2);
                arcs.push(root.to_string());
                arcs.push((arc - root * 40).to_string());
            } else {
                arcs.push(arc.to_string());
            }
            arc = 0;
        }
    }
    // A stranger may have chosen it as long as a certificate, and it goes into logs and answers.
    types::Clipped(&arcs.join(".")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_print_with_dots() {
        assert_eq!(dotted(COMMON_NAME), "2.5.4.3");
        assert_eq!(dotted(DOMAIN_COMPONENT), "0.9.2342.19200300.100.1.25");
        assert_eq!(dotted(CA_ISSUERS), "1.3.6.1.5.5.7.48.2");
        assert_eq!(dotted(&[0x88, 0x37]), "2.999");
    }
}
