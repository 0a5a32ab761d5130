//! The four attacks, carried out for real, each with its evidence from the server's own log.

use audit::Event;
use serde_json::json;
use tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use types::DeviceId;
use x509::{CaPurpose, Profile};

use crate::demo::fleet::Fleet;
use crate::demo::proxy::{Meddling, Proxy};
use crate::demo::stage::{HOST, Stage};
use crate::demo::table::Table;
use crate::demo::wire::{ANSWER_WITHIN, Wire, connect_bytes};
use crate::demo::workshop::{Dates, Forge};
use crate::demo::{false_broker, listening};
use crate::fail::{Done, Fail};

const EAVESDROPPING: &str = "eavesdropping";
const SPOOFING: &str = "spoofing";
const HIJACK: &str = "broker hijack";
const REPLAY: &str = "replay";

/// A text that would be found at once in a recording if it could be read.
const MARKER: &str = "{\"temp\":21.5,\"marker\":\"north-gate-4711\"}";

pub(crate) async fn eavesdropping(stage: &Stage, fleet: &Fleet, table: &mut Table) -> Done {
    table.show(EAVESDROPPING, "plain MQTT bytes sent to the TLS port", plain_bytes(stage).await);
    table.show(EAVESDROPPING, "no plain MQTT listener of ours", listening::only(&stage.addresses));
    let proxy = Proxy::start(stage.addresses.mqtt).await?;
    let device = fleet.identity(0)?;
    table.show(EAVESDROPPING, "a recording of a live link", recording(stage, fleet, &proxy, device).await);
    table.show(
        EAVESDROPPING,
        "one flipped byte ends the link",
        meddled(stage, fleet, &proxy, Meddling::Flip).await,
    );
    table.show(
        EAVESDROPPING,
        "bytes sent again end the link",
        meddled(stage, fleet, &proxy, Meddling::Resend).await,
    );
    table.show(EAVESDROPPING, "a whole recorded link played again", played_again(stage, &proxy).await);
    Ok(())
}

async fn plain_bytes(stage: &Stage) -> Result<String, String> {
    let mut feed = stage.listen();
    let mut tcp = TcpStream::connect(stage.addresses.mqtt).await.map_err(|error| error.to_string())?;
    tcp.write_all(&connect_bytes("plain")).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(ANSWER_WITHIN, tcp.read_to_end(&mut answer)).await;
    if read.is_err() {
        return Err("the connection stayed open".to_owned());
    }
    if answer.first() == Some(&0x20) {
        return Err("a CONNACK came back".to_owned());
    }
    feed.refused().await
}

async fn recording(
    stage: &Stage,
    fleet: &Fleet,
    proxy: &Proxy,
    identity: Identity,
) -> Result<String, String> {
    let connector = stage.connector(Some(identity)).map_err(|fail| fail.to_string())?;
    let mut wire = Wire::open(&connector, proxy.address, HOST, "recorded").await?;
    let topic = format!("devices/{}/telemetry/gate", fleet.name(0));
    wire.publish(&topic, MARKER).await?;
    // The control: the message did pass, so the recording holds it.
    fleet.backend.wait(|seen| seen.payload == MARKER).await?;
    let recorded = proxy.recorded();
    for text in [MARKER, "north-gate-4711", topic.as_str(), "telemetry"] {
        if recorded.contains(text) {
            return Err(format!("\"{text}\" can be read in the recording"));
        }
    }
    Ok(format!(
        "{} bytes recorded, neither topic nor payload in them",
        recorded.from_client.len() + recorded.from_broker.len()
    ))
}

async fn meddled(stage: &Stage, fleet: &Fleet, proxy: &Proxy, meddling: Meddling) -> Result<String, String> {
    proxy.meddle(Meddling::Record);
    let identity = fleet.identity(0).map_err(|fail| fail.to_string())?;
    let connector = stage.connector(Some(identity)).map_err(|fail| fail.to_string())?;
    let mut feed = stage.listen();
    let mut wire = Wire::open(&connector, proxy.address, HOST, "meddled").await?;
    proxy.meddle(meddling);
    let topic = format!("devices/{}/telemetry/gate", fleet.name(0));
    // The write itself may already meet the closed link.
    let _ = wire.send(&crate::demo::wire::publish_bytes(&topic, 9, "{\"meddled\":true}")).await;
    wire.ended().await?;
    proxy.meddle(Meddling::Record);
    let device = fleet.name(0).to_owned();
    let ended = feed
        .find(|event| matches!(event, Event::SessionEnded { principal, reason, .. } if *principal == device && reason == "tls.failed"))
        .await?;
    if meddling == Meddling::Flip && fleet.backend.saw(|seen| seen.payload.contains("meddled")) {
        return Err("the changed message was delivered".to_owned());
    }
    match ended {
        Event::SessionEnded { reason, detail, .. } if detail.is_empty() => Ok(reason),
        Event::SessionEnded { reason, detail, .. } => Ok(format!("{reason}: {detail}")),
        other => Err(other.code().to_owned()),
    }
}

