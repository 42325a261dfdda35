"""Everything this package raises."""


class RainbowError(Exception):
    """Base of all errors of this package."""


class Refused(RainbowError):
    """The gateway did not let the client in and asking again would not help. ``status`` is its HTTP status."""

    def __init__(self, status: int, body: bytes = b""):
        super().__init__(f"the gateway answered {status}")
        self.status = status
        self.body = body


class NoAnswer(RainbowError):
    """All transmissions of a message went unacknowledged. A message of QoS 1 or 2 may have arrived all the same."""


class ConnectionLost(RainbowError):
    """The connection ended while a message of QoS 2 was under way: nobody can know whether it arrived."""


class QueueFull(RainbowError):
    """More messages wait for a connection or an acknowledgement than ``queue_max`` or the protocol's ids allow."""


class SignatureError(RainbowError):
    """A request is not signed by the gateway, or its timestamp is too far from this machine's clock."""


class GatewayError(RainbowError):
    """The gateway refused a call of its API. ``status`` is the HTTP status, ``message`` its own words."""

    def __init__(self, status: int, message: str):
        super().__init__(f"{status}: {message}" if message else str(status))
        self.status = status
        self.message = message
