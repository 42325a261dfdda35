#!/usr/bin/env python3
"""A chat room behind the gateway (docs/gateway.md): python3 events.py PORT SECRET"""
import hashlib, hmac, json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, SECRET = int(sys.argv[1]), sys.argv[2].encode()


def is_genuine(headers, body):
    stamp = headers.get("X-Rainbow-Timestamp", "")
    signature = "sha256=" + hmac.new(SECRET, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    is_fresh = stamp.isdigit() and abs(time.time() - int(stamp)) < 60
    return is_fresh and hmac.compare_digest(signature, headers.get("X-Rainbow-Signature", ""))


def to_room(text):
    return {"actions": [{"fn": "sendToGroup", "args": {"group": "room", "message": text}}]}


def answer(event):
    if event["event"] == "connect":
        name = event["query"].get("name")
        if not name:
            return {"allow": False, "reason": "say who you are: ?name=…"}
        return {"uid": name, "groups": ["room"], "messages": [f"welcome, {name}"]}
    if event["event"] == "message":
        return to_room(f"{event['uid']}: {event.get('message', '(bytes)')}")
    return to_room(f"{event['uid']} left")


class Events(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_ours = is_genuine(self.headers, body)
        reply = json.dumps(answer(json.loads(body)) if is_ours else {}).encode()
        self.send_response(200 if is_ours else 401)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Events).serve_forever()
