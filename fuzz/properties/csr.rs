//! A request that is read has proved its key, is kept to the last byte, and bears a strong key.

use types::{Clipped, DeviceId};
use x509::{CSR_BYTES_MAX, Csr};

pub(crate) fn holds(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(csr) = Csr::parse_pem(text)
    {
        survives(&csr);
    }
    if let Ok(csr) = Csr::parse_der(data) {
        assert_eq!(csr.der(), data);
        assert!(data.len() <= CSR_BYTES_MAX);
        survives(&csr);
    }
}

fn survives(csr: &Csr) {
    let again = Csr::parse_pem(&csr.to_pem()).unwrap();
    assert_eq!(again.der(), csr.der());
    assert_eq!((again.common_name(), again.spki_hash()), (csr.common_name(), csr.spki_hash()));
    assert_eq!(x509::key_kind(csr.spki_der()).unwrap(), csr.key_kind());
    if let Some(name) = csr.common_name() {
        // The name is raw: only what is a device id may be used, and the rest is shown without its control characters.
        assert!(DeviceId::parse(name).is_err() || !name.chars().any(char::is_control));
        assert!(!Clipped(name).to_string().chars().any(char::is_control), "{name:?}");
    }
}
