"""The backend's side as a WSGI application, for any server and framework that can mount one.

    application = callbacks_app(callbacks)          # gunicorn module:application
"""

from typing import Any, Callable, Dict, Iterable
from urllib.parse import quote

from .callbacks import Callbacks, Request, Response

REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
           500: "Internal Server Error"}


def request_of(environ: Dict[str, Any], body: bytes) -> Request:
    """A WSGI environment as a request. Text of headers and paths is bytes read as latin-1 there; here it is UTF-8."""
    names = ((key[5:].replace("_", "-").lower(), value) for key, value in environ.items() if key.startswith("HTTP_"))
    headers = {name: utf8(value) for name, value in names}
    return Request(environ["REQUEST_METHOD"], target_of(environ), headers, body)


def target_of(environ: Dict[str, Any]) -> str:
    """Path and query as in the request line: WSGI itself keeps the path in decoded form only."""
    for key in ("RAW_URI", "REQUEST_URI"):
        target = environ.get(key, "")
        if target.startswith("/"):
            return target
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe="/-_.~{}")
    query = environ.get("QUERY_STRING", "")
    return f"{path}?{query}" if query else path


def utf8(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def native(text: str) -> str:
    """UTF-8 in the form in which WSGI and Django take header values."""
    return text.encode("utf-8").decode("latin-1")


def callbacks_app(callbacks: Callbacks) -> Callable[..., Iterable[bytes]]:
    def application(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or "0"
        body = environ["wsgi.input"].read(int(length)) if length.isdigit() else b""
        answer: Response = callbacks.handle(request_of(environ, body))
        headers = [(name, native(value)) for name, value in answer.headers.items()]
        headers.append(("Content-Length", str(len(answer.body))))
        start_response(f"{answer.status} {REASONS.get(answer.status, 'Unknown')}", headers)
        return [answer.body]

    return application
