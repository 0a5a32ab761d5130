use trust::LedgerEntry;
use types::{CertRef, DerHash, DeviceId, Now, PrincipalKind};
use x509::CrlReason;

use crate::rows::{Confirmed, RevokedDevice};
use crate::sqlite::{certificates, revoking};
use crate::{Backend, Store, StoreError};

/// Admission and revocation: flows B and D. Every method that changes trust raises the epoch in
/// its transaction and answers after the new view is published.
impl Store {
    /// What the ledger knows of the certificate with this hash; `None` for one that it does not
    /// hold, and for a server's.
    ///
    /// # Errors
    /// A failing database; whoever admits must deny then.
    pub async fn admission(&self, der_hash: DerHash) -> Result<Option<LedgerEntry>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.look_up_near(move |conn| certificates::admission(conn, der_hash)).await,
        }
    }

    /// Notes the first mutual-TLS connection of a certificate: it is active, its token is spent.
    /// If the token replaces, every other certificate and token of the device dies; if not, every
    /// other unconfirmed certificate and every other token that does not replace. Confirming again
    /// changes nothing.
    ///
    /// # Errors
    /// The certificate is unknown, revoked or suspended, or its device is denied.
    pub async fn confirm(&self, der_hash: DerHash, now: Now) -> Result<Confirmed, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| certificates::confirm(txn, der_hash, now)).await,
        }
    }

    /// Revokes a device for good: its certificates, its tokens, and its name on the deny-list.
    ///
    /// # Errors
    /// The device is unknown, or was revoked before.
    pub async fn revoke_device(
        &self,
        id: &DeviceId,
        reason: CrlReason,
        actor: &str,
        now: Now,
    ) -> Result<RevokedDevice, StoreError> {
        self.revoke_principal(PrincipalKind::Device, id, reason, actor, now).await
    }

    /// Revokes a service or an operator for good, as [`Store::revoke_device`] does a device.
    ///
    /// # Errors
    /// The principal is unknown under that kind, or was revoked before.
    pub async fn revoke_principal(
        &self,
        kind: PrincipalKind,
        name: &DeviceId,
        reason: CrlReason,
        actor: &str,
        now: Now,
    ) -> Result<RevokedDevice, StoreError> {
        let (name, actor) = (name.clone(), actor.to_owned());
        match &self.0 {
            Backend::Sqlite(db) => {
                db.write(move |txn| revoking::principal(txn, kind, &name, reason, &actor, now)).await
            }
        }
    }

    /// Revokes one certificate; its principal may get another. A token that is bound to it and not
    /// confirmed dies with it.
    ///
    /// # Errors
    /// The certificate is unknown, or was revoked before.
    pub async fn revoke_certificate(
        &self,
        cert: CertRef,
        reason: CrlReason,
        actor: &str,
        now: Now,
    ) -> Result<RevokedDevice, StoreError> {
        let actor = actor.to_owned();
        match &self.0 {
            Backend::Sqlite(db) => {
                db.write(move |txn| revoking::certificate(txn, cert, reason, &actor, now)).await
            }
        }
    }

    /// Puts a device's certificates on hold. Suspending again changes nothing.
    ///
    /// # Errors
    /// The device is unknown or revoked.
    pub async fn suspend_device(
        &self,
        id: &DeviceId,
        actor: &str,
        now: Now,
    ) -> Result<RevokedDevice, StoreError> {
        let (id, actor) = (id.clone(), actor.to_owned());
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| revoking::suspend(txn, &id, &actor, now)).await,
        }
    }

    /// Lifts a hold: each certificate is what it was before.
    ///
    /// # Errors
    /// The device is unknown, revoked, or not suspended.
    pub async fn restore_device(
        &self,
        id: &DeviceId,
        actor: &str,
        now: Now,
    ) -> Result<RevokedDevice, StoreError> {
        let (id, actor) = (id.clone(), actor.to_owned());
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| revoking::restore(txn, &id, &actor, now)).await,
        }
    }

    /// Puts a name on the deny-list, registered or not. Denying again changes nothing.
    ///
    /// # Errors
    /// A failing database.
    pub async fn deny(&self, id: &DeviceId, actor: &str, now: Now) -> Result<RevokedDevice, StoreError> {
        let (id, actor) = (id.clone(), actor.to_owned());
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| revoking::deny(txn, &id, &actor, now)).await,
        }
    }

    /// Takes a name off the deny-list. Allowing what is not denied changes nothing.
    ///
    /// # Errors
    /// The name belongs to a revoked principal.
    pub async fn allow(&self, id: &DeviceId, actor: &str, now: Now) -> Result<RevokedDevice, StoreError> {
        let (id, actor) = (id.clone(), actor.to_owned());
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| revoking::allow(txn, &id, &actor, now)).await,
        }
    }
}
