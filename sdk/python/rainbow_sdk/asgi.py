"""The backend's side as an ASGI application, for Starlette, FastAPI, Django's ASGI or a server alone.

    app.mount("/rainbow", callbacks_app(callbacks))

Your functions run in threads, so they may block.
"""

import asyncio
from typing import Any, Awaitable, Callable, Dict
from urllib.parse import quote

from .callbacks import Callbacks, Request

BODY_MAX = 128 << 20


def callbacks_app(callbacks: Callbacks) -> Callable[..., Awaitable[None]]:
    async def application(scope: Dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            raise RuntimeError("this application answers http only")
        body, more = bytearray(), True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect" or len(body) > BODY_MAX:
                return
            body += event.get("body", b"")
            more = event.get("more_body", False)
        headers = {name.decode("latin-1").lower(): value.decode("utf-8", "replace") for name, value in scope["headers"]}
        request = Request(scope["method"], _target(scope), headers, bytes(body))
        answer = await asyncio.get_running_loop().run_in_executor(None, callbacks.handle, request)
        lines = [(name.encode(), value.encode("utf-8")) for name, value in answer.headers.items()]
        lines.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": lines})
        await send({"type": "http.response.body", "body": answer.body})

    return application


def _target(scope: Dict[str, Any]) -> str:
    raw = scope.get("raw_path")
    path = raw.decode("ascii", "replace") if raw else quote(scope.get("root_path", "") + scope["path"], safe="/-_.~{}")
    query = scope.get("query_string", b"").decode("ascii", "replace")
    return f"{path}?{query}" if query else path
