"""Calls of the gateway's HTTP API: send, subscribe, unsubscribe. Blocking, and safe to use from several threads."""

import http.client
import json
import queue
import ssl
from dataclasses import dataclass
from typing import Any, Dict, Optional, Union
from urllib.parse import urlencode, urlsplit

from .errors import GatewayError
from .signature import SHA1, Signer

POOL_MAX = 16
MARGIN = 5.0  # seconds beyond the timeout asked for, before the gateway itself is given up


@dataclass(frozen=True)
class Sent:
    """``connections``: clients that acknowledged; None with QoS 0, where nobody counts. ``data``: what one of them answered.

    ``complete`` is False when somebody stayed silent until the timeout.
    """

    connections: Optional[int]
    data: str
    complete: bool


class Gateway:
    """``Gateway("http://127.0.0.1:1984", "token").send("lobby", "hello", qos=1).connections``

    Raises :class:`GatewayError` for what the gateway refuses, ``OSError`` when it cannot be reached. A call is never
    repeated by itself: what became of it is unknown when its connection breaks.
    """

    def __init__(self, url: str, token: str, scheme: str = SHA1, tls: Optional[ssl.SSLContext] = None):
        self._url = urlsplit(url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise ValueError("the url of a gateway is http://host:port or https://host:port")
        self._signer, self._tls = Signer(token, scheme), tls
        self._idle: "queue.LifoQueue[http.client.HTTPConnection]" = queue.LifoQueue(POOL_MAX)

    def send(self, channel: str, content: Union[bytes, str], *, type: int = 1, qos: int = 2, timeout: int = 10) -> Sent:
        """To every client in ``channel``. ``timeout``: whole seconds for the acknowledgements of QoS 1 and 2."""
        body = content.encode("utf-8") if isinstance(content, str) else bytes(content)
        query = urlencode({"channel": channel, "msgtype": type, "qos": qos, "timeout": timeout})
        answer = self._call(f"/send/?{query}", body, timeout)
        if answer.get("status") == 0:
            return Sent(answer.get("connections"), answer.get("data", ""), True)
        if answer.get("msg") == "timeout":
            return Sent(answer.get("connections", 0), answer.get("data", ""), False)
        raise GatewayError(200, str(answer.get("msg", "")))

    def subscribe(self, identity: str, channel: str, *, occupy: bool = False) -> bool:
        """False if no such client is connected. ``occupy`` empties the channel first."""
        body: Dict[str, Any] = {"identity": identity, "channel": channel}
        if occupy:
            body["occupy"] = True
        answer = self._call("/sub/", json.dumps(body).encode())
        if answer.get("status") != 0 and answer.get("msg") != "no such connection":
            raise GatewayError(200, str(answer.get("msg", "")))
        return answer.get("status") == 0

    def unsubscribe(self, identity: str, channel: str) -> None:
        answer = self._call("/unsub/", json.dumps({"identity": identity, "channel": channel}).encode())
        if answer.get("status") != 0:
            raise GatewayError(200, str(answer.get("msg", "")))

    def _call(self, target: str, body: bytes, timeout: float = 10) -> Dict[str, Any]:
        connection = self._connection(timeout + MARGIN)
        try:
            connection.request("POST", self._signer.sign("POST", self._url.path.rstrip("/") + target, body), body)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except BaseException:
            connection.close()
            raise
        self._give_back(connection, answer)
        if status != 200:
            raise GatewayError(status, "bad parameters" if status in (400, 500) else answer.reason)
        try:
            parsed = json.loads(content)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise GatewayError(status, "the answer is not a JSON object: is this url the gateway's?")
        return parsed

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        """A kept one that is still open, else a new one: a POST on a connection that is ending could not be repeated."""
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                break
            if _is_quiet(connection):
                connection.sock.settimeout(timeout)
                return connection
            connection.close()
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(self._url.hostname, self._url.port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=timeout)

    def _give_back(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        if answer.will_close or connection.sock is None:
            return connection.close()
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether nothing, and no end, has arrived on an unused connection."""
    connection.sock.settimeout(0)
    try:
        if isinstance(connection.sock, ssl.SSLSocket):
            connection.sock.read(1)
        else:
            connection.sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        pass
    return False
