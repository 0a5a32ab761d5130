//! No body of a device's first request is a fault of ours, or worth a certificate, or has its token repeated.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use types::Blame;

use crate::common::World;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SECRET_BYTES: usize = 26;

/// No device and no token is registered, so no body can be right.
static WORLD: LazyLock<(Runtime, World)> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    (runtime, world)
});

pub(crate) fn holds(data: &[u8]) {
    let (runtime, world) = &*WORLD;
    let body = Bytes::copy_from_slice(data);
    let error = runtime.block_on(enroll::provision(&world.enroll, PEER, &body)).unwrap_err();
    assert_eq!(error.blame(), Blame::Peer, "{error}");
    let shown = error.to_string();
    assert!(!shown.is_empty() && !shown.chars().any(char::is_control), "{shown:?}");
    let text = String::from_utf8_lossy(data);
    let pieces = text.split(|ch: char| !ch.is_ascii_alphanumeric());
    for secret in pieces.filter(|piece| piece.len() == SECRET_BYTES) {
        assert!(!shown.contains(secret), "{shown}");
    }
}
