// The chat on the demo page. Everything people say is put into the page as text, never as markup.

import { RainbowClient } from "./client.js";

const TYPE_CHAT = 1;
const TYPE_NOTE = 2;
const MESSAGES_MAX = 300;
const PACKETS_MAX = 300;
const ANIMALS = ["Otter", "Heron", "Lynx", "Robin", "Badger", "Dolphin", "Falcon", "Hedgehog", "Marten", "Swift"];

const find = (id) => document.getElementById(id);
const messages = find("messages");
const packets = find("packets");
let client = null;
let countdown = null;
const own = []; // what we have said and not seen yet: {text, qos}

// ---- building blocks ----

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Adds a line; keeps the end in sight unless the reader has scrolled back. */
function append(list, node, max) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(node);
  while (list.childElementCount > max) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function clock() {
  return new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** A colour for a name, the same everywhere. */
function hue(name) {
  let sum = 7;
  for (const char of name) sum = (sum * 33 + char.codePointAt(0)) % 65521;
  return (sum * 137) % 360;
}

// ---- what is shown ----

function parse(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value?.from === "string" && typeof value?.text === "string") return value;
  } catch {
    // Not ours: show it as it is.
  }
  return { from: "someone", text };
}

function showMessage({ type, text, qos }) {
  const said = parse(text);
  if (type === TYPE_NOTE) {
    append(messages, element("li", "note", `${said.from} ${said.text}`), MESSAGES_MAX);
  } else {
    const mine = said.from === find("name").value;
    const item = element("li", mine ? "message mine" : "message");
    const head = element("div", "head");
    const name = element("span", "from", said.from);
    name.style.setProperty("--hue", hue(said.from));
    head.append(name, element("time", "", clock()), element("span", "", mine ? sentWith(said.text) : `received with QoS ${qos}`));
    item.append(head, element("div", "text", said.text));
    append(messages, item, MESSAGES_MAX);
  }
  // Travels back with the ACK or REC: /send/ returns the last answer as "data".
  return qos > 0 ? `seen by ${find("name").value}` : undefined;
}

/** Our own message comes back through the lobby like anybody's; what it says of itself is how it was sent. */
function sentWith(text) {
  const at = own.findIndex((message) => message.text === text);
  return at < 0 ? "sent elsewhere" : `sent with QoS ${own.splice(0, at + 1).pop().qos}`;
}

const MEANING = {
  SEND: "a message",
  ACK: "got it",
  REC: "got it, remembering the id",
  REL: "forget the id",
  COM: "forgotten",
};

function showPacket(leaving, packet, bytes) {
  const item = element("li", leaving ? "out" : "in");
  const details = [];
  if (packet.name === "SEND") details.push(`QoS ${packet.qos}`, `type ${packet.type}`);
  if (packet.dup) details.push("DUP");
  if (packet.id) details.push(`id ${packet.id}`);
  const hex = [...bytes.subarray(0, 12)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  item.append(
    element("span", "arrow", leaving ? "→" : "←"),
    element("span", "visually-hidden", leaving ? "to the server: " : "from the server: "),
    element("b", "", packet.name),
    element("span", "details", details.join(" · ")),
    element("span", "meaning", MEANING[packet.name]),
    element("code", "", bytes.length > 12 ? `${hex} … ${bytes.length} bytes` : hex),
  );
  append(packets, item, PACKETS_MAX);
}

function showState(state, wait) {
  clearInterval(countdown);
  const until = performance.now() + (wait ?? 0);
  const words = {
    connecting: () => "connecting …",
    open: () => "connected",
    waiting: () => `connection lost, next attempt in ${Math.max(0, Math.ceil((until - performance.now()) / 1000))} s`,
    closed: () => "not connected",
  };
  const show = () => {
    find("state-text").textContent = words[state]();
  };
  find("state").dataset.state = state;
  show();
  if (state === "waiting") countdown = setInterval(show, 500);
}

function report(text) {
  find("outcome").textContent = text;
}

// ---- what the user does ----

function join(name) {
  client?.close();
  const url = new URL("/connect/", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  client = new RainbowClient({ url: url.href, deviceId: name });
  client.onmessage = showMessage;
  client.onpacket = showPacket;
  client.onstate = showState;
  client.connect();
}

async function say(text, qos) {
  const started = performance.now();
  own.push({ text, qos });
  if (own.length > MESSAGES_MAX) own.shift();
  const confirmed = qos === 0 ? "sent, nobody confirms it" : `waiting for ${qos === 1 ? "ACK" : "REC"} …`;
  report(client.state === "open" ? `QoS ${qos}: ${confirmed}` : `QoS ${qos}: not connected, it leaves as soon as that is mended`);
  try {
    const answer = new TextDecoder().decode(await client.send(TYPE_CHAT, text, qos));
    const took = Math.round(performance.now() - started);
    if (qos === 0) report(`QoS 0: ${confirmed}`);
    else report(`QoS ${qos}: the business server answered ${answer || "nothing"} after ${took} ms`);
  } catch (error) {
    report(`QoS ${qos}: ${error.message}`);
  }
}

function rememberedName() {
  try {
    return sessionStorage.getItem("name");
  } catch {
    return null; // storage is switched off
  }
}

function rememberName(name) {
  try {
    sessionStorage.setItem("name", name);
  } catch {
    // Then it is asked again next time.
  }
}

find("who").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = find("name").value.trim();
  if (!name) return;
  find("name").value = name;
  rememberName(name);
  join(name);
});

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("text").value;
  if (!text.trim() || !client) return;
  say(text, Number(new FormData(event.target).get("qos")));
  find("text").value = "";
  find("text").focus();
});

find("unfold").addEventListener("click", ({ target }) => {
  const isFolded = find("wire").classList.toggle("folded");
  target.textContent = isFolded ? "Show" : "Hide";
  target.setAttribute("aria-expanded", String(!isFolded));
});

// While the packets are folded the list has no end to keep in sight; it does when they are shown.
let packetsHeight = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (packetsHeight === 0) packets.scrollTop = packets.scrollHeight;
  packetsHeight = contentRect.height;
}).observe(packets);

find("clear").addEventListener("click", () => packets.replaceChildren());

const guest = `${ANIMALS[Math.floor(Math.random() * ANIMALS.length)]} ${Math.floor(Math.random() * 90) + 10}`;
find("name").value = rememberedName() || guest;
rememberName(find("name").value);
join(find("name").value);
