use std::sync::Arc;

use types::{Clipped, DeviceId, IssuerId, Now, Reason, Wall};
use x509::VerifiedChain;

use crate::anchor::{Admission, Anchor};
use crate::layered::Key;
use crate::ledger::{CertState, LedgerEntry};
use crate::names::{name_of, urn_names};
use crate::peer::VerifiedPeer;
use crate::refusal::Refusal;
use crate::sets::{Revocation, cert_key, name_key};
use crate::view::View;

/// What a refusal says of a certificate: `certificate 0x1f3a… for "pump-7"`.
struct Shown<'a> {
    serial: types::Serial,
    name: &'a str,
}

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "certificate 0x{} for \"{}\"", self.serial, Clipped(self.name))
    }
}

/// The facts about a chain that no ledger is needed for.
struct Prechecked<'a> {
    anchor: &'a Anchor,
    name: DeviceId,
    cert_key: Key,
    name_key: Key,
}

/// Admits the peer that showed this chain (DESIGN.md flow B): exactly one name, a chain for client
/// authentication, in date, not revoked, not denied, and known to the ledger in a usable state,
/// with the kind and the anchor that the registry holds.
///
/// # Errors
/// The first of these that fails, with its values.
pub fn admit(
    view: &View,
    chain: &VerifiedChain,
    ledger: Option<&LedgerEntry>,
    now: Now,
) -> Result<VerifiedPeer, Refusal> {
    // 1. Everything that needs no ledger, again: the view may be newer than at the handshake.
    let Prechecked { anchor, name, cert_key, name_key } = facts(view, chain, now)?;
    let leaf = chain.leaf();
    let shown = Shown { serial: leaf.serial(), name: name.as_str() };

    // 2. The ledger knows exactly these bytes.
    let Some(entry) = ledger else {
        let how = match anchor.admission {
            Admission::Registered => "is not in the ledger",
            Admission::JustInTime => {
                "is not in the ledger yet, and just-in-time registration has not taken it in"
            }
        };
        return Err(Refusal::new(
            Reason::NotInLedger,
            format!("{shown} from \"{}\" {how}; its fingerprint is {}", anchor.label, leaf.der_hash()),
        ));
    };
    if entry.der_hash != leaf.der_hash() || entry.cert != chain.cert_ref() {
        return Err(Refusal::new(
            Reason::NotInLedger,
            format!("{shown}: its fingerprint {} is not the ledger's {}", leaf.der_hash(), entry.der_hash),
        ));
    }

    // 3. Name, kind and anchor are those of the registry.
    agree(anchor, entry, &name, &shown)?;
    for (kind, _) in urn_names(leaf)? {
        if kind != entry.principal.kind {
            return Err(Refusal::new(
                Reason::WrongAnchor,
                format!("{shown}: its SAN URI says {}, the registry {}", kind.as_str(), entry.principal),
            ));
        }
    }

    // 4. The ledger's state is a usable one.
    let overlap_end = usable(entry, &shown, now.wall)?;

    // 5. The proof, with all that a later recheck needs.
    let retires = view.retirement(&cert_key);
    Ok(VerifiedPeer {
        principal: entry.principal.clone(),
        project: entry.project.clone(),
        fleet: entry.fleet.clone(),
        cert: entry.cert,
        der_hash: entry.der_hash,
        spki_hash: leaf.spki_hash(),
        anchor: anchor.id,
        issuers: Arc::from(chain.issuers()),
        issuer_label: anchor.label.clone(),
        subject_text: leaf.subject_text(),
        trust_epoch: view.epoch(),
        not_after: chain.not_after(),
        overlap_end: match (overlap_end, retires) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        },
        needs_confirmation: entry.state == CertState::Unconfirmed,
        cert_key,
        name_key,
    })
}

/// The part of [`admit`] that needs no ledger: the TLS verifier asks it, so that the peer gets a
/// TLS alert, and asks again after the handshake.
///
/// # Errors
/// As [`admit`].
pub fn precheck(view: &View, chain: &VerifiedChain, now: Now) -> Result<(), Refusal> {
    facts(view, chain, now).map(|_| ())
}

