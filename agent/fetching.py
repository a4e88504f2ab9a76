"""JSON documents from addresses that somebody else has written down: one GET each, within bounds.

Which addresses may be asked is up to the operator; a name is resolved once, and its addresses are looked at.
"""

import json
import socket
import time
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urljoin, urlsplit

import urllib3

Reach = Literal["public", "private", "any"]  # public: no addresses that are private; any: those of hosts, too
_LARGEST = 1 << 20
_SECONDS = 5.0
_REDIRECTS = 3


class FetchError(Exception):
    """Why a document could not be had."""


def get(url: str, reach: Reach, *, redirects: bool) -> dict[str, object]:
    """A JSON object. Raises FetchError."""
    until = time.monotonic() + _SECONDS
    for _ in range(_REDIRECTS + 1):
        response, body = _ask(url, reach, until)
        if response.status in (301, 302, 303, 307, 308) and redirects:
            url = urljoin(url, response.headers.get("Location", ""))
            continue
        if response.status != 200:
            raise FetchError(f"{url} answers {response.status}")
        try:
            document = json.loads(body)
        except ValueError as error:
            raise FetchError(f"{url} answers no JSON: {error}") from error
        if not isinstance(document, dict):
            raise FetchError(f"{url} answers no JSON object")
        return document
    raise FetchError(f"{url}: more than {_REDIRECTS} redirects")


def _ask(url: str, reach: Reach, until: float) -> tuple[urllib3.BaseHTTPResponse, bytes]:
    """One request, to an address that has been looked at: the name is not resolved again."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FetchError(f"{url!r} is no http:// or https:// address")
    address = _address(parts.hostname, reach)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    timeout = urllib3.Timeout(total=max(until - time.monotonic(), 0.1))
    try:
        pool = (
            urllib3.HTTPSConnectionPool(
                address, port, timeout=timeout, server_hostname=parts.hostname, assert_hostname=parts.hostname
            )
            if parts.scheme == "https"
            else urllib3.HTTPConnectionPool(address, port, timeout=timeout)
        )
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = {"Host": parts.netloc.rpartition("@")[2], "Accept": "application/json"}
        with pool:
            response = pool.request(
                "GET", target, headers=headers, redirect=False, retries=False, preload_content=False
            )
            return response, _body(response, url, until)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise FetchError(f"{url}: {error}") from error


def _body(response: urllib3.BaseHTTPResponse, url: str, until: float) -> bytes:
    body = b""
    for piece in response.stream(1 << 14):
        body += piece
        if len(body) > _LARGEST:
            raise FetchError(f"{url} answers more than {_LARGEST} bytes")
        if time.monotonic() > until:
            raise FetchError(f"{url} takes longer than {_SECONDS:.0f} s")
    return body


def _address(host: str, reach: Reach) -> str:
    """The first of the host's addresses, if all of them may be asked."""
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise FetchError(f"{host}: {error}") from error
    for address in map(ip_address, found):
        local = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
        if reach != "any" and (local or (reach == "public" and not address.is_global)):
            raise FetchError(f"{host} is at {address}, which --jwks-reach {reach} excludes")
    return found[0]
