// mqtt.js 5 with the options of its documentation: a device publishes, a service reads,
// a device may not read another's topics, and nobody connects without a certificate.
const fs = require('fs');
const path = require('path');
const mqtt = require('mqtt');

const files = process.env.BAILIWICK_FILES;
const url = `mqtts://localhost:${process.env.BAILIWICK_PORT}`;
const read = (name) => fs.readFileSync(path.join(files, name));

function options(name, extra) {
  return {
    ca: read('ca.crt'), cert: read(`${name}.crt`), key: read(`${name}.key`),
    rejectUnauthorized: true, reconnectPeriod: 0, connectTimeout: 10000, clientId: `js-${name}`, ...extra,
  };
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what}: no answer in 15 s`)), 15000); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function main() {
  const service = await within(mqtt.connectAsync(url, options('backend-service')), 'service connects');
  console.log('ok a service connects');
  const granted = await within(service.subscribeAsync('assets/#', { qos: 1 }), 'subscribe');
  if (granted[0].qos !== 1) throw new Error(`granted ${JSON.stringify(granted)}`);
  console.log('ok assets/# is granted to the service with QoS 1');
  const message = new Promise((resolve) => service.once('message', (topic, payload) => resolve(`${topic} ${payload}`)));
  const device = await within(mqtt.connectAsync(url, options('sensor-001', {
    will: { topic: 'assets/sensor-001/status', payload: 'offline', qos: 1, retain: true },
  })), 'device connects');
  await within(device.publishAsync('assets/sensor-001/telemetry', '{"seq":1}', { qos: 1 }), 'publish');
  const got = await within(message, 'message');
  if (got !== 'assets/sensor-001/telemetry {"seq":1}') throw new Error(`got ${got}`);
  console.log('ok a QoS 1 message travels from the device to the service');

  const will = new Promise((resolve) => service.on('message', (topic, payload) => {
    if (topic === 'assets/sensor-001/status') resolve(payload.toString());
  }));
  device.stream.destroy();
  if (await within(will, 'will') !== 'offline') throw new Error('wrong will');
  console.log('ok the last will is sent when the device is cut off');

  const other = await within(mqtt.connectAsync(url, options('sensor-002')), 'second device connects');
  const refused = await within(other.subscribeAsync('assets/sensor-001/#', { qos: 1 }).catch((error) => error), 'foreign subscribe');
  if (!(refused instanceof Error) && refused[0].qos !== 128) throw new Error(`granted ${JSON.stringify(refused)}`);
  console.log('ok another device\'s topics are refused');
  await other.endAsync();

  const bare = options('sensor-002');
  delete bare.cert;
  delete bare.key;
  const unknown = await within(mqtt.connectAsync(url, bare).catch((error) => error), 'no certificate');
  if (!(unknown instanceof Error)) throw new Error('connected without a certificate');
  console.log('ok no certificate, no connection');
  await service.endAsync();
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