/// Whether a peer that was admitted earlier still is: for live sessions, stored sessions and wills.
///
/// # Errors
/// What has changed since its admission.
pub fn recheck(view: &View, peer: &VerifiedPeer, now: Now) -> Result<(), Refusal> {
    let shown = Shown { serial: peer.cert.serial, name: peer.principal.name.as_str() };
    issuers_trusted(view, &peer.issuers, &shown)?;
    let anchor = view.anchor(peer.anchor);
    if !anchor.is_some_and(|anchor| anchor.kinds.contains(&peer.principal.kind)) {
        return Err(Refusal::new(
            Reason::UnknownIssuer,
            format!(
                "{shown}: its issuer \"{}\" is no longer trusted for a {}",
                peer.issuer_label, peer.principal
            ),
        ));
    }
    not_withdrawn(view, &peer.cert_key, &peer.name_key, &shown)?;
    let session_end = view.session_end(peer);
    if now.wall >= session_end {
        if now.wall >= peer.not_after {
            return Err(expired(&shown, peer.not_after, now.wall));
        }
        return Err(overlap_over(&shown, session_end, now.wall));
    }
    Ok(())
}

impl View {
    /// The first moment at which the peer's session is over by its dates, with every retirement
    /// that was recorded since its admission.
    #[must_use]
    pub fn session_end(&self, peer: &VerifiedPeer) -> Wall {
        let end = peer.session_end();
        self.retirement(&peer.cert_key).map_or(end, |until| until.min(end))
    }
}

fn facts<'a>(view: &'a View, chain: &VerifiedChain, now: Now) -> Result<Prechecked<'a>, Refusal> {
    let leaf = chain.leaf();
    // 1. A clock that is wrong proves no date.
    if now.wall < view.time_floor() {
        return Err(Refusal::new(
            Reason::ClockUnsound,
            format!("the clock says {}, which is before {}", now.wall, view.time_floor()),
        ));
    }
    // 2. One name, from where the nearest anchor has it.
    let serial = leaf.serial();
    let anchor = chain.issuers().iter().find_map(|issuer| view.anchor(*issuer)).ok_or_else(|| {
        let issuer = leaf.issuer_text();
        let detail = format!("certificate 0x{serial}: its issuer \"{}\" is not trusted", Clipped(&issuer));
        Refusal::new(Reason::UnknownIssuer, detail)
    })?;
    if !anchor.signs_clients() {
        return Err(Refusal::new(
            Reason::WrongAnchor,
            format!("certificate 0x{serial}: its issuer \"{}\" signs no clients", Clipped(&anchor.label)),
        ));
    }
    let name = name_of(leaf, anchor.identity)?;
    let shown = Shown { serial, name: name.as_str() };
    // 3. Client authentication; the path check demanded it, and any checker may deny.
    if leaf.has_eku() && !leaf.allows_client_auth() {
        let detail = format!("{shown} does not allow client authentication (extendedKeyUsage clientAuth)");
        return Err(Refusal::new(Reason::WrongUsage, detail));
    }
    // 4. No CA of the chain is compromised.
    issuers_trusted(view, chain.issuers(), &shown)?;
    // 5. Dates: of the leaf, then of whatever above it ends first.
    if now.wall < leaf.not_before() {
        let detail = format!("{shown} is not valid before {}, now {}", leaf.not_before(), now.wall);
        return Err(Refusal::new(Reason::NotYetValid, detail));
    }
    if now.wall >= leaf.not_after() {
        return Err(expired(&shown, leaf.not_after(), now.wall));
    }
    if now.wall >= chain.not_after() {
        let (ended, now) = (chain.not_after(), now.wall);
        let detail = format!("{shown}: a CA of its chain expired {ended}, now {now}");
        return Err(Refusal::new(Reason::IssuerInvalid, detail));
    }
    // 6. Not revoked, suspended, denied, or past its overlap.
    let (cert_key, name_key) = (cert_key(&chain.cert_ref()), name_key(&name));
    not_withdrawn(view, &cert_key, &name_key, &shown)?;
    if let Some(until) = view.retirement(&cert_key)
        && now.wall >= until
    {
        return Err(overlap_over(&shown, until, now.wall));
    }
    Ok(Prechecked { anchor, name, cert_key, name_key })
}

