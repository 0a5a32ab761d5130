//! Answers operators: the admin API, its document, health, metrics, and the sequencer of the event log.
//! In: HTTP requests with an `Actor` among their extensions. Out: facts and orders in the store, problem documents.
//! Invariant: no `Actor`, no answer; only `/healthz` and `/readyz` are open (test: `every_endpoint_refuses_strangers`).
//! Never: signs a certificate or holds an issuing key; it records an order that enrolment carries out.
//! Spec: DESIGN.md flow D, section 4; RFC 9457; OpenAPI 3.1.

mod actor;
mod admin;
mod body;
mod call;
mod devices;
mod endpoints;
mod error;
mod health;
mod metrics;
mod observe;
mod openapi;
mod orders;
mod ports;
mod revoke;
mod sequence;
mod settings;
mod tokens;
mod views;

pub use actor::{Actor, NotAnOperator, listener_router, operator_of, unix_router};
pub use admin::Admin;
pub use endpoints::{ENDPOINTS, Endpoint, Who, router};
pub use error::ApiError;
pub use openapi::document;
pub use ports::{
    Deps, Later, LiveClient, LiveClients, LivePage, Metrics, Refusals, Refused, Reload, Reloaded, Sample,
    SampleKind,
};
pub use sequence::{SequenceError, Sequenced, sequence_events, sequence_once};
pub use settings::Settings;
