/// The rules for sensors and actuators under `devices/<id>/`.
pub const LAYOUT_DEVICES: &str = "\
# Every device lives below devices/<its own id>/ and nowhere else.
# %u is the name in its certificate; a device cannot choose another.

# Measurements, and the answers to commands (devices/<id>/telemetry/commands/<name>).
pattern write devices/%u/telemetry/#
# online, and offline as the last will.
pattern write devices/%u/status
# What the device is asked to do.
pattern read devices/%u/commands/#

# The operator or service of this name reads everything and commands every device.
user admin
topic read #
topic write devices/+/commands/#
";

/// The rules for trackers under `assets/<id>/`, which one backend service reads.
pub const LAYOUT_ASSETS: &str = "\
# A tracker publishes its position and its status, and nothing else.
pattern write assets/%u/telemetry
pattern write assets/%u/status
# What the tracker is asked to do.
pattern read assets/%u/commands/#

# The backend reads every tracker and commands every tracker.
user backend-service
topic read assets/#
topic write assets/+/commands/#
";
