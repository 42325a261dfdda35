"""Both sides of rainbow-server. Standard library only.

Client of the websocket protocol (asyncio): :class:`RainbowClient`.
Backend side: :class:`Gateway` calls the gateway's HTTP API, :class:`Callbacks` answers the gateway's calls;
``rainbow_sdk.django``, ``.flask`` and ``.fastapi`` put it behind a route.
"""

from .callbacks import Callbacks, Client, Request, Response
from .client import ClientOptions, Message, RainbowClient
from .errors import ConnectionLost, GatewayError, NoAnswer, QueueFull, RainbowError, Refused, SignatureError
from .gateway import Gateway, Sent
from .packet import Command, Packet
from .signature import Signer, Verifier

__all__ = [
    "Callbacks", "Client", "ClientOptions", "Command", "ConnectionLost", "Gateway", "GatewayError", "Message", "NoAnswer",
    "Packet", "QueueFull", "RainbowClient", "RainbowError", "Refused", "Request", "Response", "Sent", "SignatureError",
    "Signer", "Verifier",
]
