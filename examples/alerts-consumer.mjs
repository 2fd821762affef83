// Subscribes to chat.alerts in Kafka, and prints each transition of an alert as a line of JSON.
//
//   npm install
//   node alerts-consumer.mjs --bootstrap 127.0.0.1:9092 --schemas ../schemas/history/Alert
//
// A value is Avro in single-object encoding: C3 01, the fingerprint of the schema that wrote it (8 bytes,
// CRC-64-AVRO of its canonical form), and the record. --schemas is a folder with the versions of the record;
// take it from the release that you run, and a later one when it comes: fields are only ever added.
//
// A transition may come again after a crash, and again with a higher `revision` when late events have
// corrected its figures: `alert_id`, `transition` and `revision` together name it. Here repeats are left out.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import avro from "avsc";
import { Kafka, logLevel } from "kafkajs";

const HEADER = 10;

/** CRC-64-AVRO, as it stands on the wire: 8 bytes, little-endian. */
function fingerprint(text) {
  const empty = 0xc15d213aa4d7a795n;
  let value = empty;
  for (const byte of Buffer.from(text, "utf8")) {
    let entry = (value ^ BigInt(byte)) & 0xffn;
    for (let bit = 0; bit < 8; bit++) {
      entry = (entry >> 1n) ^ (empty & -(entry & 1n) & 0xffffffffffffffffn);
    }
    value = (value >> 8n) ^ entry;
  }
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes.toString("hex");
}

/** Microseconds since 1970 as a Date; of the last three digits a Date knows nothing. */
class Instant extends avro.types.LogicalType {
  _fromValue(micros) { return new Date(micros / 1000); }
  _toValue(date) { return date.getTime() * 1000; }
  _resolve(type) { if (type.typeName.startsWith("long")) return (micros) => new Date(micros / 1000); }
}

/** How to read each version of the record into the newest one's fields, by fingerprint. */
function readers(folder) {
  const files = readdirSync(folder).filter((name) => name.endsWith(".avsc"));
  files.sort((one, other) => parseInt(one) - parseInt(other));
  if (files.length === 0) throw new Error(`no schemas in ${folder}`);
  const versions = files.map((name) => {
    const schema = JSON.parse(readFileSync(join(folder, name), "utf8"));
    return avro.Type.forSchema(schema, { logicalTypes: { "timestamp-micros": Instant } });
  });
  const newest = versions.at(-1);
  return new Map(versions.map((version) => {
    const resolver = version === newest ? undefined : newest.createResolver(version);
    // What schema() gives is the canonical form.
    return [fingerprint(JSON.stringify(version.schema())), (body) => newest.fromBuffer(body, resolver)];
  }));
}

function decode(value, known) {
  const marked = value.subarray(0, 2).toString("hex") === "c301";
  const read = marked && known.get(value.subarray(2, HEADER).toString("hex"));
  if (!read) throw new Error("not an alert, or of a version that is not in --schemas");
  return read(value.subarray(HEADER));
}

/** `key=value` texts as an object. */
function pairs(entries) {
  return Object.fromEntries(entries.map((entry) => {
    const [key, ...rest] = entry.split("=");
    return [key, rest.join("=")];
  }));
}

const { values: options } = parseArgs({
  options: {
    bootstrap: { type: "string", default: "127.0.0.1:9092" },
    topic: { type: "string", default: "chat.alerts" },
    schemas: { type: "string", default: "../schemas/history/Alert" },
    group: { type: "string", default: `alerts-consumer-${process.pid}` },
    "from-beginning": { type: "boolean", default: false },
    count: { type: "string" },
  },
});
const known = readers(options.schemas);
const told = new Set();
const consumer = new Kafka({ brokers: options.bootstrap.split(","), logLevel: logLevel.ERROR }).consumer({
  groupId: options.group,
});

await consumer.connect();
await consumer.subscribe({ topic: options.topic, fromBeginning: options["from-beginning"] });
await consumer.run({
  eachMessage: async ({ message }) => {
    let alert;
    try {
      alert = decode(message.value, known);
    } catch (error) {
      console.error(`offset ${message.offset}: ${error.message}`);
      return;
    }
    const name = `${alert.alert_id}/${alert.transition}/${alert.revision}`;
    if (told.has(name) || told.size === Number(options.count)) return;
    told.add(name);
    console.log(JSON.stringify({ ...alert, labels: pairs(alert.labels), group: pairs(alert.group) }));
    if (told.size === Number(options.count)) setImmediate(stop);
  },
});

async function stop() {
  await consumer.disconnect();
  process.exit(0);
}
process.once("SIGTERM", stop);
process.once("SIGINT", stop);
