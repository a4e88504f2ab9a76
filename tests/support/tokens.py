"""JSON Web Tokens as they should be and as they should not, and a server of key sets.

The server's functions run in a Resident.
"""

import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Json = dict[str, Any]
_served: dict[int, tuple[ThreadingHTTPServer, str, float]] = {}
_fetches: list[str] = []  # paths


class Issuer:
    """Signs with a key of its own (RS256). kid: the key's name."""

    def __init__(self, name: str, kid: str) -> None:
        self.name, self.kid = name, kid
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def key_set(self) -> str:
        numbers = self._key.public_key().public_numbers()
        n, e = (_encoded(one.to_bytes((one.bit_length() + 7) // 8)) for one in (numbers.n, numbers.e))
        return json.dumps({"keys": [{"kty": "RSA", "kid": self.kid, "n": n, "e": e}]})

    @property
    def public(self) -> bytes:
        """The key as whoever confuses it with a secret has it (PEM)."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(self, head: Json | None = None, secret: bytes | None = None, **claims: Any) -> str:
        """head, claims: what is different from a good one's. secret: it is signed with that (HS256)."""
        now = int(time.time())
        content = {"iss": self.name, "sub": "alice", "aud": "shop", "exp": now + 3600, **claims}
        message = ".".join(map(_written, ({"alg": "RS256", "kid": self.kid, **(head or {})}, content)))
        if secret is None:
            signature = self._key.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            signature = hmac.digest(secret, message.encode(), "sha256")
        return f"{message}.{_encoded(signature)}"


def unsigned(token: str) -> str:
    """The same, and nobody has signed it."""
    return f"{token.rpartition('.')[0]}."


def _written(part: Json) -> str:
    return _encoded(json.dumps(part).encode())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        _fetches.append(self.path)
        _, keys, slow = _served[int(self.server.server_port)]  # type: ignore[attr-defined]
        time.sleep(slow)
        self.send_response(200)
        self.send_header("Content-Length", str(len(keys)))
        self.end_headers()
        self.wfile.write(keys.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve(port: int, keys: str, slow: float = 0.0) -> None:
    """These keys from now on, at any path. slow: seconds that it takes to find them."""
    if port in _served:
        _served[port] = (_served[port][0], keys, slow)
        return
    _served[port] = (ThreadingHTTPServer(("0.0.0.0", port), _Handler), keys, slow)
    threading.Thread(target=_served[port][0].serve_forever, daemon=True).start()


def stop(port: int) -> None:
    server, *_ = _served.pop(port)
    server.shutdown()
    server.server_close()


def fetches() -> int:
    """How often keys were asked for."""
    return len(_fetches)
