use std::time::Duration;

use types::{CertRef, DeviceId, Now, SpkiHash};

use crate::rows::{
    NewIntent, NewToken, Order, OrderId, Receipt, RecordedIntent, RevokedDevice, TokenAnswer, TokenRow,
};
use crate::sqlite::{certificates, intents, orders, tokens};
use crate::{Backend, Store, StoreError};

/// Tokens, intents, certificates and orders: flow A.
impl Store {
    /// Makes a provisioning token known.
    ///
    /// # Errors
    /// The device is unknown or denied; it has a live certificate and the token does not replace
    /// it; the id exists; the expiry has passed.
    pub async fn token_create(&self, new: NewToken, actor: &str, now: Now) -> Result<TokenRow, StoreError> {
        let actor = actor.to_owned();
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| tokens::create(txn, &new, &actor, now)).await,
        }
    }

    /// The tokens of a device, oldest first.
    ///
    /// # Errors
    /// A failing database.
    pub async fn tokens(&self, device: &DeviceId) -> Result<Vec<TokenRow>, StoreError> {
        let device = device.clone();
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| tokens::of_device(conn, &device)).await,
        }
    }

    /// The token of that id.
    ///
    /// # Errors
    /// A failing database.
    pub async fn token_state(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        let id = id.to_owned();
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| tokens::one(conn, &id)).await,
        }
    }

    /// Kills a token; a certificate that it yielded and that is not confirmed dies with it, and
    /// then the epoch rises. Killing a dead token changes nothing.
    ///
    /// # Errors
    /// The token is unknown, or spent: then the certificate is what can be revoked.
    pub async fn token_revoke(&self, id: &str, actor: &str, now: Now) -> Result<RevokedDevice, StoreError> {
        let (id, actor) = (id.to_owned(), actor.to_owned());
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| tokens::revoke(txn, &id, &actor, now)).await,
        }
    }

    /// What a token and a key are good for: looked up by id, compared in constant time. A bound
    /// token does not expire before its certificate.
    ///
    /// # Errors
    /// A failing database; a refusal is an answer, not an error.
    pub async fn token_check(
        &self,
        id: &str,
        secret_hash: [u8; 32],
        spki: SpkiHash,
        now: Now,
    ) -> Result<TokenAnswer, StoreError> {
        let id = id.to_owned();
        match &self.0 {
            Backend::Sqlite(db) => {
                db.read(move |conn| tokens::check(conn, &id, &secret_hash, spki, now)).await
            }
        }
    }

    /// Records that a certificate is about to be signed, in one transaction: the token is bound to
    /// this key, the serial is taken, the key belongs to this principal from now on.
    ///
    /// # Errors
    /// [`StoreError::TokenLost`] when the token is not free any more; the serial is taken; the key
    /// belongs to somebody else; the principal is unknown, of another kind, or denied.
    pub async fn record_intent(&self, new: NewIntent, now: Now) -> Result<Receipt, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| intents::record(txn, &new, now)).await,
        }
    }

    /// Records the signed certificate: unconfirmed for a device, active for everybody else.
    /// Recording the same bytes again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::TokenLost`] or [`StoreError::DeviceDenied`] when the ground was taken away in
    /// between: the certificate is in the ledger then, but revoked or suspended, and must not be
    /// handed out. [`StoreError::WrongCertificate`] when it is not what was intended.
    pub async fn record_certificate(
        &self,
        receipt: Receipt,
        certificate_der: &[u8],
        now: Now,
    ) -> Result<(), StoreError> {
        let der = certificate_der.to_owned();
        match &self.0 {
            Backend::Sqlite(db) => {
                db.write(move |txn| certificates::record(txn, &receipt, &der, now)).await.flatten()
            }
        }
    }

    /// Gives up an intent whose certificate was never signed: its serial stays taken, its token
    /// dies. For orders that start over after a crash.
    ///
    /// # Errors
    /// [`StoreError::AlreadyRecorded`] when there is a certificate.
    pub async fn abandon_intent(&self, receipt: Receipt, now: Now) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| intents::abandon(txn, &receipt, now)).await,
        }
    }

    /// Intents without a certificate, oldest first: what a crash left behind. Sign their bytes
    /// again, with the same serial.
    ///
    /// # Errors
    /// A failing database.
    pub async fn unfinished_intents(&self) -> Result<Vec<RecordedIntent>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(intents::unfinished).await,
        }
    }

    /// The DER of a certificate in the ledger.
    ///
    /// # Errors
    /// A failing database.
    pub async fn certificate_der(&self, cert: CertRef) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| certificates::der(conn, cert)).await,
        }
    }

    /// Records an order for `enroll`; [`Store::watch_orders`] tells of it.
    ///
    /// # Errors
    /// A failing database.
    pub async fn order_submit(&self, order: Order, now: Now) -> Result<OrderId, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| orders::submit(txn, &order, now)).await,
        }
    }

    /// A counter that changes when an order was submitted; level-triggered: read
    /// [`Store::orders_open`] after every change and once at the start.
    #[must_use]
    pub fn watch_orders(&self) -> tokio::sync::watch::Receiver<u64> {
        match &self.0 {
            Backend::Sqlite(db) => db.shared().watch_orders(),
        }
    }

    /// The orders that are not finished, oldest first.
    ///
    /// # Errors
    /// A failing database.
    pub async fn orders_open(&self) -> Result<Vec<(OrderId, Order)>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(orders::open).await,
        }
    }

    /// Finishes an order with its certificate, or with the words of its refusal.
    ///
    /// # Errors
    /// The order is unknown or finished.
    pub async fn order_finish(
        &self,
        id: OrderId,
        outcome: Result<Vec<u8>, String>,
    ) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| orders::finish(txn, id, &outcome)).await,
        }
    }

    /// Waits, at most for `deadline`, until the order is finished, and returns the certificate.
    ///
    /// # Errors
    /// The words of the refusal, or that the order is not finished yet.
    pub async fn order_wait(&self, id: OrderId, deadline: Duration) -> Result<Vec<u8>, String> {
        match &self.0 {
            Backend::Sqlite(db) => {
                let mut finished = db.shared().watch_finished();
                let outcome = async {
                    loop {
                        match db.read(move |conn| orders::outcome(conn, id)).await {
                            Ok(Some(outcome)) => return outcome,
                            Ok(None) => {}
                            Err(error) => return Err(error.to_string()),
                        }
                        if finished.changed().await.is_err() {
                            return Err(StoreError::Closed.to_string());
                        }
                    }
                };
                tokio::time::timeout(deadline, outcome).await.unwrap_or_else(|_| {
                    Err(format!("order {id} is not finished after {} ms", deadline.as_millis()))
                })
            }
        }
    }
}
