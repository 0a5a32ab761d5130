//! `bailiwick demo`: the whole job on one machine, the four attacks carried out for real, a revocation.

mod attacks;
mod backend;
mod false_broker;
mod fleet;
mod listening;
mod proxy;
mod revoke;
mod stage;
mod table;
mod wire;
mod workshop;

use std::path::Path;
use std::process::ExitCode;

use crate::args::Demo;
use crate::demo::fleet::Fleet;
use crate::demo::stage::Stage;
use crate::demo::table::Table;
use crate::fail::Done;

pub(crate) async fn demo(dir: &Path, demo: &Demo) -> Done<ExitCode> {
    let mut table = Table::default();
    println!("1. An installation in {}: root, devices, services and servers CA", dir.display());
    let stage = Stage::start(dir, demo.any_port).await?;
    println!(
        "   MQTT by mutual TLS on {}, the devices' HTTPS on {}",
        stage.addresses.mqtt, stage.addresses.devices
    );
    println!("2. Three trackers by first boot: bundle, key made on the device, certificate request");
    let mut fleet = Fleet::start(&stage, &mut table).await?;
    println!("3. The four attacks");
    attacks::eavesdropping(&stage, &fleet, &mut table).await?;
    attacks::spoofing(&stage, &fleet, &mut table).await?;
    attacks::hijack(&stage, &fleet, &mut table).await?;
    attacks::replay(&stage, &fleet, &mut table).await?;
    println!("4. One device is revoked");
    revoke::revoke(&stage, &mut fleet, &mut table).await?;
    println!("{}", table.render());
    let code = if table.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if demo.keep {
        try_it(&stage);
        stage.keep().await;
    } else {
        fleet.stop().await;
        println!("log: {}", dir.join("serve.log").display());
        stage.stop().await;
    }
    Ok(code)
}

/// What a person can do from another terminal.
fn try_it(stage: &Stage) {
    let data = stage.layout.dir().display();
    let program =
        std::env::current_exe().map_or_else(|_| "bailiwick".to_owned(), |path| path.display().to_string());
    println!(
        "still serving: mqtt {}, devices {}, admin {}, plain {}; stop with Ctrl-C\n\
         from another terminal:\n  \
         {program} --dir {data} status\n  \
         {program} --dir {data} client list\n  \
         {program} --dir {data} client refused\n  \
         {program} --dir {data} device add my-sensor --out my-sensor\n  \
         {program} --dir {data} device show my-sensor --for mosquitto --files my-sensor\n  \
         {program} --dir {data} policy explain my-sensor subscribe 'assets/#'\n  \
         {program} --dir {data} device revoke my-sensor",
        stage.addresses.mqtt, stage.addresses.devices, stage.addresses.admin, stage.addresses.plain
    );
}
