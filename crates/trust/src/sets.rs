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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use types::{IssuerId, Serial};

    use super::*;

    fn cert(issuer: u8, serial: u64) -> CertRef {
        let serial = Serial::from_der_integer(&(serial + 1).to_be_bytes()).unwrap();
        CertRef { issuer: IssuerId([issuer; 16]), serial }
    }

    fn id(text: &str) -> DeviceId {
        DeviceId::parse(text).unwrap()
    }

    #[test]
    fn a_serial_is_revoked_under_its_issuer_only() {
        let set = RevokedSet::from_entries([(cert(1, 7), Revocation::Revoked)]);
        assert_eq!(set.find(&cert(1, 7)), Some(Revocation::Revoked));
        assert_eq!(set.find(&cert(2, 7)), None);
        assert_eq!(set.find(&cert(1, 8)), None);
    }

    #[test]
    fn a_short_serial_and_a_long_one_with_the_same_end_differ() {
        let long = CertRef {
            serial: Serial::from_der_integer(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8]).unwrap(),
            ..cert(1, 7)
        };
        let set = RevokedSet::from_entries([(cert(1, 7), Revocation::Revoked)]);
        assert_eq!(set.find(&long), None);
    }

    #[test]
    fn revoking_wins_over_restoring_in_one_change() {
        let set = RevokedSet::empty().with(&[(cert(1, 1), Revocation::Suspended)], &[cert(1, 1)]);
        assert_eq!(set.find(&cert(1, 1)), Some(Revocation::Suspended));
        assert_eq!(set.with(&[], &[cert(1, 1)]).find(&cert(1, 1)), None);
        let denied = DeniedSet::empty().with(&[id("a")], &[id("A")]);
        assert!(denied.contains(&id("a")));
    }

    #[test]
    fn a_denied_name_is_denied_in_every_case() {
        let set = DeniedSet::from_ids([&id("Pump-7")]);
        assert!(set.contains(&id("pump-7")) && set.contains(&id("PUMP-7")));
        assert!(!set.contains(&id("pump-77")));
        assert!(set.with(&[], &[id("PUMP-7")]).is_empty());
    }

    #[test]
    fn a_merge_is_wanted_after_1024_changes() {
        let mut set = RevokedSet::empty();
        for serial in 0..1_024 {
            set = set.with(&[(cert(1, serial), Revocation::Revoked)], &[]);
        }
        assert!(!set.needs_merge());
        set = set.with(&[(cert(1, 1_024), Revocation::Revoked)], &[]);
        assert!(set.needs_merge());
        let merged = set.merged();
        assert_eq!((merged.needs_merge(), merged.len()), (false, 1_025));
    }

    #[test]
    fn a_million_revoked_certificates_fit_in_32_megabytes_and_each_is_found() {
        const COUNT: u64 = 1_000_000;
        let all = (0..COUNT).map(|serial| {
            let how = if serial % 10 == 0 { Revocation::Suspended } else { Revocation::Revoked };
            (cert((serial % 3) as u8, serial), how)
        });
        let set = RevokedSet::from_entries(all);
        assert_eq!(set.len(), 1_000_000);
        assert!(set.heap_bytes() <= 17_000_000, "{}", set.heap_bytes());
        for serial in 0..COUNT {
            let how = if serial % 10 == 0 { Revocation::Suspended } else { Revocation::Revoked };
            assert_eq!(set.find(&cert((serial % 3) as u8, serial)), Some(how));
            assert_eq!(set.find(&cert((serial % 3) as u8 + 1, serial)), None);
        }
        let one_more = set.with(&[(cert(9, 1), Revocation::Revoked)], &[cert(0, 0)]);
        assert_eq!((one_more.len(), one_more.find(&cert(0, 0))), (1_000_000, None));
        assert!(one_more.heap_bytes() - set.heap_bytes() < 200, "a change copies the overlay only");
    }

    proptest! {
        #[test]
        fn the_revoked_set_agrees_with_a_hash_set(
            base in proptest::collection::hash_set((0_u8..3, 0_u64..500), 0..300),
            steps in proptest::collection::vec((any::<bool>(), 0_u8..3, 0_u64..500, any::<bool>()), 0..200),
        ) {
            let mut model: HashSet<(u8, u64)> = base.clone();
            let mut set = RevokedSet::from_entries(base.iter().map(|(i, s)| (cert(*i, *s), Revocation::Revoked)));
            for (revoke, issuer, serial, merge) in steps {
                let change = [(cert(issuer, serial), Revocation::Revoked)];
                if revoke {
                    model.insert((issuer, serial));
                    set = set.with(&change, &[]);
                } else {
                    model.remove(&(issuer, serial));
                    set = set.with(&[], &[change[0].0]);
                }
                if merge && serial % 16 == 0 {
                    set = set.merged();
                }
            }
            prop_assert_eq!(set.len(), model.len());
            for issuer in 0..4_u8 {
                for serial in 0..501 {
                    prop_assert_eq!(set.find(&cert(issuer, serial)).is_some(), model.contains(&(issuer, serial)));
                }
            }
        }
    }
}
