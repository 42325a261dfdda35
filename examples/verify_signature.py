"""Signs and checks requests by the scheme hmac-sha256 of rainbow-server; see docs/signature.md. Python 3.8, no packages."""
import hashlib, hmac, secrets, time
from urllib.parse import parse_qs

def signature(secret, method, target, body):
    """`target` is path and query as in the request line, up to `&signature=`."""
    text = "\n".join(["rainbow-hmac-sha256", method, target, hashlib.sha256(body).hexdigest()])
    return hmac.new(secret.encode(), text.encode("latin-1"), "sha256").hexdigest()

def sign(secret, method, target, body=b""):
    """The target to send: path and query with timestamp, nonce and signature. Sign again before you send again."""
    mark = "&" if "?" in target else "?"
    target += f"{mark}timestamp={int(time.time())}&nonce={secrets.token_hex(8)}"
    return f"{target}&signature={signature(secret, method, target, body)}"

seen = {}  # accepted signatures and when each may be forgotten; one for all threads and processes, or replays pass

def verify(known, method, target, body=b"", window=10):
    """Whether a request is genuine, recent and new. `known`: the secrets in use, during a change two."""
    target, _, claimed = target.rpartition("&signature=")
    good = [hmac.compare_digest(signature(s, method, target, body), claimed) for s in known if claimed.isascii()]
    stamp, now = parse_qs(target.partition("?")[2]).get("timestamp", ["0"])[-1], time.time()
    if not any(good) or abs(int(stamp) - now) >= window or claimed in seen:
        return False
    for old in [s for s, until in seen.items() if until <= now]:
        del seen[old]
    seen[claimed] = int(stamp) + window
    return True