/// The bytes of a whole link, from its first, on a connection of their own.
async fn played_again(stage: &Stage, proxy: &Proxy) -> Result<String, String> {
    let recorded = proxy.recorded().from_client;
    let mut feed = stage.listen();
    let mut tcp = TcpStream::connect(stage.addresses.mqtt).await.map_err(|error| error.to_string())?;
    let _ = tcp.write_all(&recorded).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(ANSWER_WITHIN, tcp.read_to_end(&mut answer)).await;
    feed.refused().await
}

pub(crate) async fn spoofing(stage: &Stage, fleet: &Fleet, table: &mut Table) -> Done {
    let victim = fleet.name(1).to_owned();
    table.show(SPOOFING, "a client without a certificate", refused(stage, None, "nobody").await);
    let forge = Forge::same_names(stage, "devices", CaPurpose::Clients)?;
    let id = DeviceId::parse(&victim).map_err(Fail::failed)?;
    let foreign = forge.identity(stage, &victim, Profile::Device { id: id.clone() }, Dates::Now)?;
    table.show(
        SPOOFING,
        "a certificate of a foreign CA of the same name",
        refused(stage, Some(foreign), &victim).await,
    );
    let unlisted =
        Forge::stolen(stage, "devices")?.identity(stage, &victim, Profile::Device { id }, Dates::Now)?;
    table.show(
        SPOOFING,
        "signed with the CA's stolen key, but not in the ledger",
        refused(stage, Some(unlisted), &victim).await,
    );
    table.show(SPOOFING, "a device that publishes to another's topic", foreign_topic(stage, fleet).await);
    table.show(SPOOFING, "a device that takes another's client id", client_id(stage, fleet).await);
    table.show(SPOOFING, "an enrolment as \"admin\"", as_admin(stage).await);
    for (what, outcome) in false_broker::all(stage, fleet).await? {
        table.show(SPOOFING, what, outcome);
    }
    Ok(())
}

/// A connection that must be refused; the reason as it was logged.
async fn refused(stage: &Stage, identity: Option<Identity>, client_id: &str) -> Result<String, String> {
    let connector = stage.connector(identity).map_err(|fail| fail.to_string())?;
    let mut feed = stage.listen();
    match Wire::open(&connector, stage.addresses.mqtt, HOST, client_id).await {
        Ok(_) => Err("it connected".to_owned()),
        Err(_) => feed.refused().await,
    }
}

async fn foreign_topic(stage: &Stage, fleet: &Fleet) -> Result<String, String> {
    let connector = stage
        .connector(Some(fleet.identity(0).map_err(|fail| fail.to_string())?))
        .map_err(|fail| fail.to_string())?;
    let mut feed = stage.listen();
    let mut wire = Wire::open(&connector, stage.addresses.mqtt, HOST, "spoofer").await?;
    let topic = format!("assets/{}/telemetry", fleet.name(1));
    wire.publish(&topic, "{\"spoofed\":true}").await?;
    let logged = feed.find(|event| matches!(event, Event::PublishRefused { .. })).await?;
    // The control comes after it on the same link: what was to arrive would have arrived before.
    let own = format!("devices/{}/telemetry/control", fleet.name(0));
    wire.publish(&own, "{\"control\":\"foreign topic\"}").await?;
    fleet.backend.wait(|seen| seen.payload.contains("foreign topic")).await?;
    if fleet.backend.saw(|seen| seen.payload.contains("spoofed")) {
        return Err("the message was delivered".to_owned());
    }
    match logged {
        Event::PublishRefused { reason, rule, .. } => Ok(format!("{reason} ({rule})")),
        other => Err(other.code().to_owned()),
    }
}

