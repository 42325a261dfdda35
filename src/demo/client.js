// A client of rainbow-server's binary protocol for browsers and other places with WebSocket. No dependencies.
//
//   const client = new RainbowClient({ url: "ws://host:1984/connect/", deviceId: "tablet-7" });
//   client.onmessage = ({ type, text }) => console.log(type, text);
//   client.connect();
//   const answer = await client.send(1, "hello", 2);      // type, text or Uint8Array, QoS
//
// One websocket message is one packet, integers are big-endian:
//
//   byte 0: command (4 bits) | DUP (1) | QoS (2) | 0
//   SEND (1): type u16, id u16 unless QoS is 0, payload to the end
//   ACK (2), REC (3): id u16, data to the end        REL (4), COM (5): id u16
//
//   QoS 0: SEND                     at most once
//   QoS 1: SEND, ACK                at least once
//   QoS 2: SEND, REC, REL, COM      exactly once, as long as the connection lasts
//
// Pings of the server are answered by the browser itself.

export const Command = Object.freeze({ SEND: 1, ACK: 2, REC: 3, REL: 4, COM: 5 });
const NAMES = ["?", "SEND", "ACK", "REC", "REL", "COM"];

const ID_MAX = 65534;
const EMPTY = new Uint8Array(0);
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Packet as bytes. `packet`: {command, dup, qos, type, id, payload}. */
export function encode(packet) {
  const { command, dup = false, qos = 0, type = 0, id = 0, payload = EMPTY } = packet;
  const header = [(command << 4) | (dup ? 8 : 0) | (qos << 1)];
  if (command === Command.SEND) header.push(type >> 8, type & 255);
  if (command !== Command.SEND || qos > 0) header.push(id >> 8, id & 255);
  const bytes = new Uint8Array(header.length + payload.length);
  bytes.set(header);
  bytes.set(payload, header.length);
  return bytes;
}

/** Bytes as a packet, or null if they are none. */
export function decode(bytes) {
  if (bytes.length < 3) return null;
  const command = bytes[0] >> 4;
  const word = (at) => (bytes[at] << 8) | bytes[at + 1];
  if (command < Command.SEND || command > Command.COM) return null;
  if (command !== Command.SEND) {
    return { command, name: NAMES[command], dup: false, qos: 0, type: 0, id: word(1), payload: bytes.subarray(3) };
  }
  const qos = (bytes[0] >> 1) & 3;
  const from = qos > 0 ? 5 : 3;
  if (bytes.length < from) return null;
  const id = qos > 0 ? word(3) : 0;
  return { command, name: "SEND", dup: (bytes[0] & 8) !== 0, qos, type: word(1), id, payload: bytes.subarray(from) };
}

export class RainbowClient {
  /**
   * url         the gateway's /connect/
   * deviceId    who we are, and what we run on: passed to the business server, which decides
   * clientOs
   * query       further parameters for the business server, for example a session token
   * retryAfter  ms without answer after which a packet is repeated. Longer than the business server usually takes: a
   *             repeated SEND of QoS 1 is a second message to it
   * tries       transmissions of one packet before it is given up
   */
  constructor({ url, deviceId, clientOs = "web", query = {}, retryAfter = 6000, tries = 4 }) {
    const target = new URL(url);
    const parameters = { ...query, "X-DEVICEID": deviceId, "X-CLIENT-OS": clientOs };
    for (const [name, value] of Object.entries(parameters)) target.searchParams.set(name, value);
    this.url = target.href;
    this.retryAfter = retryAfter;
    this.tries = tries;

    /** A message for us: {type, payload, text, qos}. What it returns (text or bytes) goes back with the ACK or REC. */
    this.onmessage = () => undefined;
    /** "connecting", "open", "waiting" (with the ms until the next attempt) or "closed". */
    this.onstate = () => undefined;
    /** Every packet in either direction, for logs: (true if it leaves, packet, bytes). */
    this.onpacket = () => undefined;

    this.state = "closed";
    this.socket = null;
    this.attempts = 0;
    this.lastId = 0;
    this.pending = new Map(); // our messages that are not settled, by id
    this.received = new Set(); // ids of QoS 2 messages to us that wait for their REL
    this.timer = null;
  }

  connect() {
    if (this.state !== "closed") return;
    this.attempts = 0;
    this.#open();
  }

