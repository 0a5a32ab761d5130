//! Peers as the real check makes them, at a fixed time.

use std::sync::{Arc, LazyLock};

use policy::VerifiedPeer;
use testkit::pki::Pki;
use types::{Mono, Now, PrincipalKind, Wall};

/// 2026-08-01T00:00:00Z.
pub(crate) const NOW: Now = Now { mono: Mono(1_000_000_000_000), wall: Wall(1_785_542_400_000) };

pub(crate) static PKI: LazyLock<Peers> = LazyLock::new(|| Peers(Pki::at(NOW)));

/// Makes peers; each call makes another certificate.
pub(crate) struct Peers(Pki);

impl Peers {
    pub(crate) fn peer(&self, kind: PrincipalKind, name: &str) -> Arc<VerifiedPeer> {
        Arc::new(self.0.peer(kind, name, NOW))
    }
}
