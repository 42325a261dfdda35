// The JavaScript client as a driver of the conformance suite (sdk/conformance/README.md).
//   node --experimental-websocket sdk/js/tests/driver.mjs

import { createInterface } from "node:readline";
import { RainbowClient } from "../rainbow.js";

console.error = () => undefined; // a handler is asked to fail

const report = (event, values) => process.stdout.write(`${JSON.stringify({ event, ...values })}\n`);
const text = (bytes) => new TextDecoder().decode(bytes);
let client, whenOpen, hasFailed = false;

async function send({ tag, type, text: content, qos }) {
  try {
    report("settled", { tag, text: text(await client.send(type, content, qos)) });
  } catch (error) {
    report("failed", { tag, error: error.code });
  }
}

function create({ url, options }) {
  client = new RainbowClient({
    url,
    deviceId: options.device_id,
    clientOs: options.client_os,
    query: options.query,
    retryAfter: options.retry_after_ms,
    tries: options.tries,
    queueMax: options.queue_max,
    reconnectMin: options.reconnect_min_ms,
    reconnectMax: options.reconnect_max_ms,
  });
  client.onstate = (state, wait) => {
    report("state", { state, wait_ms: Math.round(wait ?? 0) });
    if (state !== "open" || !whenOpen) return;
    const order = whenOpen;
    whenOpen = undefined;
    carryOut(order);
  };
  client.onmessage = async (message) => {
    report("message", { type: message.type, qos: message.qos, text: message.text });
    if (message.text === "fail" && !hasFailed) {
      hasFailed = true;
      throw new Error("asked to fail");
    }
    if (message.text === "ask") await send({ tag: "ask", type: 9, text: "asked", qos: 1 });
    return `re:${message.text}`;
  };
}

function carryOut(order) {
  const verbs = {
    create,
    send,
    connect: () => client.connect(),
    close: () => client.close(),
    when_open: () => {
      whenOpen = order.order;
    },
  };
  verbs[order.do](order);
}

const orders = createInterface({ input: process.stdin });
orders.on("line", (line) => carryOut(JSON.parse(line)));
orders.on("close", () => process.exit(0));
