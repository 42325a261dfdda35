"""A client that stays connected: QoS 0/1/2 in both directions, reconnects, queues while it is offline.

What it does on the wire is docs/client.md. One instance belongs to one asyncio event loop and is not thread-safe.
Callbacks may call any method of the client.
"""

import asyncio
import inspect
import logging
import random
import re
import ssl
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, Optional, Union
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .errors import ConnectionLost, NoAnswer, QueueFull, RainbowError, Refused
from .packet import ID_MAX, Command, Packet
from .websocket import BINARY, Closed, HandshakeRefused, WebSocket

log = logging.getLogger("rainbow_sdk")

DONE_MAX = 1024  # ids of handled QoS 1 messages that are remembered, so that a repetition is not handled twice
RECONNECT_AFTER_MAX = 3600.0
RECONNECT_AFTER = re.compile(r"\breconnect_after=(\d{1,10})\b")
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses of a handshake after which it is tried again

Content = Union[bytes, str]


@dataclass
class ClientOptions:
    """``device_id`` and ``client_os`` say who we are; the backend decides. Times in seconds.

    ``retry_after``: pause before a packet is sent again. Longer than the backend usually takes: a repeated SEND of QoS 1 is a
    second message to it. ``tries``: transmissions of one packet before :class:`NoAnswer`. ``queue_max``: messages that wait
    for a connection or an acknowledgement. ``silence``: after that long without a frame the server is pinged, after as long
    again the connection is given up; 0 for never.
    """

    device_id: str
    client_os: str = "python"
    query: Dict[str, str] = field(default_factory=dict)
    headers: Dict[str, str] = field(default_factory=dict)
    retry_after: float = 6.0
    tries: int = 4
    queue_max: int = 1000
    reconnect_min: float = 0.5
    reconnect_max: float = 15.0
    silence: float = 30.0
    tls: Optional[ssl.SSLContext] = None


@dataclass(frozen=True)
class Message:
    """What the backend sent. ``type`` is its msgtype."""

    type: int
    payload: bytes
    qos: int

    @property
    def text(self) -> str:
        return self.payload.decode("utf-8", "replace")


@dataclass
class _Outgoing:
    type: int
    payload: bytes
    qos: int
    future: "asyncio.Future[bytes]"
    id: int = 0
    released: bool = False  # REC has come: it is the REL that is repeated
    transmissions: int = 0
    timer: Optional[asyncio.TimerHandle] = None

    def packet(self) -> Packet:
        if self.released:
            return Packet(Command.REL, self.id)
        return Packet(Command.SEND, self.id, self.payload, self.type, self.qos, dup=self.transmissions > 0)


