//! `bailiwick serve`

use std::path::Path;

use serde_json::json;
use server::Layout;

use crate::args::Serve;
use crate::fail::Done;
use crate::print::Printer;

pub(crate) async fn serve(dir: &Path, serve: &Serve, printer: Printer) -> Done {
    let layout = Layout::new(dir);
    if serve.check {
        server::check(&layout)?;
        printer.show(&json!({"checked": true}), |_| "configuration, rules and keys are in order".to_owned());
        return Ok(());
    }
    // Whoever reads the addresses may send a signal at once.
    let signals = server::Signals::hear()?;
    let running = server::start(&layout, server::Output::stderr()).await?;
    let addresses = running.addresses();
    let shown = json!({
        "mqtt": addresses.mqtt.to_string(),
        "devices": addresses.devices.to_string(),
        "admin": addresses.admin.to_string(),
        "plain": addresses.plain.to_string(),
    });
    printer.show(&shown, |_| {
        format!(
            "mqtt     {}  MQTT over mutual TLS\ndevices  {}  HTTPS for devices\nadmin    {}  HTTPS for operators\nplain    {}  CRLs and CA certificates\nready",
            addresses.mqtt, addresses.devices, addresses.admin, addresses.plain
        )
    });
    running.until(signals).await;
    Ok(())
}
