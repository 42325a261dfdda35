"""Client, gateway and backend together: end_to_end.py GATEWAY_BINARY. Prints what it saw; exit status 0 if all is right."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from rainbow_sdk import Callbacks, ClientOptions, Gateway, GatewayError, RainbowClient, Refused  # noqa: E402
from rainbow_sdk.wsgi import callbacks_app  # noqa: E402

TOKEN = "token-ü"
CHANNEL = "grün 你好"


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Backend:
    def __init__(self, gateway_port, scheme):
        self.gateway = Gateway(f"http://127.0.0.1:{gateway_port}", TOKEN, scheme)
        self.identities, self.gone = {}, []
        callbacks = Callbacks(TOKEN, schemes=[scheme])
        callbacks.connect(self.admit)
        callbacks.message(self.said)
        callbacks.close(lambda client: self.gone.append(client.cookie))
        self.server = make_server("127.0.0.1", 0, callbacks_app(callbacks), server_class=Server, handler_class=Quiet)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def admit(self, client):
        self.identities[client.device_id] = client.identity
        client.set_cookie(client.device_id)
        client.subscribe(CHANNEL)
        return client.query.get("token") == "yes"

    def said(self, client):
        sent = self.gateway.send(CHANNEL, f"{client.cookie}: {client.text}", type=client.type, qos=1)
        return f"{sent.connections} {sent.data}"


async def play(port, backend):
    heard = []

    def hear(message):
        heard.append((message.type, message.text))
        return "seen"

    url = f"ws://127.0.0.1:{port}/connect/"
    options = ClientOptions("dévice", query={"token": "yes"})
    async with RainbowClient(url, options, on_message=hear) as client:
        assert await client.send(7, "hällo", 1) == b"1 seen"
        assert await client.send(8, "zwei", 2) == b"1 seen"
        assert heard == [(7, "dévice: hällo"), (8, "dévice: zwei")], heard
        loop = asyncio.get_running_loop()
        call = lambda *args, **more: loop.run_in_executor(None, lambda: args[0](*args[1:], **more))  # noqa: E731
        gateway, identity = backend.gateway, backend.identities["dévice"]
        assert await call(gateway.subscribe, identity, "news")
        assert not await call(gateway.subscribe, "0" * 64, "news")
        sent = await call(gateway.send, "news", b"\x00\x01", qos=2)
        assert (sent.connections, sent.data, sent.complete) == (1, "seen", True), sent
        await call(gateway.unsubscribe, identity, "news")
        assert (await call(gateway.send, "news", "x", qos=1)).connections == 0
        assert (await call(gateway.send, CHANNEL, "quick", qos=0)).connections is None
        try:
            await call(Gateway(f"http://127.0.0.1:{port}", "wrong", gateway._signer.scheme).send, "news", "x")
            raise AssertionError("a wrong token was accepted")
        except GatewayError as error:
            assert error.message == "signature error", error
    async with RainbowClient(url, ClientOptions("other", query={"token": "no"})) as client:
        try:
            await client.send(1, "x")
            raise AssertionError("a client that was refused could send")
        except Refused as refused:
            assert refused.status == 401
    for _ in range(100):
        if backend.gone:
            break
        await asyncio.sleep(0.1)
    assert backend.gone == ["dévice"], backend.gone


def main(binary):
    for scheme in ("sha1", "hmac-sha256"):
        port = free_port()
        backend = Backend(port, scheme)
        base = f"http://127.0.0.1:{backend.server.server_port}/rainbow"
        with tempfile.NamedTemporaryFile("w", suffix=".ini", encoding="utf-8") as file:
            file.write(f"[main]\nconnect_url = {base}/connect/\nforward_url = {base}/message/{{message_type}}/\n"
                       f"close_url = {base}/close/\nsecurity_token = {TOKEN}\nhttp_port = {port}\nbind = 127.0.0.1\n"
                       f"cluster_udp = no\nsignature = {scheme}\n")
            file.flush()
            process = subprocess.Popen([binary, "-f", file.name], stderr=subprocess.PIPE, text=True)
            threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
            try:
                wait_for(port)
                asyncio.run(play(port, backend))
            finally:
                process.terminate()
                assert process.wait(20) == 0
        print(f"end to end with {scheme}: ok")


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the gateway does not listen")


if __name__ == "__main__":
    main(sys.argv[1])
