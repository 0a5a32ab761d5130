//! One device is revoked: its live session ends, its reconnect fails, the others go on.

use std::time::Duration;

use serde_json::json;

use crate::demo::fleet::{Fleet, moment};
use crate::demo::stage::{HOST, Stage};
use crate::demo::table::Table;
use crate::demo::wire::Wire;
use crate::fail::Done;

const GROUP: &str = "revocation";
const WITHIN: Duration = Duration::from_secs(10);
/// Which of the devices is revoked.
const VICTIM: usize = 2;

pub(crate) async fn revoke(stage: &Stage, fleet: &mut Fleet, table: &mut Table) -> Done {
    let name = fleet.name(VICTIM);
    let lost = fleet.lost(VICTIM);
    let start = moment();
    let answer =
        stage.must(&format!("/api/v1/devices/{name}/revoke"), &json!({"reason": "keyCompromise"})).await?;
    let said = answer["text"].as_str().unwrap_or_default().to_owned();
    let answered = start.elapsed();
    table.show(GROUP, format!("{name} is revoked"), Ok(format!("{said} ({} ms)", answered.as_millis())));
    let ended = async {
        let mut lost = lost.ok_or("no such device")?;
        let seen = lost.wait_for(|moment| moment.is_some_and(|moment| moment >= start));
        match tokio::time::timeout(WITHIN, seen).await {
            Ok(Ok(moment)) => {
                let after = moment.map(|moment| moment.duration_since(start)).unwrap_or_default();
                Ok(format!("{:.1} ms after the command, as the device saw it", after.as_secs_f64() * 1e3))
            }
            _ => Err("its session is still alive".to_owned()),
        }
    };
    table.show(GROUP, "its live session ends", ended.await);
    table.show(GROUP, "its reconnect is refused", reconnect(stage, fleet).await);
    let other = fleet.name(0);
    let count = fleet.backend.count(|seen| seen.topic.contains(other));
    let goes_on = fleet.backend.wait_count(count + 1, |seen| seen.topic.contains(other)).await;
    table.show(GROUP, "the other devices go on", goes_on.map(|()| format!("{other} is still read")));
    let after = fleet.backend.count(|seen| seen.topic.contains(name));
    let control = fleet.backend.wait_count(count + 3, |seen| seen.topic.contains(other)).await;
    let silent = control.and_then(|()| match fleet.backend.count(|seen| seen.topic.contains(name)) {
        same if same == after => Ok("no message of it since".to_owned()),
        more => Err(format!("{} more messages of it", more - after)),
    });
    table.show(GROUP, "nothing more is heard of it", silent);
    Ok(())
}

async fn reconnect(stage: &Stage, fleet: &Fleet) -> Result<String, String> {
    let identity = fleet.identity(VICTIM).map_err(|fail| fail.to_string())?;
    let connector = stage.connector(Some(identity)).map_err(|fail| fail.to_string())?;
    let mut feed = stage.listen();
    match Wire::open(&connector, stage.addresses.mqtt, HOST, fleet.name(VICTIM)).await {
        Ok(_) => Err("it connected".to_owned()),
        Err(told) => Ok(format!("{}; the device was told: {told}", feed.refused().await?)),
    }
}
