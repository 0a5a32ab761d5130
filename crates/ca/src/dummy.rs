use x509::KeyKind;

/// What stands in every byte of a dummy: below 0x80, so that it is a positive INTEGER.
const FILL: u8 = 0x5a;

/// A constant that has the length and the shape of a signature by a key of this kind, but is none:
/// it closes the bytes for the lint before the real key has signed anything.
pub(crate) fn dummy_signature(kind: KeyKind) -> Vec<u8> {
    match kind {
        KeyKind::P256 => ecdsa(32),
        KeyKind::P384 => ecdsa(48),
        KeyKind::Ed25519 => vec![FILL; 64],
        KeyKind::Rsa { bits } => vec![FILL; bits.div_ceil(8) as usize],
    }
}

/// `Ecdsa-Sig-Value ::= SEQUENCE { r INTEGER, s INTEGER }`; both lengths stay below 128, so that
/// each takes one byte.
fn ecdsa(scalar_bytes: u8) -> Vec<u8> {
    let mut out = vec![0x30, 2 * (scalar_bytes + 2)];
    for _ in 0..2 {
        out.extend([0x02, scalar_bytes]);
        out.extend(std::iter::repeat_n(FILL, usize::from(scalar_bytes)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dummy_has_the_length_of_a_real_signature() {
        for (kind, bytes) in [
            (KeyKind::P256, 70),
            (KeyKind::P384, 102),
            (KeyKind::Ed25519, 64),
            (KeyKind::Rsa { bits: 2048 }, 256),
            (KeyKind::Rsa { bits: 4096 }, 512),
        ] {
            assert_eq!(dummy_signature(kind).len(), bytes, "{kind:?}");
        }
    }

    #[test]
    fn a_dummy_ecdsa_signature_is_der() {
        let dummy = dummy_signature(KeyKind::P256);
        assert_eq!(dummy[..4], [0x30, 68, 0x02, 32]);
        assert_eq!(dummy[36..38], [0x02, 32]);
    }
}
