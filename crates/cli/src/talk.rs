//! Asks the operator API: over the socket of a running server, or in this process when none runs.

use std::path::Path;

use http::{Method, Request};
use serde_json::{Value, json};
use server::{Layout, Local};

use crate::fail::{Done, Fail};

/// The longest page that the operator API gives.
const PAGE_ROWS_MAX: u32 = 1000;

/// A way to the operator API.
pub(crate) enum Talk {
    /// A server runs and answers on its socket.
    Socket(Layout),
    /// No server runs: this process holds the lock and the store.
    Alone(Box<Local>),
}

impl Talk {
    /// Finds out which of the two it is; says on stderr when the store is opened here.
    pub(crate) async fn open(dir: &Path) -> Done<Self> {
        let layout = Layout::new(dir);
        if let Some(local) = Local::open(&layout).await? {
            eprintln!("bailiwick: no server is running; using the store in {} directly", dir.display());
            return Ok(Self::Alone(Box::new(local)));
        }
        Ok(Self::Socket(layout))
    }

    /// One call; a problem document becomes a failure with the exit code that fits.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Done<Value> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bailiwick")
            .header("content-type", "application/json")
            .body(bytes)
            .map_err(Fail::failed)?;
        let (status, bytes) = match self {
            Self::Socket(layout) => server::ask_socket(layout, request).await?,
            Self::Alone(local) => local.ask(request).await?,
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let said = value["detail"].as_str().or(value["error"].as_str()).or(value["title"].as_str());
        let said = said.map_or_else(|| format!("the server answered {status}: {value}"), str::to_owned);
        Err(if status == 401 || status == 403 { Fail::denied(said) } else { Fail::failed(said) })
    }

    pub(crate) async fn ask(&self, path: &str) -> Done<Value> {
        self.call(Method::GET, path, None).await
    }

    /// A listing of the operator API: one page of `limit` rows, or without it every page, because
    /// nobody should take the first page for all.
    pub(crate) async fn list(&self, what: &str, after: Option<String>, limit: Option<u32>) -> Done<Value> {
        let mut after = after.map(Value::String).unwrap_or_default();
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let from = match &after {
                Value::Null => String::new(),
                Value::String(after) => format!("&after={after}"),
                after => format!("&after={after}"),
            };
            let path = format!("/api/v1/{what}?limit={}{from}", limit.unwrap_or(PAGE_ROWS_MAX));
            let mut page = self.ask(&path).await?;
            if limit.is_some() {
                if let next @ (Value::String(_) | Value::Number(_)) = &page["next"] {
                    let next = next.as_str().map_or_else(|| next.to_string(), str::to_owned);
                    eprintln!("bailiwick: that may not be all: go on with --after {next}");
                }
                return Ok(page);
            }
            after = page["next"].take();
            if let Value::Array(some) = page[what].take() {
                rows.extend(some);
            }
            if after.is_null() {
                return Ok(json!({what: rows, "next": null}));
            }
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Done<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Lets go of the store in an orderly way.
    pub(crate) async fn close(self) {
        if let Self::Alone(local) = self {
            local.close().await;
        }
    }
}

/// A text as one segment of a path: names hold no character that would need more.
pub(crate) fn segment(text: &str) -> Done<&str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b)) {
        return Err(Fail::usage(format!(
            "\"{}\" is no name; allowed a-z A-Z 0-9 - _ . (1 to 64 bytes)",
            text.escape_default()
        )));
    }
    Ok(text)
}