class RainbowClient:
    """``async with RainbowClient(url, ClientOptions("tablet-7")) as client: await client.send(1, "hello")``

    ``on_message(message)`` may be a coroutine function; messages are handled one after the other. What it returns (text or
    bytes) goes back with the acknowledgement; when it raises, the message is not acknowledged and comes again.
    ``on_state(state, wait)``: "connecting", "open", "waiting" (``wait`` seconds until the next attempt), "closed".
    """

    def __init__(self, url: str, options: ClientOptions, *, on_message: Optional[Callable[[Message], Any]] = None,
                 on_state: Optional[Callable[[str, float], None]] = None):
        self.url, self.options = url, options
        self.on_message = on_message or (lambda message: None)
        self.on_state = on_state or (lambda state, wait: None)
        self.state = "closed"
        self.refused: Optional[Refused] = None
        self._socket: Optional[WebSocket] = None
        self._task: Optional["asyncio.Task[None]"] = None
        self._attempts = 0
        self._last_id = 0
        self._waiting: Deque[_Outgoing] = deque()  # for a connection
        self._pending: Dict[int, _Outgoing] = {}  # for an acknowledgement, or the COM
        self._received: "OrderedDict[int, Optional[bytes]]" = OrderedDict()  # ids to us; None while being handled

    async def __aenter__(self) -> "RainbowClient":
        self.connect()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    def connect(self) -> None:
        """Begins, and goes on until :meth:`close`. Does nothing while it runs."""
        if self._task is None or self._task.done():
            self.refused = None
            self._attempts = 0
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Ends the connection. Messages that are not acknowledged fail."""
        task, self._task = self._task, None
        if self._socket is not None:
            self._socket.begin_close()
            self._socket.abort()
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._end(RainbowError("the client was closed"))

    async def send(self, type: int, content: Content, qos: int = 1) -> bytes:
        """The backend's answer; empty for QoS 0, which is done once written. Waits for a connection if there is none.

        Raises :class:`NoAnswer`, :class:`ConnectionLost` (QoS 2), :class:`QueueFull`, :class:`Refused`.
        """
        if not 0 <= type <= 65535 or qos not in (0, 1, 2):
            raise ValueError("type is 0..65535, qos is 0, 1 or 2")
        if self.refused is not None:
            raise self.refused
        limit = min(self.options.queue_max, ID_MAX)
        if len(self._waiting) + len(self._pending) >= limit:
            raise QueueFull(f"{limit} messages wait")
        payload = content.encode("utf-8") if isinstance(content, str) else bytes(content)
        message = _Outgoing(type, payload, qos, asyncio.get_running_loop().create_future())
        if self._socket is None:
            self._waiting.append(message)
        else:
            self._first(message)
        return await message.future

    # ---- the connection ----

    async def _run(self) -> None:
        while True:
            self._change("connecting")
            wait = None
            try:
                socket = await WebSocket.connect(self._target(), self.options.headers, self.options.tls)
            except HandshakeRefused as refused:
                if refused.status not in PASSING:
                    self.refused = Refused(refused.status, refused.body)
                    return self._end(self.refused)
                if refused.retry_after is not None:
                    wait = refused.retry_after * (1 + random.random() / 2)
            except (OSError, EOFError, asyncio.LimitOverrunError):
                pass
            else:
                wait = self._advice(await self._serve(socket))
            if wait is None:
                wait = min(self.options.reconnect_max, self.options.reconnect_min * 2**self._attempts) * (0.5 + random.random())
                self._attempts = min(self._attempts + 1, 16)
            self._change("waiting", wait)
            await asyncio.sleep(wait)

    def _target(self) -> str:
        parts = urlsplit(self.url)
        query = parse_qsl(parts.query, keep_blank_values=True) + list(self.options.query.items())
        query += [("X-DEVICEID", self.options.device_id), ("X-CLIENT-OS", self.options.client_os)]
        return urlunsplit(parts._replace(query=urlencode(query)))

    @staticmethod
    def _advice(closed: Closed) -> Optional[float]:
        """How long the server asks us to stay away: it spreads its clients over time when it restarts."""
        found = RECONNECT_AFTER.search(closed.reason) if closed.code == 1012 else None
        return min(int(found.group(1)) / 1000, RECONNECT_AFTER_MAX) if found else None

    async def _serve(self, socket: WebSocket) -> Closed:
        self._socket, self._attempts = socket, 0
        self._received.clear()  # ids belong to one connection
        deliveries: "asyncio.Queue[Packet]" = asyncio.Queue(self.options.queue_max)
        loop = asyncio.get_running_loop()
        helpers = [loop.create_task(self._handle(socket, deliveries)), loop.create_task(self._watch(socket))]
        try:
            self._resume()
            self._change("open")
            while True:
                kind, data = await socket.receive()
                packet = Packet.decode(data) if kind == BINARY else None
                if packet is not None:
                    await self._on_packet(packet, deliveries)
        except Closed as closed:
            return closed
        finally:
            for helper in helpers:
                helper.cancel()
            socket.abort()
            self._socket = None
            self._interrupt()

    async def _watch(self, socket: WebSocket) -> None:
        silence = self.options.silence
        loop = asyncio.get_running_loop()
        while silence > 0:
            quiet = loop.time() - socket.heard
            if quiet >= 2 * silence:
                return socket.abort()
            if quiet >= silence:
                socket.ping()
                await asyncio.sleep(silence)
            else:
                await asyncio.sleep(silence - quiet)

    def _change(self, state: str, wait: float = 0.0) -> None:
        self.state = state
        self.on_state(state, wait)

    def _end(self, error: RainbowError) -> None:
        for message in [*self._pending.values(), *self._waiting]:
            self._fail(message, error)
        self._waiting.clear()
        if self.state != "closed":
            self._change("closed")

    # ---- our messages ----

    def _first(self, message: _Outgoing) -> None:
        if message.future.done():  # its sender has stopped waiting
            return
        if message.qos == 0:
            self._write(message.packet())
            message.future.set_result(b"")
            return
        self._last_id = self._last_id % ID_MAX + 1
        while self._last_id in self._pending:
            self._last_id = self._last_id % ID_MAX + 1
        message.id = self._last_id
        self._pending[message.id] = message
        self._transmit(message)

    def _transmit(self, message: _Outgoing) -> None:
        if message.transmissions >= self.options.tries:
            return self._fail(message, NoAnswer(f"no answer to {message.transmissions} transmissions"))
        packet = message.packet()
        message.transmissions += 1
        message.timer = asyncio.get_running_loop().call_later(self.options.retry_after, self._transmit, message)
        self._write(packet)

    def _settle(self, message: _Outgoing) -> None:
        if message.timer is not None:
            message.timer.cancel()
        if self._pending.get(message.id) is message:
            del self._pending[message.id]

    def _fail(self, message: _Outgoing, error: RainbowError) -> None:
        self._settle(message)
        if not message.future.done():
            message.future.set_exception(error)

    def _interrupt(self) -> None:
        """QoS 1 goes on with the next connection; what QoS 2 promises cannot be kept beyond this one."""
        for message in list(self._pending.values()):
            if message.timer is not None:
                message.timer.cancel()
            if message.qos == 2:
                self._fail(message, ConnectionLost("the connection ended; whether the message arrived is unknown"))

    def _resume(self) -> None:
        for message in list(self._pending.values()):
            self._transmit(message)
        while self._waiting:
            self._first(self._waiting.popleft())

    # ---- what arrives ----

    async def _on_packet(self, packet: Packet, deliveries: "asyncio.Queue[Packet]") -> None:
        message = self._pending.get(packet.id)
        if packet.command is Command.SEND:
            if self._is_new(packet):
                await deliveries.put(packet)
        elif packet.command is Command.ACK:
            if message is not None and message.qos == 1:
                self._settle(message)
                self._succeed(message, packet.payload)
        elif packet.command is Command.REC:
            self._on_rec(message, packet)
        elif packet.command is Command.REL:
            self._received.pop(packet.id, None)
            self._write(Packet(Command.COM, packet.id))
        elif message is not None and message.released:
            self._settle(message)

    def _on_rec(self, message: Optional[_Outgoing], packet: Packet) -> None:
        """The message has arrived; REL lets the server forget its id. A REC that comes again gets it again."""
        if message is None or message.released:
            self._write(Packet(Command.REL, packet.id))
        elif message.qos == 2:
            self._succeed(message, packet.payload)
            if message.timer is not None:
                message.timer.cancel()
            message.released, message.transmissions = True, 0
            self._transmit(message)

    @staticmethod
    def _succeed(message: _Outgoing, answer: bytes) -> None:
        if not message.future.done():
            message.future.set_result(answer)

    def _is_new(self, packet: Packet) -> bool:
        """False for a repetition: of one that was handled, which is acknowledged again, or of one that still is."""
        if packet.qos == 0:
            return True
        if packet.dup and packet.id in self._received:
            answer = self._received[packet.id]
            if answer is not None:
                self._acknowledge(packet, answer)
            return False
        self._received[packet.id] = None
        return True

    async def _handle(self, socket: WebSocket, deliveries: "asyncio.Queue[Packet]") -> None:
        while True:
            packet = await deliveries.get()
            try:
                answer = self.on_message(Message(packet.type, packet.payload, packet.qos))
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception:
                log.exception("on_message failed; a message of QoS 1 or 2 will come again")
                self._received.pop(packet.id, None)
                continue
            if packet.qos == 0 or self._socket is not socket:
                continue
            data = b"" if answer is None else answer.encode("utf-8") if isinstance(answer, str) else bytes(answer)
            if packet.id in self._received:
                self._received[packet.id] = data
                self._received.move_to_end(packet.id)
            self._acknowledge(packet, data)
            while len(self._received) > DONE_MAX:
                self._received.popitem(last=False)

    def _acknowledge(self, packet: Packet, data: bytes) -> None:
        self._write(Packet(Command.ACK if packet.qos == 1 else Command.REC, packet.id, data))

    def _write(self, packet: Packet) -> None:
        if self._socket is not None:
            self._socket.send(packet.encode())
