use signer::RawSigner;
use x509::Csr;

use crate::error::AgentError;

/// A certificate request without a name: a device does not know its name before its first boot is
/// over; the server takes it from the token. PEM.
///
/// # Errors
/// The key fails.
pub(crate) fn nameless_csr(key: &dyn RawSigner) -> Result<String, AgentError> {
    // CertificationRequestInfo (RFC 2986): version 0, an empty Name, the key, no attributes.
    let mut content = vec![0x02, 0x01, 0x00, 0x30, 0x00];
    content.extend_from_slice(key.spki_der());
    content.extend_from_slice(&[0xa0, 0x00]);
    let info = sequence(&content);
    let signature = key.sign(&info)?;
    let csr = Csr::parse_der(&x509::assemble(&info, key.algorithm(), &signature))?;
    Ok(csr.to_pem())
}

/// A DER SEQUENCE around `content`, with the length in the shortest form.
fn sequence(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![0x30];
    match significant {
        [] => der.push(0),
        [short] if *short < 0x80 => der.push(*short),
        // At most eight bytes of length follow.
        long => {
            der.push(0x80 | long.len() as u8);
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(content);
    der
}

#[cfg(test)]
mod tests {
    use signer::FileKey;
    use x509::KeyKind;

    use super::*;

    #[test]
    fn the_request_proves_possession_and_names_nobody() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
            let key = FileKey::generate(kind).unwrap();
            let csr = Csr::parse_pem(&nameless_csr(&key).unwrap()).unwrap();
            assert_eq!(csr.common_name(), None);
            assert_eq!(csr.spki_der(), key.spki_der());
        }
    }

    #[test]
    fn lengths_are_in_the_shortest_form() {
        assert_eq!(sequence(&[]), [0x30, 0]);
        assert_eq!(sequence(&[7; 127])[..2], [0x30, 127]);
        assert_eq!(sequence(&[7; 128])[..3], [0x30, 0x81, 128]);
        assert_eq!(sequence(&[7; 256])[..4], [0x30, 0x82, 1, 0]);
    }
}
