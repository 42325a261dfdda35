"""The part of RFC 6455 a client needs, over asyncio streams. Messages above ``MESSAGE_MAX`` end the connection with 1009."""

import asyncio
import base64
import hashlib
import os
import ssl
from typing import Dict, Optional, Tuple
from urllib.parse import urlsplit

from .errors import RainbowError

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MESSAGE_MAX = 64 << 20
HEAD_MAX = 64 << 10
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class HandshakeRefused(RainbowError):
    """Any answer but 101. ``retry_after`` in seconds, where the answer has that header."""

    def __init__(self, status: int, retry_after: Optional[float], body: bytes):
        super().__init__(f"the gateway answered {status}")
        self.status, self.retry_after, self.body = status, retry_after, body


class Closed(RainbowError):
    """The connection is over. ``code`` is 1006 when no close frame came, 1005 when it had no code."""

    def __init__(self, code: int = 1006, reason: str = ""):
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code, self.reason = code, reason


class WebSocket:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer
        self._close_sent = False
        self.heard = asyncio.get_running_loop().time()  # when the last frame came, in the loop's time

    @classmethod
    async def connect(cls, url: str, headers: Dict[str, str], tls: Optional[ssl.SSLContext] = None) -> "WebSocket":
        parts = urlsplit(url)
        secure = parts.scheme in ("wss", "https")
        port = parts.port or (443 if secure else 80)
        context = (tls or ssl.create_default_context()) if secure else None
        reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context, limit=HEAD_MAX)
        socket = cls(reader, writer)
        try:
            await socket._handshake(parts, headers)
        except BaseException:
            writer.close()
            raise
        return socket

    async def _handshake(self, parts, headers: Dict[str, str]) -> None:
        key = base64.b64encode(os.urandom(16))
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        lines = {"Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": key.decode(), **headers}
        if any(c in text for pair in lines.items() for text in pair for c in "\r\n"):
            raise ValueError("a header contains a line break")
        head = f"GET {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        self._writer.write(head.encode("utf-8"))
        status, answer = self._parse(await self._reader.readuntil(b"\r\n\r\n"))
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        if status == 101 and answer.get("sec-websocket-accept") == accept:
            return
        length = answer.get("content-length", "0")
        body = await self._reader.readexactly(min(int(length), HEAD_MAX)) if length.isdigit() else b""
        after = answer.get("retry-after", "")
        raise HandshakeRefused(status, float(after) if after.isdigit() else None, body)

    @staticmethod
    def _parse(head: bytes) -> Tuple[int, Dict[str, str]]:
        first, *rest = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[1].isdigit():
            raise ConnectionError("the answer is not HTTP")
        pairs = (line.partition(":") for line in rest if line)
        return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}

    async def receive(self) -> Tuple[int, bytes]:
        """The next message: (TEXT or BINARY, its bytes). Answers pings on the way. Raises :class:`Closed` at the end."""
        kind, message = 0, bytearray()
        while True:
            try:
                final, opcode, payload = await self._frame()
            except (OSError, EOFError):
                raise Closed() from None
            if opcode == PING:
                self._write(PONG, payload)
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
                self.begin_close(code if code != 1005 else 1000)
                raise Closed(code, payload[2:].decode("utf-8", "replace"))
            elif opcode in (TEXT, BINARY, CONTINUATION):
                kind = opcode or kind
                message += payload
                if len(message) > MESSAGE_MAX:
                    self.begin_close(1009)
                    raise Closed(1009)
                if final:
                    return kind, bytes(message)

    async def _frame(self) -> Tuple[bool, int, bytes]:
        first, second = await self._reader.readexactly(2)
        self.heard = asyncio.get_running_loop().time()
        length = second & 127
        if length > 125:
            length = int.from_bytes(await self._reader.readexactly(2 if length == 126 else 8), "big")
        if second & 128 or first & 0x70 or length > MESSAGE_MAX:
            self.begin_close(1009 if length > MESSAGE_MAX else 1002)
            raise Closed(1009 if length > MESSAGE_MAX else 1002)
        return bool(first & 128), first & 15, await self._reader.readexactly(length)

    def send(self, payload: bytes) -> None:
        """Queues one binary message; :meth:`drain` waits for room."""
        self._write(BINARY, payload)

    def ping(self) -> None:
        self._write(PING, b"")

    async def drain(self) -> None:
        await self._writer.drain()

    def begin_close(self, code: int = 1000) -> None:
        if not self._close_sent:
            self._close_sent = True
            self._write(CLOSE, code.to_bytes(2, "big"))

    def abort(self) -> None:
        self._writer.close()

    def _write(self, opcode: int, payload: bytes) -> None:
        if self._writer.is_closing():
            return
        length = len(payload)
        if length < 126:
            head = bytes([128 | opcode, 128 | length])
        elif length < 65536:
            head = bytes([128 | opcode, 254]) + length.to_bytes(2, "big")
        else:
            head = bytes([128 | opcode, 255]) + length.to_bytes(8, "big")
        mask = os.urandom(4)
        self._writer.write(head + mask + _masked(payload, mask))


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(size, "big")