  close() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.#change("closed");
    for (const message of [...this.pending.values()]) this.#fail(message, "closed");
  }

  /**
   * Sends a message. The promise is fulfilled with the business server's answer (bytes; empty for QoS 0), and rejected when
   * there is none: for QoS 1 after all repetitions, for QoS 2 also when the connection breaks, since the message then may
   * or may not have arrived, and repeating it on another connection could deliver it twice.
   */
  send(type, content, qos = 1) {
    const payload = typeof content === "string" ? encoder.encode(content) : content;
    if (this.state !== "open") return Promise.reject(new Error("not connected"));
    if (qos === 0) {
      this.#write({ command: Command.SEND, type, payload });
      return Promise.resolve(EMPTY);
    }
    const id = this.#nextId();
    if (id === 0) return Promise.reject(new Error("too many unanswered messages"));
    return new Promise((resolve, reject) => {
      const packet = { command: Command.SEND, qos, type, id, payload };
      const message = { id, packet, transmissions: 0, timer: null, resolve, reject };
      this.pending.set(id, message);
      this.#transmit(message);
    });
  }

  // ---- connection ----

  #open() {
    this.#change("connecting");
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      if (this.socket !== socket) return;
      this.attempts = 0;
      this.received.clear(); // ids belong to one connection
      this.#change("open");
      this.#resume();
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket || typeof event.data === "string") return;
      const bytes = new Uint8Array(event.data);
      const packet = decode(bytes);
      if (packet) this.#receive(packet, bytes);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.#interrupt();
      this.#reconnect();
    };
  }

  /** Waits 0.5 s, 1 s, 2 s … 15 s, each varied by half, so that many clients do not come back at the same moment. */
  #reconnect() {
    const wait = Math.min(15000, 500 * 2 ** this.attempts) * (0.5 + Math.random());
    this.attempts += 1;
    this.#change("waiting", wait);
    this.timer = setTimeout(() => this.#open(), wait);
  }

  #change(state, wait) {
    this.state = state;
    this.onstate(state, wait);
  }

  // ---- our messages ----

  #nextId() {
    if (this.pending.size >= ID_MAX) return 0;
    do this.lastId = this.lastId >= ID_MAX ? 1 : this.lastId + 1;
    while (this.pending.has(this.lastId));
    return this.lastId;
  }

  /** Sends the packet a message is at (its SEND, or its REL), and once more with DUP if no answer comes. */
  #transmit(message) {
    if (message.transmissions >= this.tries) return this.#fail(message, "no answer");
    const dup = message.transmissions > 0 && message.packet.command === Command.SEND;
    message.transmissions += 1;
    this.#write({ ...message.packet, dup });
    message.timer = setTimeout(() => this.#transmit(message), this.retryAfter);
  }

  #settle(message) {
    clearTimeout(message.timer);
    this.pending.delete(message.id);
  }

  #fail(message, reason) {
    this.#settle(message);
    message.reject(new Error(reason));
  }

  /** The connection is gone. QoS 1 waits for the next one; what QoS 2 promises cannot be kept beyond it. */
  #interrupt() {
    for (const message of [...this.pending.values()]) {
      clearTimeout(message.timer);
      if (message.packet.qos !== 1) this.#fail(message, "connection lost, it is not known whether the message arrived");
    }
  }

  #resume() {
    for (const message of [...this.pending.values()]) this.#transmit(message);
  }

  // ---- what arrives ----

  #receive(packet, bytes) {
    this.onpacket(false, packet, bytes);
    const message = this.pending.get(packet.id);
    switch (packet.command) {
      case Command.SEND:
        return this.#deliver(packet);
      case Command.ACK:
        if (message?.packet.qos === 1) {
          this.#settle(message);
          message.resolve(packet.payload);
        }
        return;
      case Command.REC:
        // It has arrived. REL lets the server forget the id; a REC that comes again gets it again.
        if (message?.packet.qos === 2) {
          clearTimeout(message.timer);
          message.resolve(packet.payload);
          message.packet = { command: Command.REL, id: packet.id };
          message.transmissions = 0;
          this.#transmit(message);
        } else if (message?.packet.command === Command.REL || !message) {
          this.#write({ command: Command.REL, id: packet.id });
        }
        return;
      case Command.REL:
        this.received.delete(packet.id);
        return this.#write({ command: Command.COM, id: packet.id });
      case Command.COM:
        if (message?.packet.command === Command.REL) this.#settle(message);
    }
  }

  #deliver(packet) {
    const { type, payload, qos, id, dup } = packet;
    const isRepeat = qos === 2 && dup && this.received.has(id);
    if (qos === 2) this.received.add(id);
    let data = EMPTY;
    if (!isRepeat) {
      const reply = this.onmessage({ type, payload, qos, text: decoder.decode(payload) });
      if (reply !== undefined) data = typeof reply === "string" ? encoder.encode(reply) : reply;
    }
    if (qos === 1) this.#write({ command: Command.ACK, id, payload: data });
    if (qos === 2) this.#write({ command: Command.REC, id, payload: data });
  }

  #write(packet) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const bytes = encode(packet);
    this.socket.send(bytes);
    this.onpacket(true, decode(bytes), bytes);
  }
}
