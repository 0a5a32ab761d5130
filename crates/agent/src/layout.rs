use types::DeviceId;

/// Which of the two topic layouts a device speaks (rows E2 and E3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `devices/<id>/…`: sensors.
    Devices,
    /// `assets/<id>/…`: trackers.
    Assets,
}

impl Layout {
    fn space(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Assets => "assets",
        }
    }

    /// Where `online` and `offline` stand.
    #[must_use]
    pub fn status_topic(self, id: &DeviceId) -> String {
        format!("{}/{id}/status", self.space())
    }

    /// Where readings and positions go.
    #[must_use]
    pub fn telemetry_topic(self, id: &DeviceId) -> String {
        match self {
            Self::Devices => format!("devices/{id}/telemetry/environment"),
            Self::Assets => format!("assets/{id}/telemetry"),
        }
    }

    /// What the device subscribes to.
    #[must_use]
    pub fn commands_filter(self, id: &DeviceId) -> String {
        format!("{}/{id}/commands/#", self.space())
    }

    /// The name of the command that came on `topic`, if it is one for this device.
    #[must_use]
    pub fn command_name<'t>(self, id: &DeviceId, topic: &'t str) -> Option<&'t str> {
        topic
            .strip_prefix(self.space())?
            .strip_prefix('/')?
            .strip_prefix(id.as_str())?
            .strip_prefix("/commands/")
            .filter(|name| !name.is_empty())
    }

    /// Where the answer to a command goes: for assets, whose rules allow no other topic, among the
    /// telemetry.
    #[must_use]
    pub fn answer_topic(self, id: &DeviceId, command: &str) -> String {
        match self {
            Self::Devices => format!("devices/{id}/telemetry/commands/{command}"),
            Self::Assets => self.telemetry_topic(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_are_those_of_the_two_layouts() {
        let id = DeviceId::parse("pump-7").unwrap();
        let devices = Layout::Devices;
        assert_eq!(devices.status_topic(&id), "devices/pump-7/status");
        assert_eq!(devices.telemetry_topic(&id), "devices/pump-7/telemetry/environment");
        assert_eq!(devices.commands_filter(&id), "devices/pump-7/commands/#");
        assert_eq!(devices.answer_topic(&id, "interval"), "devices/pump-7/telemetry/commands/interval");
        let assets = Layout::Assets;
        assert_eq!(assets.status_topic(&id), "assets/pump-7/status");
        assert_eq!(assets.telemetry_topic(&id), "assets/pump-7/telemetry");
        assert_eq!(assets.commands_filter(&id), "assets/pump-7/commands/#");
        assert_eq!(assets.answer_topic(&id, "interval"), "assets/pump-7/telemetry");
    }

    #[test]
    fn a_command_for_another_device_or_layout_is_none() {
        let id = DeviceId::parse("pump-7").unwrap();
        let name = |topic| Layout::Devices.command_name(&id, topic);
        assert_eq!(name("devices/pump-7/commands/interval"), Some("interval"));
        assert_eq!(name("devices/pump-7/commands/a/b"), Some("a/b"));
        for topic in [
            "devices/pump-7/commands/",
            "devices/pump-7/commands",
            "devices/pump-70/commands/interval",
            "devices/pump-8/commands/interval",
            "assets/pump-7/commands/interval",
            "devices/pump-7/status",
        ] {
            assert_eq!(name(topic), None, "{topic}");
        }
    }
}
