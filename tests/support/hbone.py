"""A request through a tunnel of its own, by whoever shows a certificate. Runs in a Resident."""

import socket
import ssl
from contextlib import suppress

from hyperframe.frame import DataFrame

from tests.support.certificates import Certificate
from tests.support.http2 import Closed, Http2, client_context

PORT = 15008


def ask(address: str, port: int, me: Certificate | None, host: str) -> str:
    """The first line of the answer from a port of the pod at `address`; empty: there is no tunnel to it."""
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    with suppress(ssl.SSLError, ConnectionResetError, Closed), _tunnel(address, me) as tunnel:
        tunnel.greet()
        stream = tunnel.connect(f"{address}:{port}")
        assert tunnel.status(stream) == 200
        tunnel.data(stream, request)
        return bytes(tunnel.read(DataFrame, stream).data).decode().partition("\r\n")[0]
    return ""


def _tunnel(address: str, me: Certificate | None) -> Http2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if me:
        context = client_context(me, me.root.read_text())
        context.verify_mode = ssl.CERT_NONE  # a stranger does not know the root
    else:
        context.set_alpn_protocols(["h2"])
    plain = socket.create_connection((address, PORT), timeout=20)
    return Http2(context.wrap_socket(plain), client=True)
