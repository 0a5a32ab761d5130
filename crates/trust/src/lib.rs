//! Decides who is believed now: an immutable view of anchors, revocations and denials.
//! In: VerifiedChain, the ledger's entry, View, Now. Out: VerifiedPeer or a Refusal with its Reason.
//! Invariant: what is unknown, revoked, denied, out of date or not in the ledger is refused.
//! Never: reads a clock, a file, or the network.
//! Spec: DESIGN.md flow B and flow D; RFC 5280 section 6.

mod admit;
mod anchor;
mod layered;
mod ledger;
mod names;
mod peer;
mod refusal;
mod sets;
mod view;

pub use admit::{admit, precheck, recheck};
pub use anchor::{Admission, Anchor, IdentitySource};
pub use ledger::{CertState, LedgerEntry};
pub use peer::VerifiedPeer;
pub use refusal::Refusal;
pub use sets::{DeniedSet, OVERLAY_ENTRIES_MAX, Revocation, RevokedSet};
pub use view::{Change, TrustError, View};
