"""The backend's side: what the gateway asks, and what to answer. Knows no web framework; see ``wsgi`` and its neighbours.

    callbacks = Callbacks("token")

    @callbacks.connect
    def admit(client):
        return client.query.get("token") == "let me in"

    @callbacks.message
    def said(client):
        client.subscribe("lobby")
        return "thanks"
"""

import logging
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Union
from urllib.parse import parse_qsl, unquote

from .errors import SignatureError
from .signature import SHA1, Verifier

log = logging.getLogger("rainbow_sdk")

IDENTITY, COOKIE = "rainbowclientidentity", "rainbowclientcookie"
CHANNEL, UNSUBSCRIBE, INVALID = "RAINBOWCLIENTCHANNEL", "RAINBOWCLIENTCHANNELUNSUB", "RAINBOWREQUESTINVALID"
CODE_SIGNATURE, CODE_IDENTITY, CODE_METHOD = "60001", "60002", "60003"


@dataclass(frozen=True)
class Request:
    """``target``: path and query as in the request line; ``headers``: names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Response:
    status: int
    body: bytes = b""
    headers: Dict[str, str] = field(default_factory=dict)


@dataclass
class Client:
    """The client a call is about. Changes take effect with the answer, before the client sees its acknowledgement.

    ``identity``: 64 hex digits, good for ``Gateway.subscribe`` while it is connected. ``cookie``: text kept with the
    connection, ``None`` to leave it, empty to clear it. ``type`` and ``payload`` are those of a message.
    """

    identity: str
    cookie: str
    query: Dict[str, str]
    headers: Mapping[str, str]
    payload: bytes = b""
    type: Optional[int] = None
    _joined: List[str] = field(default_factory=list)
    _left: List[str] = field(default_factory=list)
    _cookie: Optional[str] = None

    @property
    def text(self) -> str:
        return self.payload.decode("utf-8", "replace")

    @property
    def device_id(self) -> str:
        return self._credential("x-deviceid", "X-DEVICEID")

    @property
    def client_os(self) -> str:
        return self._credential("x-client-os", "X-CLIENT-OS")

    def _credential(self, header: str, parameter: str) -> str:
        return self.headers.get(header) or self.headers.get(header.replace("-", "_")) or self.query.get(parameter, "")

    def subscribe(self, channel: str) -> None:
        self._joined.append(_name(channel))

    def unsubscribe(self, channel: str) -> None:
        """Happens before the subscriptions of the same answer."""
        self._left.append(_name(channel))

    def set_cookie(self, cookie: str) -> None:
        """Sent along with every later call about this client. No line breaks."""
        if "\r" in cookie or "\n" in cookie:
            raise ValueError("a cookie has no line breaks")
        self._cookie = cookie


def _name(channel: str) -> str:
    if not channel or ";;" in channel or "\r" in channel or "\n" in channel:
        raise ValueError("a channel has a name, without ;; and line breaks")
    return channel


class Callbacks:
    """Checks the signature, finds out which call it is, asks your function, writes the answer.

    Which call: by the end of the path, ``/connect/``, ``/close/``, and ``/message/TYPE/`` or ``/message/`` by default. Set
    connect_url, close_url and forward_url accordingly, e.g. ``forward_url = http://…/rainbow/message/{message_type}/``.
    """

    def __init__(self, *tokens: str, schemes=(SHA1,), window: float = 60.0):
        self._verifier = Verifier(*tokens, schemes=schemes, window=window)
        self._connect: Callable[[Client], Any] = lambda client: True
        self._message: Callable[[Client], Any] = lambda client: None
        self._close: Callable[[Client], Any] = lambda client: None

    def connect(self, function: Callable[[Client], bool]) -> Callable[[Client], bool]:
        """True lets the client in."""
        self._connect = function
        return function

    def message(self, function: Callable[[Client], Union[bytes, str, None]]) -> Callable[[Client], Union[bytes, str, None]]:
        """What it returns goes to the client with the acknowledgement. Raise to have none sent."""
        self._message = function
        return function

    def close(self, function: Callable[[Client], None]) -> Callable[[Client], None]:
        """Called at least once for each client that was let in, after its last message."""
        self._close = function
        return function

    def handle(self, request: Request) -> Response:
        """Never raises: what your function raises is logged and answered 500."""
        try:
            self._verifier.check(request.method, request.target, request.body)
        except SignatureError as error:
            log.warning("refused a call to %s: %s", request.target.partition("?")[0], error)
            return Response(403, str(error).encode(), {INVALID: CODE_SIGNATURE})
        if not request.headers.get(IDENTITY):
            return Response(400, b"no client identity", {INVALID: CODE_IDENTITY})
        try:
            return self._dispatch(request)
        except Exception:
            log.exception("the handler of %s failed", request.target.partition("?")[0])
            return Response(500)

    def _dispatch(self, request: Request) -> Response:
        path, _, query = request.target.partition("?")
        parts = [unquote(part) for part in path.split("/") if part]
        client = Client(request.headers[IDENTITY], request.headers.get(COOKIE, ""),
                        dict(parse_qsl(query, keep_blank_values=True)), request.headers, request.body)
        call = parts[-1] if parts else ""
        if call.isdigit() and len(parts) > 1:
            client.type, call = int(call), parts[-2]
        if call == "connect":
            admitted = bool(self._connect(client))
            return _answer(client, b'{"status": "success"}' if admitted else b'{"status": "refused"}', "application/json")
        if call == "close":
            self._close(client)
            return Response(200)
        if call == "message":
            if request.method.upper() != "POST":
                return Response(405, b"", {INVALID: CODE_METHOD, "Allow": "POST"})
            said = self._message(client)
            body = b"" if said is None else said.encode("utf-8") if isinstance(said, str) else bytes(said)
            return _answer(client, body, "application/octet-stream")
        return Response(404, b"neither connect, message nor close")


def _answer(client: Client, body: bytes, content_type: str) -> Response:
    headers = {"Content-Type": content_type}
    if client._cookie is not None:
        headers["RAINBOWCLIENTCOOKIE"] = client._cookie
    if client._left:
        headers[UNSUBSCRIBE] = ";;".join(client._left)
    if client._joined:
        headers[CHANNEL] = ";;".join(client._joined)
    return Response(200, body, headers)
