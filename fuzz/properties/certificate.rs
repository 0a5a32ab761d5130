//! Bytes that are read as a certificate are kept to the last one, and whatever stands in it can be asked for.

use x509::Certificate;

pub(crate) fn holds(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        for certificate in Certificate::parse_pem_chain(text).into_iter().flatten() {
            survives(&certificate);
        }
    }
    if let Ok(certificate) = Certificate::parse_der(data) {
        assert_eq!(certificate.der(), data);
        survives(&certificate);
    }
}

fn survives(certificate: &Certificate) {
    let again = Certificate::parse_der(certificate.der()).unwrap();
    assert_eq!(again.der(), certificate.der());
    let from_pem = Certificate::parse_pem(&certificate.to_pem()).unwrap();
    assert_eq!(from_pem.der_hash(), certificate.der_hash());
    assert_eq!(
        (again.serial(), again.version(), again.common_names(), again.subject_serial_numbers()),
        (
            certificate.serial(),
            certificate.version(),
            certificate.common_names(),
            certificate.subject_serial_numbers()
        )
    );
    assert!(matches!(certificate.version(), 1..=3));
    for text in [certificate.subject_text(), certificate.issuer_text()] {
        assert!(!text.chars().any(char::is_control), "a name could forge a line of the log: {text:?}");
    }
    // Dates that cannot be named would break the log and the store.
    assert!(
        !certificate.not_before().to_string().is_empty() && !certificate.not_after().to_string().is_empty()
    );
    // Nobody who is no CA signs anything, not even itself: asking must answer, whatever the answer is.
    let _ = (certificate.key_kind(), certificate.verify_signed_by(certificate), certificate.is_self_signed());
    let _ = (certificate.san_dns(), certificate.san_ips(), certificate.san_uris());
    let _ = (certificate.crl_urls(), certificate.aia_urls(), certificate.ski(), certificate.aki());
    assert!(!certificate.allows_client_auth() || !certificate.has_eku() || certificate.version() == 3);
}
