//! Which router stands behind which door.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use admin::Actor;
use axum::{Extension, Router};
use tls::http::{PeerAddr, PeerChain};

use crate::parts::Parts;

/// The root user may always do what the owner may.
const ROOT_UID: u32 = 0;

/// What the command line may ask: the operator API as `actor`, and the devices' API, so that a
/// device's files can be made by the same flow that a device goes through.
fn both(parts: &Parts, admin: Router, address: SocketAddr) -> Router {
    let devices = enroll::devices_router(&parts.enroll)
        .layer(Extension(PeerAddr(address)))
        .layer(Extension(PeerChain(None)));
    Router::new().merge(devices.reset_fallback()).fallback_service(admin)
}

/// For a command in this process, which holds the lock of the data folder.
pub(crate) fn local_router(parts: &Parts, actor: &str, address: SocketAddr) -> Router {
    let admin = admin::router(&parts.admin).layer(Extension(Actor(actor.to_owned())));
    both(parts, admin, address)
}

/// For the Unix socket: only the owner of the data folder and root are served.
pub(crate) fn socket_router(parts: &Arc<Parts>, address: SocketAddr) -> Router {
    let owner = std::fs::metadata(parts.layout.dir()).map(|metadata| metadata.uid());
    let uids = owner.map_or(vec![ROOT_UID], |uid| vec![uid, ROOT_UID]);
    both(parts, admin::unix_router(&parts.admin, uids), address)
}
