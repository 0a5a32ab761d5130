use std::sync::Arc;

use audit::Event;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use store::{Store, StoreError};
use tls::http::{PeerChain, PeerUid};
use types::{Now, PrincipalKind, Reason};
use x509::VerifiedChain;

use crate::admin::Admin;
use crate::call::peer_of;
use crate::endpoints::{is_open, router};
use crate::error::ApiError;

/// Who acts, in the words of the log: `operator "ada"`, `uid 0`. It stands among the extensions of
/// a request; only the shell that checked who asks puts it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(pub String);

/// Why a verified certificate does not make an operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnOperator {
    /// The certificate is not believed.
    #[error(transparent)]
    Refused(#[from] trust::Refusal),
    /// It is believed, but speaks for something else.
    #[error("this needs an operator's certificate; this one is of {principal}")]
    OtherKind {
        /// For whom it speaks.
        principal: String,
    },
    /// The ledger cannot be asked, so the answer is no.
    #[error("the ledger cannot be read: {0}")]
    Unavailable(#[from] StoreError),
}

impl NotAnOperator {
    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason.code(),
            Self::OtherKind { .. } => "admin.not_an_operator",
            Self::Unavailable(_) => Reason::Unavailable.code(),
        }
    }
}

/// The operator for whom a verified chain speaks, decided anew against the newest view and the
/// ledger; to be asked for every request, because a connection may outlive the trust in it.
///
/// # Errors
/// The certificate is not believed now, or is not an operator's.
pub async fn operator_of(store: &Store, chain: &VerifiedChain, now: Now) -> Result<Actor, NotAnOperator> {
    let ledger = store.admission(chain.leaf().der_hash()).await?;
    let peer = trust::admit(&store.view(), chain, ledger.as_ref(), now)?;
    if peer.principal().kind != PrincipalKind::Operator {
        return Err(NotAnOperator::OtherKind { principal: peer.principal().to_string() });
    }
    if peer.needs_confirmation() {
        store.confirm(peer.der_hash(), now).await?;
    }
    Ok(Actor(peer.principal().to_string()))
}

/// The router for the TLS listener: an operator's certificate makes the actor; any other is 403,
/// none is 401, and both are noted.
pub fn listener_router(admin: &Arc<Admin>) -> Router {
    let shell = Arc::clone(admin);
    router(admin).layer(from_fn(move |request: Request, next: Next| {
        let admin = Arc::clone(&shell);
        async move { by_certificate(&admin, request, next).await }
    }))
}

/// The router for the Unix socket: these users may act, each other is 403.
pub fn unix_router(admin: &Arc<Admin>, uids: Vec<u32>) -> Router {
    let (shell, uids) = (Arc::clone(admin), Arc::new(uids));
    router(admin).layer(from_fn(move |request: Request, next: Next| {
        let (admin, uids) = (Arc::clone(&shell), Arc::clone(&uids));
        async move { by_uid(&admin, &uids, request, next).await }
    }))
}

async fn by_certificate(admin: &Admin, mut request: Request, next: Next) -> Response {
    // Whatever came in with the request is not who asks.
    request.extensions_mut().remove::<Actor>();
    let chain = request.extensions().get::<PeerChain>().and_then(|PeerChain(chain)| chain.clone());
    let open = is_open(request.uri().path());
    let Some(chain) = chain else {
        if !open {
            let detail = ApiError::NoActor.to_string();
            admin.note_stranger(peer_of(&request), Reason::NoCertificate.code(), detail);
        }
        return next.run(request).await;
    };
    match operator_of(&admin.deps.store, &chain, admin.now()).await {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(_) if open => next.run(request).await,
        Err(refused) => {
            let leaf = chain.leaf();
            admin.deps.observer.note(Event::ConnectionRefused {
                peer: peer_of(&request),
                subject: Some(leaf.subject_text()),
                serial: Some(leaf.serial().to_string()),
                issuer: Some(chain.issuer().to_string()),
                sni: None,
                reason: refused.code().to_owned(),
                detail: refused.to_string(),
            });
            let detail = refused.to_string();
            match refused {
                NotAnOperator::Unavailable(_) => {
                    ApiError::Unavailable { code: refused.code(), detail }.into_response()
                }
                _ => ApiError::Forbidden { code: refused.code(), detail }.into_response(),
            }
        }
    }
}

async fn by_uid(admin: &Admin, uids: &[u32], mut request: Request, next: Next) -> Response {
    request.extensions_mut().remove::<Actor>();
    let Some(PeerUid(uid)) = request.extensions().get::<PeerUid>().copied() else {
        return next.run(request).await;
    };
    if !uids.contains(&uid) && !is_open(request.uri().path()) {
        let detail = format!("user {uid} may not use this socket");
        admin.note_stranger(format!("unix uid {uid}"), "admin.wrong_user", detail.clone());
        return ApiError::Forbidden { code: "admin.wrong_user", detail }.into_response();
    }
    if uids.contains(&uid) {
        request.extensions_mut().insert(Actor(format!("uid {uid}")));
    }
    next.run(request).await
}
