"""The backend's side: signatures, what callbacks answer, and the same through every framework that is installed."""

import http.client
import importlib.util
import os
import re
import socket
import sys
import threading
import time
import unittest
from wsgiref.simple_server import WSGIRequestHandler, make_server

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))

from rainbow_sdk import Callbacks, Client, Command, Packet, Request, SignatureError, Signer, Verifier  # noqa: E402
from rainbow_sdk.signature import hmac_signature, sha1_signature  # noqa: E402

TOKEN = "geheimnis-ß"
IDENTITY = "ab" * 32
DOCUMENT = os.path.join(HERE, "..", "..", "..", "docs", "signature.md")


def vectors():
    with open(DOCUMENT, encoding="utf-8") as file:
        blocks = re.findall(r"```vector\n(.*?)```", file.read(), re.S)
    for block in blocks:
        pairs = (line.split(None, 1) for line in block.splitlines())
        yield {pair[0]: pair[1] if len(pair) > 1 else "" for pair in pairs}


class Signatures(unittest.TestCase):
    def test_vectors_of_the_documentation(self):
        found = list(vectors())
        self.assertGreater(len(found), 8)
        for vector in found:
            if vector["scheme"] == "sha1":
                signature = sha1_signature(vector["secret"], vector["timestamp"], vector["nonce"])
            else:
                body = bytes.fromhex(vector["body-hex"])
                signature = hmac_signature(vector["secret"], vector["method"], vector["target"], body)
            self.assertEqual(signature, vector["signature"])

    def test_what_is_signed_is_accepted_and_nothing_else(self):
        for scheme in ("sha1", "hmac-sha256"):
            verifier = Verifier("other", TOKEN, schemes=[scheme])
            target = Signer(TOKEN, scheme).sign("POST", "/message/7/?a=b", b"body")
            verifier.check("POST", target, b"body")
            with self.assertRaisesRegex(SignatureError, "wrong signature"):
                Verifier("other", schemes=[scheme]).check("POST", target, b"body")
            with self.assertRaisesRegex(SignatureError, "missing"):
                verifier.check("POST", "/message/7/?a=b", b"body")
            wrong = {"sha1": "hmac-sha256", "hmac-sha256": "sha1"}[scheme]
            with self.assertRaises(SignatureError):
                Verifier(TOKEN, schemes=[wrong]).check("POST", target, b"body")
        with self.assertRaises(SignatureError):
            verifier.check("POST", target, b"another body")

    def test_old_timestamps_are_refused_with_the_difference(self):
        old = str(int(time.time()) - 300)
        target = f"/?timestamp={old}&nonce=1&signature={sha1_signature(TOKEN, old, '1')}"
        with self.assertRaisesRegex(SignatureError, "300 s apart|301 s apart"):
            Verifier(TOKEN).check("GET", target)
        Verifier(TOKEN, window=400).check("GET", target)


class Packets(unittest.TestCase):
    def test_both_ways(self):
        for packet in (Packet(Command.SEND, 0, b"x", 7), Packet(Command.SEND, 65534, b"", 65535, 2, True),
                       Packet(Command.ACK, 1, b"data"), Packet(Command.COM, 0)):
            self.assertEqual(Packet.decode(packet.encode()), packet)
        for junk in (b"", b"\x00\x01\x02", b"\x12\x00\x01\x00", b"\x60\x00\x00"):
            self.assertIsNone(Packet.decode(junk))


def example():
    callbacks = Callbacks(TOKEN, schemes=["sha1", "hmac-sha256"])

    @callbacks.connect
    def admit(client):
        client.set_cookie(f"ü {client.device_id}")
        client.subscribe("grün 你好")
        return client.query.get("token") == "yes"

    @callbacks.message
    def said(client):
        if client.text == "fail":
            raise RuntimeError("asked to fail")
        client.unsubscribe("a")
        client.subscribe("b")
        return f"{client.type} {client.text} from {client.cookie}"

    gone = []
    callbacks.close(lambda client: gone.append(client.cookie))
    return callbacks, gone


def signed(method, target, body=b"", scheme="sha1", **headers):
    headers = {"RAINBOWCLIENTIDENTITY": IDENTITY, **headers}
    return method, Signer(TOKEN, scheme).sign(method, target, body), body, headers


