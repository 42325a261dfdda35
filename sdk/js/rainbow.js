// A client of rainbow-server's binary protocol for browsers, and for other places with WebSocket. No dependencies.
//
//   const client = new RainbowClient({ url: "ws://host:1984/connect/", deviceId: "tablet-7" });
//   client.onmessage = ({ type, text }) => console.log(type, text);
//   client.connect();
//   const answer = await client.send(1, "hello", 2);      // type, text or Uint8Array, QoS
//
// What it does on the wire is docs/client.md; sdk/conformance plays its sessions against it. Callbacks may call any method.

export const Command = Object.freeze({ SEND: 1, ACK: 2, REC: 3, REL: 4, COM: 5 });
const NAMES = ["?", "SEND", "ACK", "REC", "REL", "COM"];

const ID_MAX = 65534;
const DONE_MAX = 1024; // ids of handled messages that are remembered, so that a repetition is not handled twice
const RECONNECT_AFTER_MAX = 3600000;
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

/** `code`: "no_answer", "connection_lost" (QoS 2: whether it arrived is unknown), "queue_full", "closed". */
export class RainbowError extends Error {
  constructor(code, text) {
    super(text);
    this.name = "RainbowError";
    this.code = code;
  }
}

export class RainbowClient {
  /**
   * url           the gateway's /connect/
   * deviceId      who we are, and what we run on: passed to the backend, which decides
   * clientOs
   * query         further parameters for the backend, for example a session token
   * retryAfter    ms without answer after which a packet is repeated. Longer than the backend usually takes: a repeated SEND
   *               of QoS 1 is a second message to it
   * tries         transmissions of one packet before it is given up
   * queueMax      messages that wait for a connection or an answer
   * reconnectMin  ms before the first attempt after an end, doubled with each failure up to reconnectMax, varied by half
   * reconnectMax
   */
  constructor(options) {
    const { url, deviceId, clientOs = "web", query = {} } = options;
    const { retryAfter = 6000, tries = 4, queueMax = 1000, reconnectMin = 500, reconnectMax = 15000 } = options;
    const target = new URL(url);
    const parameters = { ...query, "X-DEVICEID": deviceId, "X-CLIENT-OS": clientOs };
    for (const [name, value] of Object.entries(parameters)) target.searchParams.set(name, value);
    this.url = target.href;
    Object.assign(this, { retryAfter, tries, queueMax, reconnectMin, reconnectMax });

    /**
     * A message for us: {type, payload, text, qos}. What it returns (text, bytes, or a promise of them) goes back with the
     * ACK or REC. When it throws, the message is not acknowledged and comes again.
     */
    this.onmessage = () => undefined;
    /** "connecting", "open", "waiting" (with the ms until the next attempt) or "closed". */
    this.onstate = () => undefined;
    /** Every packet in either direction, for logs: (true if it leaves, packet, bytes). */
    this.onpacket = () => undefined;

    this.state = "closed";
    this.socket = null;
    this.attempts = 0;
    this.lastId = 0;
    this.waiting = []; // our messages that wait for a connection
    this.pending = new Map(); // those that are not settled, by id
    this.received = new Map(); // ids of messages to us → the answer given, undefined while they are handled
    this.timer = null;
    this.turn = 0; // of connect and close: what an older one has begun ends when it sees a newer one
    this.#followPage();
  }

  connect() {
    if (this.state !== "closed") return;
    this.attempts = 0;
    this.#open(++this.turn);
  }

  close() {
    this.turn += 1;
    clearTimeout(this.timer);
    this.#drop();
    const messages = [...this.pending.values(), ...this.waiting];
    this.waiting = [];
    if (this.state !== "closed") this.#change("closed");
    for (const message of messages) this.#fail(message, "closed", "the client was closed");
  }

  /**
   * Sends a message, as soon as there is a connection. The promise is fulfilled with the backend's answer (bytes; empty for
   * QoS 0, once it is written), and rejected with a RainbowError when there is none: for QoS 1 after all repetitions, for
   * QoS 2 also when the connection breaks, since repeating it on another connection could deliver it twice.
   */
  send(type, content, qos = 1) {
    const payload = typeof content === "string" ? encoder.encode(content) : content;
    return new Promise((resolve, reject) => {
      if (this.waiting.length + this.pending.size >= Math.min(this.queueMax, ID_MAX)) {
        return reject(new RainbowError("queue_full", "too many messages wait"));
      }
      const message = { id: 0, type, qos, payload, released: false, transmissions: 0, timer: null, resolve, reject };
      if (this.state === "open") this.#first(message);
      else this.waiting.push(message);
    });
  }

  // ---- connection ----

