use std::collections::BTreeSet;
use std::sync::Arc;

use types::{Blame, CertRef, Clipped, DeviceId, Epoch, IssuerId, Wall};
use x509::ChainAnchors;

use crate::anchor::Anchor;
use crate::layered::{Key, Layered};
use crate::sets::{DeniedSet, OVERLAY_ENTRIES_MAX, Revocation, RevokedSet, cert_key};

/// Why a set of anchors makes no view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The certificate has no CA bit, which rustls would not notice.
    #[error("anchor \"{label}\": its certificate is no CA certificate (basicConstraints CA is not set)")]
    NotACa {
        /// The anchor's label, clipped.
        label: String,
    },
    /// The id is not the hash of the certificate's key.
    #[error("anchor \"{label}\": id {id} is not that of its certificate's key, {found}")]
    WrongId {
        /// The anchor's label, clipped.
        label: String,
        /// The id that was given.
        id: IssuerId,
        /// The id of the key.
        found: IssuerId,
    },
    /// Two anchors with the same key that say different things of it; a CA certificate that was
    /// renewed with its key may stand beside the old one.
    #[error("anchor \"{label}\": its key {id} is already that of anchor \"{other}\", which says otherwise")]
    Twice {
        /// The second anchor's label, clipped.
        label: String,
        /// The first anchor's label, clipped.
        other: String,
        /// The key's id.
        id: IssuerId,
    },
    /// The path checker does not take the certificate.
    #[error("anchors cannot be used for path checks: {detail}")]
    Unusable {
        /// What the checker says.
        detail: String,
    },
}

impl TrustError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Operator
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotACa { .. } => "trust.anchor_not_a_ca",
            Self::WrongId { .. } => "trust.anchor_wrong_id",
            Self::Twice { .. } => "trust.anchor_twice",
            Self::Unusable { .. } => "trust.anchor_unusable",
        }
    }
}

/// What one act changes; whoever records the act raises the epoch.
#[derive(Clone, Default)]
pub struct Change {
    /// The epoch of the new view.
    pub epoch: Epoch,
    /// Certificates that lose their trust.
    pub revoke: Vec<(CertRef, Revocation)>,
    /// Certificates that get it back.
    pub restore: Vec<CertRef>,
    /// Names that go on the deny-list.
    pub deny: Vec<DeviceId>,
    /// Names that leave it.
    pub allow: Vec<DeviceId>,
    /// Replaced certificates, and the first moment at which each is no longer usable.
    pub retire: Vec<(CertRef, Wall)>,
    /// CAs that are compromised: everything below them is refused.
    pub revoke_issuers: Vec<IssuerId>,
    /// The anchors from now on, if they change.
    pub anchors: Option<Vec<Anchor>>,
}

/// Who is believed now. Immutable: a change makes a new view that shares the large parts.
#[derive(Clone)]
pub struct View {
    epoch: Epoch,
    anchors: Arc<[Anchor]>,
    client_anchors: Arc<ChainAnchors>,
    revoked: RevokedSet,
    denied: DeniedSet,
    retiring: Layered<Wall>,
    revoked_issuers: Arc<BTreeSet<IssuerId>>,
    time_floor: Wall,
}

impl View {
    /// A view of these facts.
    ///
    /// # Errors
    /// The anchor that is no CA, bears a wrong id, or comes twice.
    pub fn new(
        epoch: Epoch,
        anchors: Vec<Anchor>,
        revoked: RevokedSet,
        denied: DeniedSet,
    ) -> Result<Self, TrustError> {
        let client_anchors = Arc::new(chain_anchors(&anchors)?);
        Ok(Self {
            epoch,
            anchors: Arc::from(anchors),
            client_anchors,
            revoked,
            denied,
            retiring: Layered::empty(),
            revoked_issuers: Arc::default(),
            time_floor: Wall(i64::MIN),
        })
    }

    /// Where in the history of trust this view stands.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Every anchor, those for servers too.
    #[must_use]
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The anchors from which clients may come, ready for path checks. Revoked ones are among them,
    /// so that [`crate::precheck`] can name the true reason of its refusal.
    #[must_use]
    pub fn client_anchors(&self) -> &Arc<ChainAnchors> {
        &self.client_anchors
    }

    /// The anchor with this key.
    #[must_use]
    pub fn anchor(&self, id: IssuerId) -> Option<&Anchor> {
        self.anchors.iter().find(|anchor| anchor.id == id)
    }

    /// Whether the certificate is revoked or suspended.
    #[must_use]
    pub fn is_revoked(&self, cert: &CertRef) -> Option<Revocation> {
        self.revoked.find(cert)
    }

    /// Whether the name stands on the deny-list.
    #[must_use]
    pub fn is_denied(&self, id: &DeviceId) -> bool {
        self.denied.contains(id)
    }

