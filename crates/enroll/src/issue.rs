use std::time::Duration;

use ca::{AdmittedCsr, Evidence, Facts, Issuer, RecordedTicket, Wanted};
use signer::{IssuingKey, RawSigner};
use store::{NewIntent, RecordedIntent, StoreError};
use types::{Now, PrincipalKind, ProjectId, SpkiHash, Wall};
use x509::{Certificate, Csr};

use crate::error::EnrollError;
use crate::state::Enroll;

/// What the issuing line is asked for.
pub(crate) struct Request {
    pub(crate) csr: Csr,
    pub(crate) evidence: Evidence,
    /// On what ground, in words, for the ledger.
    pub(crate) ground: String,
    pub(crate) wanted: Wanted,
    pub(crate) project: ProjectId,
    /// The token that is spent for it, if any.
    pub(crate) token_id: Option<String>,
}

/// How often a serial may collide before something is wrong with the randomness.
const SERIAL_TRIES: usize = 3;

impl Enroll {
    /// The facts about a name and a key on which `ca::admit` decides.
    pub(crate) async fn facts(&self, wanted: &Wanted, spki: SpkiHash) -> Result<Facts, EnrollError> {
        let name = match wanted {
            Wanted::Device { id } => Some(id),
            Wanted::Service { name } | Wanted::Operator { name } => Some(name),
            Wanted::Server { .. } => None,
        };
        let store = &self.deps.store;
        let key_used_by = store.key_owner(spki).await?;
        Ok(match name {
            Some(name) => Facts {
                registered: store.principal_kind(name).await?,
                name_in_rules: self.deps.policy.borrow().bears_name(name),
                key_used_by,
                denied: store.view().is_denied(name),
            },
            None => Facts { registered: None, name_in_rules: false, key_used_by, denied: false },
        })
    }

    /// Decide → prepare → intent → sign → record: the one line by which a certificate is made.
    pub(crate) async fn issue(&self, request: Request, now: Now) -> Result<Certificate, EnrollError> {
        let spki = request.csr.spki_hash();
        let facts = self.facts(&request.wanted, spki).await?;
        let (issuer, key) = self.issuer_of(&request.wanted)?;
        let lifetime = self.lifetime_of(&request.wanted);
        let mut collisions = 0;
        let (ticket, receipt) = loop {
            let admitted: AdmittedCsr =
                ca::admit(request.csr.clone(), request.evidence.clone(), request.wanted.clone(), &facts)
                    .map_err(EnrollError::Decision)?;
            let ticket =
                ca::prepare(admitted, issuer, self.serial(), lifetime, now).map_err(EnrollError::Decision)?;
            let intent = ticket.intent();
            let recorded = self
                .deps
                .store
                .record_intent(
                    NewIntent {
                        token_id: request.token_id.clone(),
                        cert: intent.cert,
                        spki: intent.spki,
                        tbs_hash: intent.tbs_hash,
                        tbs: ticket.tbs().to_vec(),
                        principal: intent.principal,
                        project: request.project.clone(),
                        not_before: intent.not_before,
                        not_after: intent.not_after,
                        issuer_label: issuer.label.clone(),
                        evidence: request.ground.clone(),
                    },
                    now,
                )
                .await;
            match recorded {
                Ok(receipt) => break (ticket, receipt),
                Err(StoreError::SerialTaken { .. }) if collisions < SERIAL_TRIES => collisions += 1,
                Err(error) => return Err(error.into()),
            }
        };
        let recorded = RecordedTicket::assertion(ticket, receipt.cert(), receipt.tbs_hash())
            .map_err(EnrollError::Unsound)?;
        let certificate = sign(recorded, issuer, key)?;
        self.deps.store.record_certificate(receipt, certificate.der(), now).await?;
        tracing::info!(serial = %certificate.serial(), issuer = %issuer.label, ground = %request.ground, "certificate issued");
        Ok(certificate)
    }

    /// Signs the recorded bytes of an intent whose certificate was never recorded.
    pub(crate) async fn finish_intent(
        &self,
        intent: RecordedIntent,
        now: Now,
    ) -> Result<Certificate, EnrollError> {
        let receipt = intent.receipt;
        let (issuer, key) = self
            .issuer(receipt.cert().issuer)
            .ok_or_else(|| EnrollError::Wiring(format!("no key for issuer {}", receipt.cert().issuer)))?;
        let recorded = RecordedTicket::assertion_recovered(intent.tbs, receipt.cert(), receipt.tbs_hash())
            .map_err(EnrollError::Unsound)?;
        let certificate = sign(recorded, issuer, key)?;
        self.deps.store.record_certificate(receipt, certificate.der(), now).await?;
        Ok(certificate)
    }

    fn issuer_of(&self, wanted: &Wanted) -> Result<&(Issuer, IssuingKey), EnrollError> {
        match wanted {
            Wanted::Device { .. } => self.issuer_for(PrincipalKind::Device),
            Wanted::Service { .. } => self.issuer_for(PrincipalKind::Service),
            Wanted::Operator { .. } => self.issuer_for(PrincipalKind::Operator),
            Wanted::Server { .. } => self.issuer_for_servers(),
        }
    }

    fn lifetime_of(&self, wanted: &Wanted) -> Duration {
        let lifetimes = &self.deps.settings.lifetimes;
        match wanted {
            Wanted::Device { .. } => lifetimes.device,
            Wanted::Service { .. } => lifetimes.service,
            Wanted::Operator { .. } => lifetimes.operator,
            Wanted::Server { .. } => lifetimes.server,
        }
    }
}

fn sign(recorded: RecordedTicket, issuer: &Issuer, key: &IssuingKey) -> Result<Certificate, EnrollError> {
    let signature = key.sign(recorded.tbs())?;
    ca::finish(recorded, issuer, &signature).map_err(EnrollError::Unsound)
}

const DAY_MILLIS: i64 = 86_400_000;

/// When a certificate is due for renewal: 30 days before it expires, or at two thirds of its life
/// when it lives for less than 90 days.
pub(crate) fn renew_after(not_before: Wall, not_after: Wall) -> Wall {
    let life = not_after.0.saturating_sub(not_before.0).max(0);
    if life < 90 * DAY_MILLIS {
        return Wall(not_before.0.saturating_add(life / 3 * 2));
    }
    Wall(not_after.0.saturating_sub(30 * DAY_MILLIS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_30_days_before_the_end_or_at_two_thirds_of_a_short_life() {
        let at = |life_days: i64| renew_after(Wall(0), Wall(life_days * DAY_MILLIS)).0 / DAY_MILLIS;
        assert_eq!(at(365), 335);
        assert_eq!(at(90), 60);
        assert_eq!(at(89), 59);
        assert_eq!(at(30), 20);
        assert_eq!(at(3), 2);
        assert_eq!(renew_after(Wall(5), Wall(5)), Wall(5));
        assert_eq!(renew_after(Wall(9), Wall(5)), Wall(9));
    }
}
