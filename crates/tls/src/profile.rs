use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use types::{Clock, Wall};

use crate::accept::MinVersion;

/// The one set of algorithms that this product speaks: row B1's suites, and key exchange without
/// P-384, which an mbedTLS client would otherwise pick and be slow with.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        })
    });
    PROVIDER.clone()
}

/// The protocol versions from `min` upwards.
pub(crate) fn versions(min: MinVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    match min {
        MinVersion::V12 => &FROM_12,
        MinVersion::V13 => &FROM_12[..1],
    }
}

/// The caller's clock in the shape that rustls asks for, so that no check reads another one.
pub(crate) struct ClockTime(pub(crate) Arc<dyn Clock>);

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        unix_time(self.0.now().wall)
    }
}

/// A date as rustls writes it; none before 1970.
pub(crate) fn unix_time(wall: Wall) -> Option<UnixTime> {
    u64::try_from(wall.secs()).ok().map(|secs| UnixTime::since_unix_epoch(Duration::from_secs(secs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_suites_of_row_b1_and_never_p384() {
        let names: Vec<_> =
            provider().cipher_suites.iter().map(|s| s.suite().as_str().unwrap_or("?")).collect();
        assert_eq!(
            names,
            [
                "TLS13_AES_128_GCM_SHA256",
                "TLS13_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            ]
        );
        let groups: Vec<_> = provider().kx_groups.iter().map(|g| format!("{:?}", g.name())).collect();
        assert_eq!(groups, ["X25519MLKEM768", "X25519", "secp256r1"]);
    }

    #[test]
    fn a_date_before_1970_is_no_time() {
        assert_eq!(unix_time(Wall(-1)), None);
        assert_eq!(unix_time(Wall(1_999)).map(|t| t.as_secs()), Some(1));
    }
}
