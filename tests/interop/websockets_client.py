"""Drives a running rainbow-server with the independent library `websockets`.

Usage: websockets_client.py PORT TOKEN. The business server puts every client into the channel `interop` and answers every
message with `ok`. Prints one line per check; exits with 0 when all pass, with 1 and the failing check otherwise.
"""

import hashlib
import json
import random
import struct
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PORT, TOKEN = int(sys.argv[1]), sys.argv[2]
WITHIN = 8
HEADERS = {"X-DEVICEID": "interop", "X-CLIENT-OS": "python"}


def open_client(**options):
    options = {"open_timeout": WITHIN, "close_timeout": WITHIN, "additional_headers": HEADERS, **options}
    return connect(f"ws://127.0.0.1:{PORT}/connect/", **options)


def send_packet(qos, kind, message_id, payload):
    head = struct.pack("!BH", 0x10 | qos << 1, kind)
    return head + (struct.pack("!H", message_id) if qos else b"") + payload


def id_packet(command, message_id, data=b""):
    return struct.pack("!BH", command << 4, message_id) + data


def push(body, qos):
    """A signed /send/ to the channel, as JSON."""
    stamp, nonce = str(int(time.time())), str(random.randint(1000, 99999))
    signature = hashlib.sha1("".join(sorted([TOKEN, stamp, nonce])).encode()).hexdigest()
    query = {"channel": "interop", "qos": qos, "timestamp": stamp, "nonce": nonce, "signature": signature}
    url = f"http://127.0.0.1:{PORT}/send/?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=20) as answer:
        return json.load(answer)


class Push(threading.Thread):
    """A push in the background."""

    def __init__(self, body, qos):
        super().__init__(daemon=True)
        self.body, self.qos, self.answer = body, qos, None
        self.start()

    def run(self):
        self.answer = push(self.body, self.qos)

    def result(self):
        self.join(WITHIN)
        return self.answer


def expect(client, wanted):
    got = client.recv(timeout=WITHIN)
    assert got == wanted, f"expected {wanted!r:.80}, got {got!r:.80}"


def check_handshake():
    with open_client(subprotocols=["chat"], origin="http://elsewhere.example") as client:
        assert client.subprotocol is None, client.subprotocol
        assert not client.protocol.extensions, client.protocol.extensions


def check_up_qos_0_and_1():
    with open_client() as client:
        client.send(send_packet(0, 7, 0, b"no answer"))
        client.send(send_packet(1, 7, 1, b"hello"))
        expect(client, id_packet(2, 1, b"ok"))


def check_up_qos_2():
    with open_client() as client:
        client.send(send_packet(2, 7, 5, b"hello"))
        expect(client, id_packet(3, 5, b"ok"))
        client.send(id_packet(4, 5))
        expect(client, id_packet(5, 5))


def check_down_qos_0():
    with open_client() as client:
        assert push(b"to all", 0) == {"status": 0}
        expect(client, send_packet(0, 1, 0, b"to all"))


def check_down_qos_1():
    with open_client() as client:
        call = Push(b"question", 1)
        expect(client, send_packet(1, 1, 1, b"question"))
        client.send(id_packet(2, 1, b"answer"))
        assert call.result() == {"status": 0, "connections": 1, "data": "answer"}, call.answer


def check_down_qos_2():
    with open_client() as client:
        call = Push(b"question", 2)
        expect(client, send_packet(2, 1, 1, b"question"))
        client.send(id_packet(3, 1, b"answer"))
        expect(client, id_packet(4, 1))
        client.send(id_packet(5, 1))
        assert call.result() == {"status": 0, "connections": 1, "data": "answer"}, call.answer


def check_fragments():
    with open_client() as client:
        whole = send_packet(1, 7, 9, bytes(range(256)) * 300)
        client.send(whole[i : i + 1000] for i in range(0, len(whole), 1000))
        expect(client, id_packet(2, 9, b"ok"))
        client.send(iter([whole[:1], b"", whole[1:3], whole[3:]]))
        expect(client, id_packet(2, 9, b"ok"))


def check_text():
    with open_client() as client:
        client.send("\x12\x00\x07\x00\x02text \u4f60")
        expect(client, id_packet(2, 2, b"ok"))


def check_sizes():
    with open_client(max_size=None) as client:
        for size in (0, 1, 120, 121, 122, 123, 124, 125, 126, 127, 65_530, 65_531, 65_532, 65_533, 65_536, 1_000_000):
            body = b"s" * size
            client.send(send_packet(1, 7, 1, body))
            expect(client, id_packet(2, 1, b"ok"))
            assert push(body, 0) == {"status": 0}
            expect(client, send_packet(0, 1, 0, body))


def check_ping():
    with open_client() as client:
        for payload in (b"", b"x", b"p" * 125):
            assert client.ping(payload).wait(WITHIN), f"no pong to {payload!r}"
        client.send(iter([b"\x12\x00\x07", b"\x00\x03", b"ping in between"]))
        expect(client, id_packet(2, 3, b"ok"))


def check_close():
    for code in (1000, 1001, 3000, 4999):
        with open_client() as client:
            client.close(code, "reason")
            assert client.close_code == code, client.close_code
            received = client.protocol.close_rcvd
            assert received is not None and received.code == code, received


def check_refused_frame():
    with open_client() as client:
        client.socket.sendall(b"\xf2\x81\x00\x00\x00\x00x")
        try:
            while True:
                client.recv(timeout=WITHIN)
        except ConnectionClosed:
            pass


def check_many_messages():
    with open_client() as client:
        for i in range(500):
            client.send(send_packet(1, 7, i, b"m"))
        ids = {client.recv(timeout=WITHIN)[1:3] for _ in range(500)}
        assert ids == {struct.pack("!H", i) for i in range(500)}, len(ids)


def main():
    for name, check in [(n, c) for n, c in globals().items() if n.startswith("check_")]:
        try:
            check()
        except Exception:
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
            return 1
        print(f"ok {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
