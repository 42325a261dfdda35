"""The backend's side in a FastAPI application.

    mount(app, "/rainbow", callbacks)
"""

from fastapi import FastAPI

from .asgi import callbacks_app
from .callbacks import Callbacks


def mount(app: FastAPI, path: str, callbacks: Callbacks) -> None:
    app.mount(path, callbacks_app(callbacks))