async fn client_id(stage: &Stage, fleet: &Fleet) -> Result<String, String> {
    let victim = fleet.name(1);
    let connector = stage
        .connector(Some(fleet.identity(0).map_err(|fail| fail.to_string())?))
        .map_err(|fail| fail.to_string())?;
    let before = fleet.interruptions(1);
    let _wire = Wire::open(&connector, stage.addresses.mqtt, HOST, victim).await?;
    // The victim goes on: its next message arrives, over the link that it had.
    let count = fleet.backend.count(|seen| seen.topic.contains(victim));
    fleet.backend.wait_count(count + 1, |seen| seen.topic.contains(victim)).await?;
    if fleet.interruptions(1) != before {
        return Err("the other's session was interrupted".to_owned());
    }
    Ok("a session of its own; the other goes on".to_owned())
}

async fn as_admin(stage: &Stage) -> Result<String, String> {
    let (status, answer) =
        stage.ask("/api/v1/devices", &json!({"id": "admin"})).await.map_err(|fail| fail.to_string())?;
    if (200..300).contains(&status) {
        return Err("it was registered".to_owned());
    }
    Ok(format!("{status}: {}", answer["detail"].as_str().unwrap_or_default()))
}

pub(crate) async fn hijack(stage: &Stage, fleet: &Fleet, table: &mut Table) -> Done {
    let forge = Forge::same_names(stage, "services", CaPurpose::Clients)?;
    let name = DeviceId::parse("backend-service").map_err(Fail::failed)?;
    let foreign = forge.identity(stage, "backend-service", Profile::Service { name }, Dates::Now)?;
    table.show(
        HIJACK,
        "an untrusted subscriber that wants \"#\"",
        refused(stage, Some(foreign), "listener").await,
    );
    for filter in [
        "#".to_owned(),
        "$SYS/#".to_owned(),
        format!("assets/{}/telemetry", fleet.name(1)),
        "assets/+/telemetry".to_owned(),
    ] {
        let what = format!("a device that subscribes to \"{filter}\"");
        table.show(HIJACK, what, subscription(stage, fleet, &filter).await);
    }
    Ok(())
}

async fn subscription(stage: &Stage, fleet: &Fleet, filter: &str) -> Result<String, String> {
    let connector = stage
        .connector(Some(fleet.identity(0).map_err(|fail| fail.to_string())?))
        .map_err(|fail| fail.to_string())?;
    let mut feed = stage.listen();
    let mut wire = Wire::open(&connector, stage.addresses.mqtt, HOST, "hijacker").await?;
    let granted = wire.subscribe(filter).await?;
    if granted != 0x80 {
        return Err(format!("granted with QoS {granted}"));
    }
    match feed.find(|event| matches!(event, Event::SubscribeRefused { .. })).await? {
        Event::SubscribeRefused { reason, rule, .. } => Ok(format!("{reason} ({rule})")),
        other => Err(other.code().to_owned()),
    }
}

pub(crate) async fn replay(stage: &Stage, fleet: &Fleet, table: &mut Table) -> Done {
    table.show(REPLAY, "a recorded telemetry message sent again", again(stage, fleet).await);
    Ok(())
}

async fn again(stage: &Stage, fleet: &Fleet) -> Result<String, String> {
    let device = fleet.name(1);
    let topic = format!("assets/{device}/telemetry");
    let recorded = fleet.backend.wait(|seen| seen.topic == topic).await?;
    let connector = stage
        .connector(Some(fleet.identity(1).map_err(|fail| fail.to_string())?))
        .map_err(|fail| fail.to_string())?;
    let mut feed = stage.listen();
    let mut wire = Wire::open(&connector, stage.addresses.mqtt, HOST, "replayer").await?;
    wire.publish(&topic, &recorded.payload).await?;
    let logged = feed.find(|event| matches!(event, Event::ReplayRefused { .. })).await?;
    let own = format!("devices/{device}/telemetry/control");
    wire.publish(&own, "{\"control\":\"replay\"}").await?;
    fleet.backend.wait(|seen| seen.payload.contains("\"control\":\"replay\"")).await?;
    let delivered = fleet.backend.count(|seen| seen.payload == recorded.payload);
    if delivered != 1 {
        return Err(format!("it was delivered {delivered} times"));
    }
    match logged {
        Event::ReplayRefused { kind, detail, .. } => Ok(format!("replay.{kind}: {detail}")),
        other => Err(other.code().to_owned()),
    }
}
