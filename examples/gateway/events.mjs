// A chat room behind the gateway (docs/gateway.md): node events.mjs PORT SECRET
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const [port, secret] = process.argv.slice(2);

function isGenuine(headers, body) {
  const stamp = headers["x-rainbow-timestamp"] ?? "";
  const signature = "sha256=" + createHmac("sha256", secret).update(stamp + ".").update(body).digest("hex");
  const [ours, theirs] = [signature, headers["x-rainbow-signature"] ?? ""].map((text) => Buffer.from(text));
  const isFresh = Math.abs(Date.now() / 1000 - Number(stamp)) < 60;
  return isFresh && ours.length === theirs.length && timingSafeEqual(ours, theirs);
}

const toRoom = (message) => ({ actions: [{ fn: "sendToGroup", args: { group: "room", message } }] });

function answer({ event, query, uid, message = "(bytes)" }) {
  if (event === "connect") {
    if (!query.name) return { allow: false, reason: "say who you are: ?name=…" };
    return { uid: query.name, groups: ["room"], messages: [`welcome, ${query.name}`] };
  }
  return toRoom(event === "message" ? `${uid}: ${message}` : `${uid} left`);
}

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (!isGenuine(request.headers, body)) return response.writeHead(401).end();
  response.end(JSON.stringify(answer(JSON.parse(body))));
}).listen(Number(port), "127.0.0.1");