class Answers(unittest.TestCase):
    def setUp(self):
        self.callbacks, self.gone = example()

    def ask(self, method, target, body=b"", **headers):
        method, target, body, headers = signed(method, target, body, **headers)
        return self.callbacks.handle(Request(method, target, {k.lower(): v for k, v in headers.items()}, body))

    def test_connect(self):
        yes = self.ask("GET", "/connect/?token=yes&X-DEVICEID=d%C3%A9")
        self.assertEqual((yes.status, yes.body), (200, b'{"status": "success"}'))
        self.assertEqual(yes.headers["RAINBOWCLIENTCOOKIE"], "ü dé")
        self.assertIn(b"refused", self.ask("GET", "/connect/?token=no").body)

    def test_message_and_close(self):
        said = self.ask("POST", "/rainbow/message/7/", b"hello", RAINBOWCLIENTCOOKIE="me")
        self.assertEqual((said.status, said.body), (200, b"7 hello from me"))
        self.assertEqual(said.headers["RAINBOWCLIENTCHANNELUNSUB"], "a")
        with self.assertLogs("rainbow_sdk", "ERROR"):
            self.assertEqual(self.ask("POST", "/message/7/", b"fail").status, 500)
        self.assertEqual(self.ask("GET", "/close/", RAINBOWCLIENTCOOKIE="me").status, 200)
        self.assertEqual(self.gone, ["me"])

    def test_what_is_no_call_of_the_gateway(self):
        with self.assertLogs("rainbow_sdk", "WARNING"):
            refused = self.callbacks.handle(Request("GET", "/connect/", {"rainbowclientidentity": IDENTITY}))
        self.assertEqual((refused.status, refused.headers["RAINBOWREQUESTINVALID"]), (403, "60001"))
        self.assertEqual(self.ask("GET", "/message/7/").headers["RAINBOWREQUESTINVALID"], "60003")
        self.assertEqual(self.ask("GET", "/elsewhere/").status, 404)

    def test_names_that_would_break_the_answer_are_refused(self):
        for name in ("", "a;;b", "a\r\nX: y"):
            with self.assertRaises(ValueError):
                Client(IDENTITY, "", {}, {}).subscribe(name)


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def wsgi_application(kind, callbacks):
    if kind == "wsgi":
        from rainbow_sdk.wsgi import callbacks_app
        return callbacks_app(callbacks)
    if kind == "flask":
        from flask import Flask
        from rainbow_sdk.flask import callbacks_blueprint
        app = Flask("test")
        app.register_blueprint(callbacks_blueprint(callbacks), url_prefix="/rainbow")
        return app
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.urls import re_path
    from rainbow_sdk.django import callbacks_view
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="test",
                       MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"])
    django.setup()
    globals()["urlpatterns"] = [re_path(r"^rainbow/", callbacks_view(callbacks))]
    return get_wsgi_application()


class Frameworks(unittest.TestCase):
    def check(self, port, gone):
        def ask(*args, **more):
            method, target, body, headers = signed(*args, **more)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            values = {name: value.encode("utf-8") for name, value in headers.items()}
            connection.request(method, target, body, values)
            answer = connection.getresponse()
            found = answer.status, answer.read(), answer.headers
            connection.close()
            return found

        for scheme in ("sha1", "hmac-sha256"):
            status, body, headers = ask("GET", "/rainbow/connect/?token=yes&X-DEVICEID=d%C3%A9", scheme=scheme)
            self.assertEqual((status, body), (200, b'{"status": "success"}'))
            self.assertEqual(headers["RAINBOWCLIENTCHANNEL"].encode("latin-1").decode(), "grün 你好")
            self.assertEqual(headers["RAINBOWCLIENTCOOKIE"].encode("latin-1").decode(), "ü dé")
            status, body, _ = ask("POST", "/rainbow/message/7/", b"\x00hello", scheme=scheme, RAINBOWCLIENTCOOKIE="ü dé")
            self.assertEqual((status, body.decode()), (200, "7 \x00hello from ü dé"))
        self.assertEqual(ask("GET", "/rainbow/close/", RAINBOWCLIENTCOOKIE="ü dé")[0], 200)
        self.assertEqual(gone, ["ü dé"])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/rainbow/message/7/", b"unsigned", {"RAINBOWCLIENTIDENTITY": IDENTITY})
        self.assertEqual(connection.getresponse().status, 403)

    def wsgi(self, kind):
        callbacks, gone = example()
        server = make_server("127.0.0.1", 0, wsgi_application(kind, callbacks), handler_class=Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            self.check(server.server_port, gone)
        finally:
            server.shutdown()
            server.server_close()

    def test_wsgi(self):
        self.wsgi("wsgi")

    def test_flask(self):
        self.needs("flask")
        self.wsgi("flask")

    def test_django(self):
        self.needs("django")
        self.wsgi("django")

    def test_fastapi(self):
        self.needs("fastapi")
        self.needs("uvicorn")
        import uvicorn
        from fastapi import FastAPI
        from rainbow_sdk.fastapi import mount
        callbacks, gone = example()
        app = FastAPI()
        mount(app, "/rainbow", callbacks)
        sock = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        try:
            self.check(sock.getsockname()[1], gone)
        finally:
            server.should_exit = True
            thread.join(10)

    def needs(self, module):
        if importlib.util.find_spec(module) is None:
            if os.environ.get("CI"):
                self.fail(f"{module} is not installed")
            self.skipTest(f"NOT RUN: {module} is not installed")


if __name__ == "__main__":
    unittest.main()
