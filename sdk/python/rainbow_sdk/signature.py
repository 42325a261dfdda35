"""Signatures of requests in both directions (docs/signature.md)."""

import hashlib
import hmac
import os
import random
import time
from typing import Iterable
from urllib.parse import parse_qsl

from .errors import SignatureError

SHA1, HMAC = "sha1", "hmac-sha256"
LABEL = b"rainbow-hmac-sha256"


def sha1_signature(token: str, timestamp: str, nonce: str) -> str:
    return hashlib.sha1(b"".join(sorted(text.encode("utf-8") for text in (token, timestamp, nonce)))).hexdigest()


def hmac_signature(token: str, method: str, target: str, body: bytes) -> str:
    """``target``: path and query as in the request line, timestamp and nonce included, signature not."""
    text = b"\n".join((LABEL, method.upper().encode(), target.encode("utf-8"), hashlib.sha256(body).hexdigest().encode()))
    return hmac.new(token.encode("utf-8"), text, hashlib.sha256).hexdigest()


class Signer:
    """Signs requests to the gateway with the scheme of its ``signature`` setting: "sha1" or "hmac-sha256"."""

    def __init__(self, token: str, scheme: str = SHA1):
        if scheme not in (SHA1, HMAC):
            raise ValueError(f"scheme is {SHA1} or {HMAC}")
        self.token, self.scheme = token, scheme

    def sign(self, method: str, target: str, body: bytes = b"") -> str:
        """``target`` with timestamp, nonce and signature appended. A signature is good for one request."""
        timestamp = str(int(time.time()))
        join = "&" if "?" in target else "?"
        if self.scheme == SHA1:
            nonce = str(random.randrange(10**9))
            return f"{target}{join}timestamp={timestamp}&nonce={nonce}&signature={sha1_signature(self.token, timestamp, nonce)}"
        target = f"{target}{join}timestamp={timestamp}&nonce={os.urandom(8).hex()}"
        return f"{target}&signature={hmac_signature(self.token, method, target, body)}"


class Verifier:
    """Checks requests of the gateway. Several tokens are for the time of a change. ``window`` in seconds.

    Used hmac-sha256 signatures are not remembered here: a callback that has an effect should be safe to repeat, or the
    line be protected with https.
    """

    def __init__(self, *tokens: str, schemes: Iterable[str] = (SHA1,), window: float = 60.0):
        if not tokens:
            raise ValueError("at least one token")
        self.tokens, self.schemes, self.window = tokens, frozenset(schemes), window

    def check(self, method: str, target: str, body: bytes = b"") -> None:
        """Raises :class:`SignatureError` with the reason; ``target`` as in the request line."""
        path, _, query = target.partition("?")
        values = dict(parse_qsl(query, keep_blank_values=True))
        missing = [name for name in ("timestamp", "nonce", "signature") if not values.get(name)]
        if missing:
            raise SignatureError(f"{', '.join(missing)} missing: not a call of the gateway")
        if not self._matches(method, target, values, body):
            raise SignatureError("wrong signature: do both sides have the same security_token and scheme?")
        try:
            apart = abs(int(values["timestamp"]) - time.time())
        except ValueError:
            raise SignatureError("the timestamp is not a number") from None
        if apart >= self.window:
            raise SignatureError(f"the clocks are {apart:.0f} s apart, at most {self.window:.0f} are allowed")

    def _matches(self, method: str, target: str, values: dict, body: bytes) -> bool:
        given = values["signature"].encode("utf-8")
        return any(hmac.compare_digest(given, right.encode()) for right in self._right(method, target, values, body))

    def _right(self, method: str, target: str, values: dict, body: bytes) -> Iterable[str]:
        signed, cut, _ = target.rpartition("&signature=")
        for token in self.tokens:
            if HMAC in self.schemes and cut:
                yield hmac_signature(token, method, signed, body)
            if SHA1 in self.schemes:
                yield sha1_signature(token, values["timestamp"], values["nonce"])
