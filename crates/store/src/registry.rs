use types::{DeviceId, IssuerId, Now, PrincipalKind, ProjectId, SpkiHash};

use crate::rows::{CaRow, DeviceRow, NewDevice, PrincipalRow};
use crate::sqlite::{cas, devices, principals};
use crate::{Backend, Store, StoreError};

/// CAs, devices, services and operators.
impl Store {
    /// Takes a CA in; one that admits clients or signs servers becomes an anchor of the view, so
    /// the epoch rises.
    ///
    /// # Errors
    /// The id or the label exists, the parent does not, or the certificate cannot be an anchor.
    pub async fn ca_add(&self, ca: CaRow, now: Now) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| cas::add(txn, &ca, now)).await,
        }
    }

    /// All CAs, in the order in which they were added.
    ///
    /// # Errors
    /// A failing database.
    pub async fn ca_list(&self) -> Result<Vec<CaRow>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(cas::list).await,
        }
    }

    /// The CA of that id.
    ///
    /// # Errors
    /// A failing database.
    pub async fn ca(&self, id: IssuerId) -> Result<Option<CaRow>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| cas::one(conn, id)).await,
        }
    }

    /// Registers a device.
    ///
    /// # Errors
    /// The name is taken by any principal, under ASCII case-folding.
    pub async fn device_add(&self, new: NewDevice, actor: &str, now: Now) -> Result<DeviceRow, StoreError> {
        let actor = actor.to_owned();
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| devices::add(txn, &new, &actor, now)).await,
        }
    }

    /// The device, its certificates and its tokens.
    ///
    /// # Errors
    /// A failing database.
    pub async fn device(&self, id: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        let id = id.clone();
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| devices::one(conn, &id)).await,
        }
    }

    /// At most `limit` devices after `after`, in the order of their folded ids.
    ///
    /// # Errors
    /// A failing database.
    pub async fn devices(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<DeviceRow>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| devices::page(conn, after.as_ref(), limit)).await,
        }
    }

    /// How many devices are registered.
    ///
    /// # Errors
    /// A failing database.
    pub async fn device_count(&self) -> Result<u64, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(devices::count).await,
        }
    }

    /// Registers a service or an operator (a device has [`Store::device_add`]).
    ///
    /// # Errors
    /// The name is taken by any principal, under ASCII case-folding.
    pub async fn principal_add(
        &self,
        kind: PrincipalKind,
        name: DeviceId,
        project: ProjectId,
        actor: &str,
        now: Now,
    ) -> Result<(), StoreError> {
        let actor = actor.to_owned();
        match &self.0 {
            Backend::Sqlite(db) => {
                db.write(move |txn| principals::add(txn, kind, &name, &project, &actor, now)).await
            }
        }
    }

    /// Of which kind the principal of that name is.
    ///
    /// # Errors
    /// A failing database.
    pub async fn principal_kind(&self, name: &DeviceId) -> Result<Option<PrincipalKind>, StoreError> {
        let name = name.clone();
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| principals::kind(conn, &name)).await,
        }
    }

    /// The service, operator or device of that name, and its certificates.
    ///
    /// # Errors
    /// A failing database.
    pub async fn principal(&self, name: &DeviceId) -> Result<Option<PrincipalRow>, StoreError> {
        let name = name.clone();
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| principals::one(conn, &name)).await,
        }
    }

    /// At most `limit` services and operators after `after`, in the order of their folded names.
    ///
    /// # Errors
    /// A failing database.
    pub async fn principals(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> Result<Vec<PrincipalRow>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| principals::page(conn, after.as_ref(), limit)).await,
        }
    }

    /// For whom a key was certified; keys of servers and CAs have no such owner, and
    /// [`Store::record_intent`] refuses them all the same.
    ///
    /// # Errors
    /// A failing database.
    pub async fn key_owner(&self, spki: SpkiHash) -> Result<Option<DeviceId>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| principals::key_owner(conn, spki)).await,
        }
    }
}
