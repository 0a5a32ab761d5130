//! Working settings for the clients that people use: `device show ID --for CLIENT`.

use std::path::Path;

use serde_json::Value;
use server::{Config, Layout};

use crate::args::ClientKind;
use crate::fail::Done;

/// How a device reaches this installation.
pub(crate) struct Reach {
    pub(crate) host: String,
    pub(crate) mqtt_port: u16,
    pub(crate) devices_port: u16,
}

impl Reach {
    /// From what a running server says of itself, else from the configuration.
    pub(crate) fn new(dir: &Path, status: &Value) -> Done<Self> {
        let config = Config::read(&Layout::new(dir).config())?;
        let port = |listener: &str, configured: u16| {
            let address = status["listeners"][listener].as_str();
            address.and_then(|address| address.rsplit(':').next()?.parse().ok()).unwrap_or(configured)
        };
        Ok(Self {
            host: config.installation.public_host,
            mqtt_port: port("mqtt", config.listeners.mqtt.port()),
            devices_port: port("devices", config.listeners.devices.port()),
        })
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The settings as text: commands where the client is a command, code where it is a library.
pub(crate) fn render(client: ClientKind, id: &str, files: &Path, reach: &Reach) -> String {
    let (host, port) = (&reach.host, reach.mqtt_port);
    let file = |ending: &str| quoted(&files.join(format!("{id}.{ending}")));
    let (ca, cert, key) = (quoted(&files.join("ca.crt")), file("crt"), file("key"));
    let (topic, commands) =
        (format!("devices/{id}/telemetry/environment"), format!("devices/{id}/commands/#"));
    match client {
        ClientKind::Mosquitto => format!(
            "mosquitto_pub -h {host} -p {port} --cafile {ca} --cert {cert} --key {key} -i {id} -q 1 -t {topic} -m '{{\"device\":\"{id}\",\"temp\":21.5,\"hum\":40.0}}'\n\
             mosquitto_sub -h {host} -p {port} --cafile {ca} --cert {cert} --key {key} -i {id}-commands -q 1 -t '{commands}'\n"
        ),
        ClientKind::Mqttjs => format!(
            "const fs = require('fs');\nconst mqtt = require('mqtt');\nconst client = mqtt.connect('mqtts://{host}:{port}', {{\n  \
             ca: fs.readFileSync('{ca}'),\n  cert: fs.readFileSync('{cert}'),\n  key: fs.readFileSync('{key}'),\n  \
             rejectUnauthorized: true,\n  clientId: '{id}',\n}});\nclient.publish('{topic}', '{{\"temp\":21.5}}', {{ qos: 1 }});\n"
        ),
        ClientKind::Paho => format!(
            "import ssl\nimport paho.mqtt.client as mqtt\n\nclient = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=\"{id}\")\n\
             client.tls_set(ca_certs=\"{ca}\", certfile=\"{cert}\", keyfile=\"{key}\", cert_reqs=ssl.CERT_REQUIRED)\n\
             client.connect(\"{host}\", {port})\nclient.loop_start()\nclient.publish(\"{topic}\", '{{\"temp\":21.5}}', qos=1)\n"
        ),
        ClientKind::EspIdf => format!(
            "// ca.crt, {id}.crt (leaf only) and {id}.key as texts from NVS, namespace \"certs\"\n\
             const esp_mqtt_client_config_t config = {{\n  .broker.address.uri = \"mqtts://{host}:{port}\",\n  \
             .broker.verification.certificate = ca_cert,\n  .credentials.client_id = \"{id}\",\n  \
             .credentials.authentication.certificate = client_cert,\n  .credentials.authentication.key = client_key,\n}};\n"
        ),
        ClientKind::Arduino => format!(
            "WiFiClientSecure net;\nPubSubClient client(net);\n\nvoid setup() {{\n  net.setCACert(ca_cert);\n  \
             net.setCertificate(client_cert);\n  net.setPrivateKey(client_key);\n  client.setServer(\"{host}\", {port});\n  \
             client.connect(\"{id}\");\n  client.publish(\"{topic}\", \"{{\\\"temp\\\":21.5}}\");\n}}\n"
        ),
        ClientKind::Curl => format!(
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={id} -keyout {key} -out {id}.csr\n\
             jq -n --arg token \"$TOKEN\" --rawfile csr {id}.csr '{{token: $token, csr: $csr}}' | \\\n  \
             curl --cacert {ca} -H 'Content-Type: application/json' -d @- https://{host}:{}/provision\n",
            reach.devices_port
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_spaces_are_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("a b/it's")), "'a b/it'\\''s'");
        assert_eq!(quoted(Path::new("files/ca.crt")), "files/ca.crt");
    }

    #[test]
    fn every_client_is_given_host_port_and_all_three_files_or_their_texts() {
        let reach = Reach { host: "broker.local".into(), mqtt_port: 8883, devices_port: 8443 };
        for client in [
            ClientKind::Mosquitto,
            ClientKind::Mqttjs,
            ClientKind::Paho,
            ClientKind::EspIdf,
            ClientKind::Arduino,
            ClientKind::Curl,
        ] {
            let text = render(client, "pump-7", Path::new("f"), &reach);
            assert!(text.contains("broker.local") && text.contains("pump-7"), "{text}");
            assert!(text.contains("8883") || text.contains("8443"), "{text}");
            assert!(!text.to_lowercase().contains("insecure"), "{text}");
        }
    }
}
