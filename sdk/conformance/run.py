#!/usr/bin/env python3
"""Plays the sessions of sessions.json against a client. Exit status 0 when all that ran have passed.

    run.py [--only TEXT] [--without ABILITY] [--verbose] -- DRIVER ...

Steps of a session, each an object with one key:
  order    an order for the driver                  accept   takes the next connection, answers 101; checks `query`
  expect   the next packet from the client          refuse   takes the next connection, answers `status`, `headers`
  write    a packet for the client                  event    the next event of its kind has (at least) these values
  raw      bytes (hex) as a websocket message       close    close frame with `code`, `reason`; then the end
  ping     a websocket ping; its pong must come     drop     ends the connection without a close frame
  pieces   a packet as a fragmented message         ended    the client ends the connection
  quiet    this many ms nothing arrives at all: no packet, no connection, no event
"""

import argparse
import base64
import hashlib
import json
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PATIENCE = 20.0
COMMANDS = {"SEND": 1, "ACK": 2, "REC": 3, "REL": 4, "COM": 5}
NAMES = {number: name for name, number in COMMANDS.items()}


class Failed(Exception):
    pass


def encode(packet):
    command = COMMANDS[packet["packet"]]
    qos, text = packet.get("qos", 0), packet.get("text", "")
    payload = text.encode() * packet.get("times", 1)
    head = bytes([command << 4 | (8 if packet.get("dup") else 0) | qos << 1])
    if command == 1:
        head += packet.get("type", 0).to_bytes(2, "big")
    if command != 1 or qos:
        head += packet.get("id", 0).to_bytes(2, "big")
    return head + payload


def decode(data):
    if len(data) < 3 or data[0] >> 4 not in NAMES:
        raise Failed(f"the client sent no packet: {data[:40].hex()}")
    packet = {"packet": NAMES[data[0] >> 4]}
    if packet["packet"] != "SEND":
        if data[0] & 15:
            raise Failed(f"option bits in {packet['packet']}: {data[0]:#x}")
        return {**packet, "id": int.from_bytes(data[1:3], "big"), "text": data[3:].decode()}
    packet.update(type=int.from_bytes(data[1:3], "big"), qos=data[0] >> 1 & 3, dup=bool(data[0] & 8))
    if data[0] & 1:
        raise Failed("bit 0 is set")
    if packet["qos"]:
        packet["id"], data = int.from_bytes(data[3:5], "big"), data[2:]
    packet["text"] = data[3:].decode()
    return packet


class Connection:
    """The server's end of a websocket."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""
        sock.settimeout(PATIENCE)
        head = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.target = head[0].split(" ")[1]
        self.headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}

    def read(self, count):
        while len(self.buffer) < count:
            got = self.sock.recv(65536)
            if not got:
                raise EOFError
            self.buffer += got
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def until(self, mark):
        while mark not in self.buffer:
            got = self.sock.recv(65536)
            if not got:
                raise EOFError
            self.buffer += got
        taken, self.buffer = self.buffer.split(mark, 1)
        return taken

    def upgrade(self):
        accept = base64.b64encode(hashlib.sha1(self.headers["sec-websocket-key"].encode() + GUID).digest())
        self.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")

    def refuse(self, status, headers):
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.sock.sendall(f"HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n{lines}\r\n".encode())
        self.sock.close()

    def frame(self, opcode, payload, final=True):
        size = len(payload)
        length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 \
            else b"\x7f" + size.to_bytes(8, "big")
        self.sock.sendall(bytes([(128 if final else 0) | opcode]) + length + payload)

    def next_frame(self):
        """(opcode, payload) of the next frame; the client's must be whole, masked and binary."""
        first, second = self.read(2)
        if not second & 128:
            raise Failed("a frame of the client is not masked")
        length = second & 127
        if length > 125:
            length = int.from_bytes(self.read(2 if length == 126 else 8), "big")
        mask = self.read(4)
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.read(length)))
        return first & 15, data

    def waiting(self, seconds):
        return bool(self.buffer) or bool(select.select([self.sock], [], [], seconds)[0])


