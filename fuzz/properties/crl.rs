//! A list that is read is kept to the last byte, and counts what it holds.

use x509::Crl;

pub(crate) fn holds(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(crl) = Crl::parse_pem(text)
    {
        survives(&crl);
    }
    if let Ok(crl) = Crl::parse_der(data) {
        assert_eq!(crl.der(), data);
        survives(&crl);
    }
}

fn survives(crl: &Crl) {
    let again = Crl::parse_pem(&crl.to_pem()).unwrap();
    assert_eq!(again.der(), crl.der());
    assert_eq!(
        (again.number(), again.this_update(), again.next_update(), again.issuer_der(), again.aki()),
        (crl.number(), crl.this_update(), crl.next_update(), crl.issuer_der(), crl.aki())
    );
    // A list whose entries got lost on the way would let revoked certificates in.
    assert_eq!((crl.entries().count(), crl.serials().len()), (crl.len(), crl.len()));
    assert_eq!(crl.is_empty(), crl.entries().next().is_none());
}
