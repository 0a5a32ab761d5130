//! Answers operators: the admin API, its document, health, metrics, and the sequencer of the event log.
//! In: HTTP requests with an `Actor` among their extensions. Out: facts and orders in the store, problem documents.
//! Invariant: no `Actor`, no answer; only `/healthz` and `/readyz` are open (test: every_endpoint_refuses_strangers).
//! Never: signs a certificate or holds an issuing key; it records an order that enrolment carries out.
//! Spec: DESIGN.md flow D, section 4; RFC 9457; OpenAPI 3.1.

mod ports;
mod settings;

pub use ports::{
    Deps, LiveClient, LiveClients, LivePage, Metrics, Refused, Refusals, Reload, Reloaded, Sample, SampleKind,
};
pub use settings::Settings;

// The public front, all in `admin::`:
//   Actor(pub String)                                      request extension: who acts, for the log
//   router(deps: Deps) -> axum::Router                     the bare router: needs an `Actor` extension put in by the shell
//   certificate_router(deps) / Admin::new(deps) then
//   listener_router(&Arc<Admin>) -> axum::Router           for 9443: turns tls::http's PeerChain into an Actor or answers 401/403
//   unix_router(&Arc<Admin>, uids: Vec<u32>) -> axum::Router   for the socket: turns PeerUid into an Actor("uid 0") or 403
//   operator_of(&Store, &VerifiedChain, Now) -> Result<Actor, NotAnOperator>
//   sequence_events(store, Arc<CheckpointKey>, holder: String, Arc<dyn Clock>, Arc<dyn Observer>, shutdown: watch::Receiver<bool>)   a task
