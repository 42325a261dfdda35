#!/usr/bin/env python3
"""A business server for rainbow-server with the settings of server.ini: everybody meets in the channel "lobby".

    python3 examples/business.py [PORT TOKEN GATEWAY]
"""
import hashlib, json, random, sys, time, urllib.parse, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, TOKEN, GATEWAY = sys.argv[1:] or ["8000", "change-this-token", "http://127.0.0.1:1984"]

def signature(timestamp, nonce):
    return hashlib.sha1("".join(sorted([TOKEN, timestamp, nonce])).encode()).hexdigest()

def send(channel, payload, **parameters):
    timestamp, nonce = str(int(time.time())), str(random.randint(1000, 99999))
    query = dict(parameters, channel=channel, timestamp=timestamp, nonce=nonce, signature=signature(timestamp, nonce))
    url = GATEWAY + "/send/?" + urllib.parse.urlencode(query)
    return json.load(urllib.request.urlopen(url, data=payload, timeout=30))

class Business(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536  # connections are kept open; head and body leave together

    def handle_callback(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        signed = signature(query.get("timestamp", ""), query.get("nonce", ""))
        name = self.headers.get("RAINBOWCLIENTCOOKIE", "")  # whatever was answered to /connect/
        if query.get("signature") != signed or abs(int(query["timestamp"]) - time.time()) > 60:
            return self.answer(403, b"")
        if url.path == "/connect/":  # may this client come in? Its headers and query are here
            name = urllib.parse.quote(query.get("X-DEVICEID") or self.headers.get("X-DEVICEID", "?"))
            headers = {"RAINBOWCLIENTCOOKIE": name, "RAINBOWCLIENTCHANNEL": "lobby"}
            return self.answer(200, b'{"status": "success"}', headers)
        if url.path.startswith("/message/"):  # a client says something: tell everybody, and how many have it
            sent = send("lobby", f"{name}: ".encode() + body, msgtype=url.path.split("/")[2], qos=1)
            return self.answer(200, json.dumps(sent).encode())
        self.answer(200, b"")  # /close/: the client with this identity and cookie has gone

    do_GET = do_POST = handle_callback

    def answer(self, status, body, headers={}):
        self.send_response(status)
        for header in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(PORT)), Business).serve_forever()
