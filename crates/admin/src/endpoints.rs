use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, delete, get, post};

use crate::admin::Admin;
use crate::call::{no_such_method, no_such_path, require_actor};
use crate::{devices, health, observe, orders, revoke, tokens};

/// Who may ask an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody who reaches the listener.
    Anyone,
    /// An operator, by certificate or through the server's own socket.
    Operator,
}

/// One endpoint: the only list of them that there is.
pub struct Endpoint {
    /// `GET`, `POST`, `DELETE`.
    pub method: &'static str,
    /// The path, with `{name}` for what varies.
    pub path: &'static str,
    /// Who may ask it.
    pub who: Who,
    route: fn() -> MethodRouter<Arc<Admin>>,
}

const fn operator(
    method: &'static str,
    path: &'static str,
    route: fn() -> MethodRouter<Arc<Admin>>,
) -> Endpoint {
    Endpoint { method, path, who: Who::Operator, route }
}

const fn anyone(
    method: &'static str,
    path: &'static str,
    route: fn() -> MethodRouter<Arc<Admin>>,
) -> Endpoint {
    Endpoint { method, path, who: Who::Anyone, route }
}

/// Every endpoint of the operator API.
pub const ENDPOINTS: &[Endpoint] = &[
    anyone("GET", "/healthz", || get(health::alive)),
    anyone("GET", "/readyz", || get(health::ready)),
    operator("GET", "/metrics", || get(observe::metrics)),
    operator("GET", "/api/openapi.json", || get(observe::document)),
    operator("POST", "/generate-token", || post(tokens::generate)),
    operator("POST", "/api/v1/devices", || post(devices::add)),
    operator("GET", "/api/v1/devices", || get(devices::list)),
    operator("GET", "/api/v1/devices/{id}", || get(devices::show)),
    operator("POST", "/api/v1/devices/{id}/revoke", || post(revoke::revoke)),
    operator("POST", "/api/v1/devices/{id}/suspend", || post(revoke::suspend)),
    operator("POST", "/api/v1/devices/{id}/restore", || post(revoke::restore)),
    operator("GET", "/api/v1/devices/{id}/tokens", || get(tokens::list)),
    operator("POST", "/api/v1/devices/{id}/tokens", || post(tokens::create)),
    operator("DELETE", "/api/v1/tokens/{id}", || delete(tokens::revoke)),
    operator("POST", "/api/v1/services", || post(orders::service)),
    operator("POST", "/api/v1/operators", || post(orders::operator)),
    operator("GET", "/api/v1/principals", || get(orders::principals)),
    operator("POST", "/api/v1/principals/{id}/revoke", || post(revoke::revoke_principal)),
    operator("POST", "/api/v1/certificates/{issuer}/{serial}/revoke", || post(revoke::revoke_certificate)),
    operator("GET", "/api/v1/clients", || get(observe::clients)),
    operator("GET", "/api/v1/refusals", || get(observe::refusals)),
    operator("GET", "/api/v1/events", || get(observe::events)),
    operator("GET", "/api/v1/checkpoints", || get(observe::checkpoints)),
    operator("GET", "/api/v1/policy/explain", || get(observe::explain)),
    operator("POST", "/api/v1/reload", || post(observe::reload)),
    operator("GET", "/api/v1/status", || get(health::status)),
];

/// The router over [`ENDPOINTS`]. It finds an [`crate::Actor`] among the extensions of a request,
/// or refuses it.
pub fn router(admin: &Arc<Admin>) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        let route = match endpoint.who {
            Who::Anyone => (endpoint.route)(),
            Who::Operator => (endpoint.route)().route_layer(from_fn(require_actor)),
        };
        router = router.route(endpoint.path, route);
    }
    router.method_not_allowed_fallback(no_such_method).fallback(no_such_path).with_state(Arc::clone(admin))
}

/// Whether anybody may ask this path.
pub(crate) fn is_open(path: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| endpoint.who == Who::Anyone && endpoint.path == path)
}

/// The methods that a concrete path has.
pub(crate) fn methods_of(path: &str) -> Vec<&'static str> {
    let fits = |pattern: &str| {
        let mut found = path.split('/');
        let same = pattern.split('/').all(|wanted| {
            found.next().is_some_and(|level| level == wanted || wanted.starts_with('{') && !level.is_empty())
        });
        same && found.next().is_none()
    };
    ENDPOINTS.iter().filter(|endpoint| fits(endpoint.path)).map(|endpoint| endpoint.method).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_of_a_concrete_path_are_those_of_its_pattern() {
        assert_eq!(methods_of("/api/v1/devices"), ["POST", "GET"]);
        assert_eq!(methods_of("/api/v1/devices/pump-7"), ["GET"]);
        assert_eq!(methods_of("/api/v1/devices/pump-7/tokens"), ["GET", "POST"]);
        assert_eq!(methods_of("/api/v1/devices/"), Vec::<&str>::new());
        assert_eq!(methods_of("/nowhere"), Vec::<&str>::new());
    }

    #[test]
    fn only_the_two_health_endpoints_are_open() {
        let open: Vec<_> =
            ENDPOINTS.iter().filter(|endpoint| endpoint.who == Who::Anyone).map(|e| e.path).collect();
        assert_eq!(open, ["/healthz", "/readyz"]);
    }

    #[test]
    fn no_endpoint_stands_twice() {
        for (at, endpoint) in ENDPOINTS.iter().enumerate() {
            assert!(
                !ENDPOINTS[..at].iter().any(|e| e.path == endpoint.path && e.method == endpoint.method),
                "{} {}",
                endpoint.method,
                endpoint.path
            );
        }
    }
}