class Driver:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.events = {kind: queue.Queue() for kind in ("state", "message", "settled", "failed")}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            event = json.loads(line)
            self.events[event["event"]].put(event)

    def order(self, order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def event(self, kind):
        try:
            return self.events[kind].get(timeout=PATIENCE)
        except queue.Empty:
            raise Failed(f"no event {kind}") from None

    def pending(self):
        return {kind: events.qsize() for kind, events in self.events.items() if events.qsize()}

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def compare(wanted, got):
    for key, value in wanted.items():
        if key in ("times", "event"):
            continue
        if key.endswith("_min"):
            if not got.get(key[:-4], -1) >= value:
                raise Failed(f"{key[:-4]} is {got.get(key[:-4])}, wanted at least {value}")
            continue
        if key == "text":
            value = value * wanted.get("times", 1)
        if got.get(key) != value:
            raise Failed(f"{key} is {str(got.get(key))[:60]!r}, wanted {str(value)[:60]!r} in {str(got)[:200]}")


class Session:
    def __init__(self, script, command):
        self.script, self.connection = script, None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.driver = Driver(command)

    def play(self):
        port = self.listener.getsockname()[1]
        options = {"device_id": "device", "client_os": "test", "retry_after_ms": 400, "tries": 3, "reconnect_min_ms": 20,
                   "reconnect_max_ms": 100, **self.script.get("options", {})}
        self.driver.order({"do": "create", "url": f"ws://127.0.0.1:{port}/connect/", "options": options})
        try:
            for number, step in enumerate(self.script["steps"]):
                (verb, value), = step.items()
                try:
                    getattr(self, "do_" + verb)(value)
                except (Failed, EOFError, OSError) as error:
                    raise Failed(f"step {number} {json.dumps(step)[:150]}: {error or type(error).__name__}") from None
        finally:
            self.driver.end()
            self.listener.close()
            if self.connection:
                self.connection.sock.close()

    def do_order(self, order):
        times = order.get("times", 1)
        self.driver.order({**order, "text": order["text"] * times} if times > 1 else order)

    def take(self):
        sock, _ = self.listener.accept()
        return Connection(sock)

    def do_accept(self, wanted):
        self.connection = self.take()
        got = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.connection.target).query, keep_blank_values=True))
        compare(wanted.get("query", {}), got)
        if "sec-websocket-protocol" in self.connection.headers:
            raise Failed("a subprotocol is offered: the gateway accepts none, so browsers would close")
        self.connection.upgrade()

    def do_refuse(self, value):
        self.take().refuse(value["status"], value.get("headers", {}))

    def do_expect(self, wanted):
        while True:
            opcode, data = self.connection.next_frame()
            if opcode == 9:
                self.connection.frame(10, data)
                continue
            if opcode != 2:
                raise Failed(f"a frame with opcode {opcode} instead of a packet")
            return compare(wanted, decode(data))

    def do_write(self, packet):
        self.connection.frame(2, encode(packet))

    def do_raw(self, value):
        self.connection.frame(value.get("opcode", 2), bytes.fromhex(value["hex"]))

    def do_pieces(self, packet):
        data = encode(packet)
        cut = len(data) // 3
        self.connection.frame(2, data[:cut], final=False)
        self.connection.frame(9, b"between")
        self.connection.frame(0, data[cut:2 * cut], final=False)
        self.connection.frame(0, data[2 * cut:])
        self.pong(b"between")

    def do_ping(self, text):
        self.connection.frame(9, text.encode())
        self.pong(text.encode())

    def pong(self, payload):
        if self.connection.next_frame() != (10, payload):
            raise Failed("no pong")

    def do_event(self, wanted):
        compare(wanted, self.driver.event(wanted["event"]))

    def do_close(self, value):
        code = value.get("code")
        payload = b"" if code is None else code.to_bytes(2, "big") + value.get("reason", "").encode()
        self.connection.frame(8, payload)
        try:
            while self.connection.next_frame()[0] != 8:
                pass
        except (EOFError, OSError):
            pass
        self.connection.sock.close()
        self.connection = None

    def do_drop(self, _):
        self.connection.sock.close()
        self.connection = None

    def do_ended(self, _):
        try:
            while self.connection.next_frame()[0] != 8:
                pass
        except (EOFError, OSError):
            pass
        self.connection.sock.close()
        self.connection = None

    def do_quiet(self, ms):
        until = time.monotonic() + ms / 1000
        while time.monotonic() < until:
            sockets = [self.listener] + ([self.connection.sock] if self.connection else [])
            if (self.connection and self.connection.buffer) or select.select(sockets, [], [], 0.02)[0]:
                raise Failed("the client was not quiet")
            if self.driver.pending():
                raise Failed(f"events: {self.driver.pending()}")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "sessions.json"), encoding="utf-8") as file:
        sessions = [session for session in json.load(file) if options.only in session["name"]]
    results = {"passed": 0, "failed": 0, "skipped": 0}
    lock, todo = threading.Lock(), queue.Queue()
    for session in sessions:
        todo.put(session)

    def work():
        while True:
            try:
                session = todo.get_nowait()
            except queue.Empty:
                return
            if session.get("needs") in options.without:
                outcome, word = "skipped", f"skipped (needs {session['needs']})"
            else:
                try:
                    Session(session, options.command).play()
                    outcome, word = "passed", "ok"
                except Exception as error:
                    outcome, word = "failed", f"FAILED: {error or type(error).__name__}"
            with lock:
                results[outcome] += 1
                print(f"session {session['name']} ... {word}", flush=True)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**results))
    return 0 if results["failed"] == 0 and results["passed"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
