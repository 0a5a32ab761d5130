//! `bailiwick service …` and `bailiwick operator …`

use std::path::Path;

use serde_json::json;
use server::Layout;

use crate::args::{Operator, Service};
use crate::fail::{Done, Fail};
use crate::print::{Printer, table};
use crate::talk::Talk;
use crate::verbs::handover::Handover;

pub(crate) async fn service(verb: Service, dir: &Path, talk: &Talk, printer: Printer) -> Done {
    let Service::Add { name, out } = verb;
    add("/api/v1/services", &name, &out, dir, talk, printer).await
}

pub(crate) async fn operator(verb: Operator, dir: &Path, talk: &Talk, printer: Printer) -> Done {
    match verb {
        Operator::Add { name, out } => add("/api/v1/operators", &name, &out, dir, talk, printer).await,
        Operator::List => {
            let answer = talk.list("principals", None, None).await?;
            printer.show(&answer, |answer| {
                let rows = answer["principals"].as_array().cloned().unwrap_or_default();
                table(&rows, &["kind", "name", "standing", "added_at", "added_by"])
            });
            Ok(())
        }
    }
}

/// The key is made here and never leaves; only its certificate request is sent.
async fn add(path: &str, name: &str, out: &Path, dir: &Path, talk: &Talk, printer: Printer) -> Done {
    let parsed = types::DeviceId::parse(name).map_err(Fail::usage)?;
    let root = fs_err::read_to_string(Layout::new(dir).ca("root"))?;
    let handover = Handover::begin(out, parsed.as_str(), &root)?;
    let answer = talk.post(path, &json!({"name": name, "csr": handover.csr_pem()?})).await?;
    let files = handover.finish(&answer)?;
    printer.show(&json!({"name": name, "files": files}), |_| {
        let paths: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        format!("added {name}\nwrote {}", paths.join(", "))
    });
    Ok(())
}
