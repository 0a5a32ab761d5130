"""paho-mqtt 2 with the options of its documentation: the same five facts as the other library judges."""
import os
import queue
import ssl
import sys

import paho.mqtt.client as mqtt

FILES = os.environ["BAILIWICK_FILES"]
PORT = int(os.environ["BAILIWICK_PORT"])
WAIT = 15


def path(name):
    return os.path.join(FILES, name)


class Peer:
    def __init__(self, name, certificate=True, will=None):
        self.events = queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"py-{name}")
        if certificate:
            self.client.tls_set(ca_certs=path("ca.crt"), certfile=path(f"{name}.crt"), keyfile=path(f"{name}.key"),
                                cert_reqs=ssl.CERT_REQUIRED)
        else:
            self.client.tls_set(ca_certs=path("ca.crt"), cert_reqs=ssl.CERT_REQUIRED)
        if will:
            self.client.will_set(*will, qos=1, retain=True)
        self.client.on_connect = lambda c, u, flags, reason, p: self.events.put(("connect", str(reason)))
        self.client.on_connect_fail = lambda c, u: self.events.put(("failed", ""))
        self.client.on_disconnect = lambda c, u, flags, reason, p: self.events.put(("disconnect", str(reason)))
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.events.put(("subscribe", [r.value for r in reasons]))
        self.client.on_publish = lambda c, u, mid, reason, p: self.events.put(("publish", mid))
        self.client.on_message = lambda c, u, m: self.events.put(("message", f"{m.topic} {m.payload.decode()}"))
        self.client.connect_async("localhost", PORT, keepalive=30)
        self.client.loop_start()

    def wait(self, *kinds):
        while True:
            kind, value = self.events.get(timeout=WAIT)
            if kind in kinds:
                return kind, value


def expect(what, held, evidence):
    if not held:
        sys.exit(f"{what}: {evidence}")
    print(f"ok {what}")


service = Peer("backend-service")
answer = service.wait("connect", "failed")
expect("a service connects", answer == ("connect", "Success"), answer)
service.client.subscribe("assets/#", qos=1)
answer = service.wait("subscribe")
expect("assets/# is granted to the service with QoS 1", answer[1] == [1], answer)
device = Peer("sensor-001", will=("assets/sensor-001/status", "offline"))
device.wait("connect")
device.client.publish("assets/sensor-001/telemetry", '{"seq":1}', qos=1)
device.wait("publish")
answer = service.wait("message")
expect("a QoS 1 message travels from the device to the service",
       answer[1] == 'assets/sensor-001/telemetry {"seq":1}', answer)
device.client.loop_stop()
device.client.socket().close()
answer = service.wait("message")
expect("the last will is sent when the device is cut off", answer[1] == "assets/sensor-001/status offline", answer)
other = Peer("sensor-002")
other.wait("connect")
other.client.subscribe("assets/sensor-001/#", qos=1)
answer = other.wait("subscribe")
expect("another device's topics are refused", answer[1] == [128], answer)
bare = Peer("sensor-002", certificate=False)
answer = bare.wait("connect", "failed", "disconnect")
expect("no certificate, no connection", answer[0] != "connect", answer)
for peer in (service, other, bare):
    peer.client.disconnect()
    peer.client.loop_stop()