    /// Whether the CA with this key is compromised.
    #[must_use]
    pub fn is_issuer_revoked(&self, id: IssuerId) -> bool {
        self.revoked_issuers.contains(&id)
    }

    /// The first moment at which a replaced certificate is no longer usable.
    #[must_use]
    pub fn retires_at(&self, cert: &CertRef) -> Option<Wall> {
        self.retiring.find(&cert_key(cert))
    }

    /// The earliest date that this machine's clock may honestly show.
    #[must_use]
    pub fn time_floor(&self) -> Wall {
        self.time_floor
    }

    /// The view with a floor under the clock: nobody is admitted while the date lies below it.
    #[must_use]
    pub fn with_time_floor(&self, floor: Wall) -> Self {
        Self { time_floor: floor, ..self.clone() }
    }

    /// The view after an act. Its cost does not grow with what the view already holds. A list of
    /// anchors that makes no view leaves none, so that everybody is refused; ask
    /// [`View::checked_with`] first where the list is not known to be good.
    #[must_use]
    pub fn with(&self, change: Change) -> Self {
        let epoch = change.epoch;
        self.checked_with(change).unwrap_or_else(|_| Self { epoch, anchors: Arc::from([]), ..self.clone() })
    }

    /// The view after an act.
    ///
    /// # Errors
    /// As [`View::new`], of the changed anchors.
    pub fn checked_with(&self, change: Change) -> Result<Self, TrustError> {
        let mut next = self.clone();
        next.epoch = change.epoch;
        if let Some(anchors) = change.anchors {
            next.client_anchors = Arc::new(chain_anchors(&anchors)?);
            next.anchors = Arc::from(anchors);
        }
        next.revoked = self.revoked.with(&change.revoke, &change.restore);
        next.denied = self.denied.with(&change.deny, &change.allow);
        next.retiring =
            self.retiring.with(change.retire.iter().map(|(cert, until)| (cert_key(cert), Some(*until))));
        if !change.revoke_issuers.is_empty() {
            Arc::make_mut(&mut next.revoked_issuers).extend(change.revoke_issuers);
        }
        Ok(next)
    }

    /// Whether a set has grown so far that [`View::merged`] should run off-thread.
    #[must_use]
    pub fn needs_merge(&self) -> bool {
        let most =
            self.revoked.0.overlay_len().max(self.denied.0.overlay_len()).max(self.retiring.overlay_len());
        most > OVERLAY_ENTRIES_MAX
    }

    /// The same facts with empty overlays: linear, for a thread that has time.
    #[must_use]
    pub fn merged(&self) -> Self {
        Self {
            revoked: self.revoked.merged(),
            denied: DeniedSet(self.denied.0.merged()),
            retiring: self.retiring.merged(),
            ..self.clone()
        }
    }

    /// Takes over a merge that was made from an earlier view; what changed since is kept.
    #[must_use]
    pub fn rebased(&self, merged: &Self) -> Self {
        Self {
            revoked: RevokedSet(self.revoked.0.rebased(&merged.revoked.0)),
            denied: DeniedSet(self.denied.0.rebased(&merged.denied.0)),
            retiring: self.retiring.rebased(&merged.retiring),
            ..self.clone()
        }
    }

    /// How many certificates are revoked or suspended.
    #[must_use]
    pub fn revoked_len(&self) -> usize {
        self.revoked.len()
    }

    pub(crate) fn revocation(&self, key: &Key) -> Option<Revocation> {
        self.revoked.0.find(key)
    }

    pub(crate) fn denies(&self, key: &Key) -> bool {
        self.denied.0.find(key).is_some()
    }

    pub(crate) fn retirement(&self, key: &Key) -> Option<Wall> {
        self.retiring.find(key)
    }
}

fn chain_anchors(anchors: &[Anchor]) -> Result<ChainAnchors, TrustError> {
    for (at, anchor) in anchors.iter().enumerate() {
        let label = || Clipped(&anchor.label).to_string();
        let found = anchor.certificate.issuer_id_as_ca();
        if !anchor.certificate.is_ca() {
            return Err(TrustError::NotACa { label: label() });
        }
        if found != anchor.id {
            return Err(TrustError::WrongId { label: label(), id: anchor.id, found });
        }
        let same = |first: &&Anchor| first.id == anchor.id && !first.agrees_with(anchor);
        if let Some(first) = anchors.iter().take(at).find(same) {
            let other = Clipped(&first.label).to_string();
            return Err(TrustError::Twice { label: label(), other, id: anchor.id });
        }
    }
    let clients = anchors.iter().filter(|anchor| anchor.signs_clients()).map(|anchor| &anchor.certificate);
    ChainAnchors::new(clients).map_err(|error| TrustError::Unusable { detail: error.to_string() })
}
