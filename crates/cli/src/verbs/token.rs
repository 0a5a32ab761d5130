//! `bailiwick token …`

use http::Method;
use serde_json::json;

use crate::args::Token;
use crate::fail::Done;
use crate::print::{Printer, table};
use crate::talk::{Talk, segment};

pub(crate) async fn token(verb: Token, talk: &Talk, printer: Printer) -> Done {
    match verb {
        Token::Create { device, ttl, replace } => {
            let body = json!({"device_id": device, "ttl": ttl, "replace": replace});
            let answer = talk.post("/generate-token", &body).await?;
            eprintln!(
                "bailiwick: this is shown once; it expires {}",
                answer["expires_at"].as_str().unwrap_or("-")
            );
            printer.show(&answer, |answer| answer["bundle"].as_str().unwrap_or_default().to_owned());
        }
        Token::List { device } => {
            let answer = talk.ask(&format!("/api/v1/devices/{}/tokens", segment(&device)?)).await?;
            printer.show(&answer, |answer| {
                let rows = answer["tokens"].as_array().cloned().unwrap_or_default();
                table(&rows, &["id", "state", "expires_at", "replace", "created_at", "created_by"])
            });
        }
        Token::Revoke { id } => {
            let answer =
                talk.call(Method::DELETE, &format!("/api/v1/tokens/{}", segment(&id)?), None).await?;
            printer.show(&answer, |_| format!("revoked token {id}"));
        }
    }
    Ok(())
}
