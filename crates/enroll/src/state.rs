use std::sync::{Arc, Mutex};

use audit::Observer;
use ca::Issuer;
use policy::Table;
use signer::{BundleKey, IssuingKey};
use store::Store;
use tokio::sync::watch;
use types::{Clock, Entropy};
use x509::Certificate;

use crate::settings::Settings;

/// What enrolment is given by the server.
pub struct Deps {
    /// Facts and intents.
    pub store: Store,
    /// The issuing CAs, each with the key that only this crate holds.
    pub issuers: Vec<(Issuer, IssuingKey)>,
    /// The root certificates, newest first.
    pub roots: Vec<Certificate>,
    /// Signs the CA bundle.
    pub bundle_key: BundleKey,
    /// The topic rules: a device may not bear a name that they bear.
    pub policy: watch::Receiver<Arc<Table>>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Where serial numbers come from.
    pub entropy: Arc<Mutex<dyn Entropy>>,
    /// Where refusals and publications are noted.
    pub observer: Arc<dyn Observer>,
    /// How it behaves.
    pub settings: Settings,
}

// The public front, all in `enroll::`:
//   Enroll::new(deps) -> Result<Arc<Enroll>, EnrollError>
//   devices_router(&Arc<Enroll>) -> axum::Router        POST /provision, and everything of plain_router, and GET /ca/bundle
//   plain_router(&Arc<Enroll>) -> axum::Router          GET /ca/{id}.cer, /crl/{issuer}/{shard}.crl and .pem, /ca/bundle
//   recover_intents(&Enroll) -> Result<usize, EnrollError>          await once before serving
//   carry_out_orders(Arc<Enroll>, shutdown: watch::Receiver<bool>)  a task
//   write_crls(Arc<Enroll>, shutdown: watch::Receiver<bool>)        a task
// CDP of an issuer: <base>/crl/<IssuerId hex>/0.crl; AIA: <base>/ca/<IssuerId hex>.cer.
