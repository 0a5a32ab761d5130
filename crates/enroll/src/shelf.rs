use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use store::{CrlRow, Store, StoreError};
use types::{IssuerId, Wall};

/// The CRLs that are being served, so that a large one is not read from the store for each request.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<HashMap<IssuerId, Arc<ServedCrl>>>);

/// One CRL as it is served.
pub(crate) struct ServedCrl {
    pub(crate) number: u64,
    pub(crate) der: Bytes,
    pub(crate) next_update: Wall,
    /// Made when somebody asks for it first.
    pem: OnceLock<Bytes>,
}

impl From<CrlRow> for ServedCrl {
    fn from(row: CrlRow) -> Self {
        Self {
            number: row.number,
            der: Bytes::from(row.der),
            next_update: row.next_update,
            pem: OnceLock::new(),
        }
    }
}

impl ServedCrl {
    pub(crate) fn pem(&self) -> Bytes {
        self.pem.get_or_init(|| Bytes::from(x509::pem::encode("X509 CRL", &self.der))).clone()
    }
}

impl Shelf {
    /// Puts a newer CRL in the place of an older one.
    pub(crate) fn put(&self, row: CrlRow) -> Arc<ServedCrl> {
        let issuer = row.issuer;
        let served = Arc::new(ServedCrl::from(row));
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = shelf.entry(issuer).or_insert_with(|| Arc::clone(&served));
        if served.number > place.number {
            *place = served;
        }
        Arc::clone(place)
    }

    /// The newest CRL of `issuer`, from memory or from the store.
    pub(crate) async fn find(
        &self,
        issuer: IssuerId,
        store: &Store,
    ) -> Result<Option<Arc<ServedCrl>>, StoreError> {
        if let Some(served) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&issuer) {
            return Ok(Some(Arc::clone(served)));
        }
        Ok(store.crl(issuer).await?.map(|row| self.put(row)))
    }
}
