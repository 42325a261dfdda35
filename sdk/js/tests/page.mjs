// The life of a page, with a window and sockets that only remember: node sdk/js/tests/page.mjs

import assert from "node:assert/strict";

const sockets = [];
globalThis.window = new EventTarget();
globalThis.WebSocket = class {
  static OPEN = 1;
  readyState = 0;
  sent = [];
  constructor() {
    sockets.push(this);
  }
  open() {
    this.readyState = 1;
    this.onopen();
  }
  send(bytes) {
    this.sent.push(bytes);
  }
  close() {
    this.readyState = 3;
  }
};
const { RainbowClient } = await import("../rainbow.js");
const tell = (name) => window.dispatchEvent(new Event(name));

const client = new RainbowClient({ url: "ws://127.0.0.1/connect/", deviceId: "d" });
const states = [];
client.onstate = (state) => states.push(state);
tell("pagehide");
tell("pageshow");
assert.equal(sockets.length, 0, "a client that was not connected stays so");

client.connect();
sockets[0].open();
const [once, twice] = [client.send(1, "a", 1), client.send(1, "b", 2)];
tell("pagehide");
assert.equal(sockets[0].readyState, 3, "nobody is a member from the back/forward cache");
assert.equal((await twice.catch((error) => error)).code, "connection_lost");
assert.equal(sockets.length, 1);
tell("pageshow");
sockets[1].open();
assert.equal(sockets[1].sent.length, 1, "what QoS 1 promises goes on");
sockets[1].onmessage({ data: new Uint8Array([0x20, 0, 1, 0x41]).buffer });
assert.equal(new TextDecoder().decode(await once), "A");
assert.deepEqual(states, ["connecting", "open", "waiting", "connecting", "open"]);

client.close();
tell("pagehide");
tell("pageshow");
assert.equal(sockets.length, 2, "a closed client does not come back with the page");
console.log("page: ok");
process.exit(0);