  #open(turn) {
    this.#change("connecting");
    if (this.turn !== turn) return;
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      if (this.socket !== socket) return;
      this.attempts = 0;
      this.received.clear(); // ids belong to one connection
      this.state = "open";
      this.#resume(); // before anybody is told: what the callback sends comes after, and once
      this.onstate("open");
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket || typeof event.data === "string") return;
      const bytes = new Uint8Array(event.data);
      const packet = decode(bytes);
      if (packet) this.#receive(packet, bytes);
    };
    const onend = ({ code, reason }) => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.#interrupt();
      this.#reconnect(code === 1012 ? /\breconnect_after=(\d{1,10})\b/.exec(reason) : null);
    };
    socket.onclose = onend;
    // Some implementations end a refused handshake without a close event. Where there is one, it comes first.
    socket.onerror = () => setTimeout(onend, 0, { code: 1006 });
  }

  /** `advice`: a server that restarts spreads its clients over time, and says when ours is. */
  #reconnect(advice) {
    const turn = this.turn;
    const usual = Math.min(this.reconnectMax, this.reconnectMin * 2 ** this.attempts) * (0.5 + Math.random());
    const wait = advice ? Math.min(Number(advice[1]), RECONNECT_AFTER_MAX) : usual;
    this.attempts = Math.min(this.attempts + 1, 16);
    this.#change("waiting", wait);
    if (this.turn === turn) this.timer = setTimeout(() => this.#open(turn), wait);
  }

  #drop() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  /** A page in the back/forward cache is frozen: its connection would be a member that never answers. */
  #followPage() {
    if (typeof window === "undefined" || !window.addEventListener) return;
    let isAway = false;
    window.addEventListener("pagehide", () => {
      if (this.state === "closed") return;
      isAway = true;
      clearTimeout(this.timer);
      this.#drop();
      this.#interrupt();
      this.#change("waiting");
    });
    window.addEventListener("pageshow", () => {
      if (isAway && this.state === "waiting") this.#open(this.turn);
      isAway = false;
    });
  }

  #change(state, wait) {
    this.state = state;
    this.onstate(state, wait);
  }

  // ---- our messages ----

  #first(message) {
    if (message.qos === 0) {
      this.#write({ command: Command.SEND, type: message.type, payload: message.payload });
      return message.resolve(EMPTY);
    }
    do this.lastId = this.lastId >= ID_MAX ? 1 : this.lastId + 1;
    while (this.pending.has(this.lastId));
    message.id = this.lastId;
    this.pending.set(message.id, message);
    this.#transmit(message);
  }

  /** Sends the packet a message is at (its SEND, or its REL), and again if no answer comes. */
  #transmit(message) {
    const { id, type, qos, payload, released, transmissions } = message;
    if (transmissions >= this.tries) return this.#fail(message, "no_answer", "no answer");
    message.transmissions += 1;
    message.timer = setTimeout(() => this.#transmit(message), this.retryAfter);
    const send = { command: Command.SEND, dup: transmissions > 0, qos, type, id, payload };
    this.#write(released ? { command: Command.REL, id } : send);
  }

  #settle(message) {
    clearTimeout(message.timer);
    if (this.pending.get(message.id) === message) this.pending.delete(message.id);
  }

  #fail(message, code, text) {
    this.#settle(message);
    message.reject(new RainbowError(code, text));
  }

  /** The connection is gone. QoS 1 waits for the next one; what QoS 2 promises cannot be kept beyond it. */
  #interrupt() {
    for (const message of [...this.pending.values()]) {
      clearTimeout(message.timer);
      if (message.qos === 2) {
        this.#fail(message, "connection_lost", "connection lost, it is not known whether the message arrived");
      }
    }
  }

  #resume() {
    const waiting = this.waiting;
    this.waiting = [];
    for (const message of [...this.pending.values()]) this.#transmit(message);
    for (const message of waiting) this.#first(message);
  }

  // ---- what arrives ----

  #receive(packet, bytes) {
    this.onpacket(false, packet, bytes);
    const message = this.pending.get(packet.id);
    switch (packet.command) {
      case Command.SEND:
        return void this.#deliver(packet);
      case Command.ACK:
        if (message?.qos === 1) {
          this.#settle(message);
          message.resolve(packet.payload);
        }
        return;
      case Command.REC:
        // It has arrived. REL lets the server forget the id; a REC that comes again gets it again.
        if (message?.qos === 2 && !message.released) {
          clearTimeout(message.timer);
          message.resolve(packet.payload);
          message.released = true;
          message.transmissions = 0;
          this.#transmit(message);
        } else if (!message || message.released) {
          this.#write({ command: Command.REL, id: packet.id });
        }
        return;
      case Command.REL:
        this.received.delete(packet.id);
        return this.#write({ command: Command.COM, id: packet.id });
      case Command.COM:
        if (message?.released) this.#settle(message);
    }
  }

  async #deliver(packet) {
    const { type, payload, qos, id, dup } = packet;
    const { received, socket } = this;
    if (qos > 0 && dup && received.has(id)) {
      const answer = received.get(id);
      if (answer) this.#acknowledge(packet, answer); // else it is being handled, and will be
      return;
    }
    if (qos > 0) received.set(id, undefined);
    let answer;
    try {
      answer = this.onmessage({ type, payload, qos, text: decoder.decode(payload) });
      if (typeof answer?.then === "function") answer = await answer;
    } catch (error) {
      received.delete(id);
      console.error("onmessage failed; a message of QoS 1 or 2 will come again", error);
      return;
    }
    if (qos === 0 || this.socket !== socket) return;
    const data = answer === undefined || answer === null ? EMPTY : typeof answer === "string" ? encoder.encode(answer) : answer;
    if (received.delete(id)) received.set(id, data); // the latest comes last
    this.#acknowledge(packet, data);
    while (received.size > DONE_MAX) received.delete(received.keys().next().value);
  }

  #acknowledge({ qos, id }, payload) {
    this.#write({ command: qos === 1 ? Command.ACK : Command.REC, id, payload });
  }

  #write(packet) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const bytes = encode(packet);
    this.socket.send(bytes);
    this.onpacket(true, decode(bytes), bytes);
  }
}
