//! No body of an operator's request is a fault of ours: it is taken, or refused with a problem that says where.

use std::sync::LazyLock;

use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

use crate::common::World;

/// No device is registered, so no body can make a token or change anything.
static WORLD: LazyLock<(Runtime, World)> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    (runtime, world)
});

pub(crate) fn holds(data: &[u8]) {
    for path in ["/generate-token", "/api/v1/devices/ghost/tokens", "/api/v1/devices/ghost/revoke"] {
        let (runtime, world) = &*WORLD;
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(data.to_vec()))
            .unwrap();
        let (status, bytes) = runtime.block_on(async {
            let answer = world.router.clone().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        });
        assert!([400, 404, 413].contains(&status), "{path}: {status}");
        let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(problem["status"], status);
        let slug = problem["type"].as_str().unwrap().strip_prefix("urn:bailiwick:error:").unwrap();
        assert!(!slug.is_empty());
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && !detail.chars().any(char::is_control), "{detail:?}");
        assert_eq!(problem["error"], problem["detail"]);
    }
}
