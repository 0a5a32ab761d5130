use types::{CertRef, DeviceId};

use crate::layered::{Key, Layered};

/// An overlay that holds more entries than this asks for a merge.
pub const OVERLAY_ENTRIES_MAX: usize = 1_024;

/// How a certificate lost its trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Revocation {
    /// For good.
    Revoked,
    /// On hold: an operator may restore it.
    Suspended,
}

/// The key of a certificate: a hash, so that a million of them take 17 MB. A collision of 128 bits
/// of SHA-256 could only refuse, never admit.
pub(crate) fn cert_key(cert: &CertRef) -> Key {
    let mut bytes = [0_u8; 36];
    let (issuer, serial) = bytes.split_at_mut(16);
    issuer.copy_from_slice(&cert.issuer.0);
    let significant = cert.serial.as_bytes();
    for (to, from) in serial.iter_mut().rev().zip(significant.iter().rev()) {
        *to = *from;
    }
    shorten(x509::sha256(&bytes))
}

/// The key of a name, folded: `Pump-7` and `pump-7` are one.
pub(crate) fn name_key(id: &DeviceId) -> Key {
    shorten(x509::sha256(id.folded().as_bytes()))
}

fn shorten(hash: [u8; 32]) -> Key {
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(hash) {
        *to = from;
    }
    key
}

/// Every revoked and suspended certificate that has not expired.
#[derive(Clone)]
pub struct RevokedSet(pub(crate) Layered<Revocation>);

impl RevokedSet {
    /// No certificate is revoked.
    #[must_use]
    pub fn empty() -> Self {
        Self(Layered::empty())
    }

    /// The set of these certificates; of one named twice the last word counts.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = (CertRef, Revocation)>) -> Self {
        Self(Layered::from_entries(entries.into_iter().map(|(cert, how)| (cert_key(&cert), how)).collect()))
    }

    /// Whether the certificate is revoked or suspended.
    #[must_use]
    pub fn find(&self, cert: &CertRef) -> Option<Revocation> {
        self.0.find(&cert_key(cert))
    }

    /// The set with these certificates revoked and those restored; copies the overlay, never the base.
    #[must_use]
    pub fn with(&self, revoke: &[(CertRef, Revocation)], restore: &[CertRef]) -> Self {
        let restored = restore.iter().map(|cert| (cert_key(cert), None));
        let revoked = revoke.iter().map(|(cert, how)| (cert_key(cert), Some(*how)));
        Self(self.0.with(restored.chain(revoked)))
    }

    /// Whether the overlay has grown so far that it should be merged off-thread.
    #[must_use]
    pub fn needs_merge(&self) -> bool {
        self.0.overlay_len() > OVERLAY_ENTRIES_MAX
    }

    /// The same set in one piece: linear in its size, for a thread that has time.
    #[must_use]
    pub fn merged(&self) -> Self {
        Self(self.0.merged())
    }

    /// How many certificates it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it keeps on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

impl Default for RevokedSet {
    fn default() -> Self {
        Self::empty()
    }
}

/// Every name on the deny-list, folded.
#[derive(Clone)]
pub struct DeniedSet(pub(crate) Layered<()>);

impl DeniedSet {
    /// No name is denied.
    #[must_use]
    pub fn empty() -> Self {
        Self(Layered::empty())
    }

    /// The list of these names.
    #[must_use]
    pub fn from_ids<'a>(ids: impl IntoIterator<Item = &'a DeviceId>) -> Self {
        Self(Layered::from_entries(ids.into_iter().map(|id| (name_key(id), ())).collect()))
    }

    /// Whether the name stands on the list.
    #[must_use]
    pub fn contains(&self, id: &DeviceId) -> bool {
        self.0.find(&name_key(id)).is_some()
    }

    /// The list with these names denied and those allowed; a name in both is denied.
    #[must_use]
    pub fn with(&self, deny: &[DeviceId], allow: &[DeviceId]) -> Self {
        let allowed = allow.iter().map(|id| (name_key(id), None));
        let denied = deny.iter().map(|id| (name_key(id), Some(())));
        Self(self.0.with(allowed.chain(denied)))
    }

    /// How many names it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for DeniedSet {
    fn default() -> Self {
        Self::empty()
    }
}