fn issuers_trusted(view: &View, issuers: &[IssuerId], shown: &Shown<'_>) -> Result<(), Refusal> {
    match issuers.iter().find(|issuer| view.is_issuer_revoked(**issuer)) {
        None => Ok(()),
        Some(issuer) => {
            let label = view.anchor(*issuer).map_or("a CA of its chain", |anchor| anchor.label.as_str());
            let detail = format!("{shown}: its issuer \"{}\" ({issuer}) was revoked", Clipped(label));
            Err(Refusal::new(Reason::IssuerInvalid, detail))
        }
    }
}

fn not_withdrawn(view: &View, cert: &Key, name: &Key, shown: &Shown<'_>) -> Result<(), Refusal> {
    let epoch = view.epoch();
    match view.revocation(cert) {
        Some(Revocation::Revoked) => {
            return Err(Refusal::new(Reason::Revoked, format!("{shown} was revoked, epoch {epoch}")));
        }
        Some(Revocation::Suspended) => {
            return Err(Refusal::new(Reason::Suspended, format!("{shown} is suspended, epoch {epoch}")));
        }
        None => {}
    }
    if view.denies(name) {
        let detail = format!("{shown}: the name is on the deny-list, epoch {epoch}");
        return Err(Refusal::new(Reason::Denied, detail));
    }
    Ok(())
}

fn agree(anchor: &Anchor, entry: &LedgerEntry, name: &DeviceId, shown: &Shown<'_>) -> Result<(), Refusal> {
    let wrong = |detail: String| Err(Refusal::new(Reason::WrongAnchor, detail));
    if entry.principal.name != *name {
        let detail = format!("{shown}: the ledger has it for {}", entry.principal);
        return Err(Refusal::new(Reason::BadName, detail));
    }
    if entry.anchor != anchor.id {
        return wrong(format!(
            "{shown} came from \"{}\" ({}), the registry has {} under {}",
            Clipped(&anchor.label),
            anchor.id,
            entry.principal,
            entry.anchor
        ));
    }
    if !anchor.kinds.contains(&entry.principal.kind) {
        let label = Clipped(&anchor.label);
        return wrong(format!("{shown}: \"{label}\" signs no {}", entry.principal.kind.as_str()));
    }
    Ok(())
}

/// The end of the overlap, if the certificate was superseded.
fn usable(entry: &LedgerEntry, shown: &Shown<'_>, now: Wall) -> Result<Option<Wall>, Refusal> {
    match entry.state {
        CertState::Unconfirmed | CertState::Active => Ok(None),
        CertState::Superseded { until } if now < until => Ok(Some(until)),
        CertState::Superseded { until } => Err(overlap_over(shown, until, now)),
        CertState::Suspended => {
            Err(Refusal::new(Reason::Suspended, format!("{shown} is suspended in the ledger")))
        }
        CertState::Revoked => Err(Refusal::new(Reason::Revoked, format!("{shown} is revoked in the ledger"))),
    }
}

// Off-spec: RFC 5280 section 4.1.2.5 counts the instant of notAfter itself as valid; a session that
// would be over in that same instant is refused instead.
fn expired(shown: &Shown<'_>, not_after: Wall, now: Wall) -> Refusal {
    Refusal::new(Reason::Expired, format!("{shown} expired {not_after}, now {now}"))
}

fn overlap_over(shown: &Shown<'_>, until: Wall, now: Wall) -> Refusal {
    let detail = format!("{shown} was replaced, and its overlap ended {until}, now {now}");
    Refusal::new(Reason::Superseded, detail)
}
