use std::sync::Arc;

use types::{CertRef, DerHash, Epoch, IssuerId, Principal, ProjectId, SpkiHash, Wall};

use crate::layered::Key;

/// A peer that was admitted: who it is, by which evidence, and until when. Only
/// [`crate::admit`] makes one; share it in an `Arc`.
///
/// ```compile_fail,E0451
/// let forged = trust::VerifiedPeer { needs_confirmation: false, ..todo!() };
/// ```
/// ```compile_fail,E0277
/// // A peer comes from a check, not from nothing.
/// fn made<T: Default>() -> T { T::default() }
/// let _: trust::VerifiedPeer = made();
/// ```
/// ```compile_fail,E0599
/// // A proof is not copied.
/// fn twice(peer: trust::VerifiedPeer) -> (trust::VerifiedPeer, trust::VerifiedPeer) {
///     (peer.clone(), peer)
/// }
/// ```
#[derive(Debug)]
pub struct VerifiedPeer {
    pub(crate) principal: Principal,
    pub(crate) project: ProjectId,
    pub(crate) fleet: Option<String>,
    pub(crate) cert: CertRef,
    pub(crate) der_hash: DerHash,
    pub(crate) spki_hash: SpkiHash,
    pub(crate) anchor: IssuerId,
    /// The direct signer first, the anchor last.
    pub(crate) issuers: Arc<[IssuerId]>,
    pub(crate) issuer_label: String,
    pub(crate) subject_text: String,
    pub(crate) trust_epoch: Epoch,
    pub(crate) not_after: Wall,
    /// The overlap's end, if the certificate was superseded already at its admission.
    pub(crate) overlap_end: Option<Wall>,
    pub(crate) needs_confirmation: bool,
    /// Kept, so that a recheck of every live session hashes nothing.
    pub(crate) cert_key: Key,
    pub(crate) name_key: Key,
}

impl VerifiedPeer {
    /// Who it is, in the registry's spelling.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The project that the registry names.
    #[must_use]
    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    /// The fleet that the registry names, if any.
    #[must_use]
    pub fn fleet(&self) -> Option<&str> {
        self.fleet.as_deref()
    }

    /// Issuer and serial of its certificate.
    #[must_use]
    pub fn cert(&self) -> CertRef {
        self.cert
    }

    /// The fingerprint of its certificate.
    #[must_use]
    pub fn der_hash(&self) -> DerHash {
        self.der_hash
    }

    /// The name of its key; a renewal with the same key keeps it.
    #[must_use]
    pub fn spki_hash(&self) -> SpkiHash {
        self.spki_hash
    }

    /// The anchor through which it came.
    #[must_use]
    pub fn anchor(&self) -> IssuerId {
        self.anchor
    }

    /// What the operator calls that anchor.
    #[must_use]
    pub fn issuer_label(&self) -> &str {
        &self.issuer_label
    }

    /// The certificate's subject, for the log.
    #[must_use]
    pub fn subject_text(&self) -> &str {
        &self.subject_text
    }

    /// The epoch of the view that admitted it.
    #[must_use]
    pub fn trust_epoch(&self) -> Epoch {
        self.trust_epoch
    }

    /// The first moment at which the session is over by its dates: the earliest notAfter of its
    /// chain, or the end of the overlap that was known at admission; see
    /// [`crate::View::session_end`] for what was recorded later.
    #[must_use]
    pub fn session_end(&self) -> Wall {
        self.overlap_end.map_or(self.not_after, |until| until.min(self.not_after))
    }

    /// Whether this is the first connection of its certificate, which confirms it.
    #[must_use]
    pub fn needs_confirmation(&self) -> bool {
        self.needs_confirmation
    }
}
