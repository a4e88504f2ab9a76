"""Fills in the certificates that gateways' listeners name: read when they name them, and again.

A server whose certificate cannot be had is left out: its port refuses it, and never answers in plain text.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.credentials.material import Data, ReadSecret, UnreachableError, UnusableError
from agent.model.resources import LISTENERS, Delta, Resource, listeners_resource
from protocols.routes_pb2 import GatewayListeners, Server, ServerCertificate, ServerTls

_AGAIN = 5.0  # seconds
_SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
_CHAIN, _KEY, _ROOTS, _CRL = ("tls.crt", "cert"), ("tls.key", "key"), ("ca.crt", "cacert"), ("ca.crl", "crl")
_CA = "-cacert"  # ends the name of the Secret that has the CA alone
log = logging.getLogger(__name__)


class ListenerKeeper:
    """`follow` what is different in the listeners; `run` reads again what may have been renewed."""

    def __init__(self, read_secret: ReadSecret, read_config_map: ReadSecret, only: str = "") -> None:
        """only: the listeners' name, `namespace/pod`, of the one gateway whose are told; empty: all."""
        self._only = only
        self._read = {False: read_secret, True: read_config_map}
        self._asked: dict[str, Resource] = {}
        self._told: dict[str, Resource] = {}
        self._known: dict[tuple[bool, str], Data | None] = {}
        self._problems: dict[str, str] = {}
        self._filling = asyncio.Lock()

    async def follow(self, delta: Delta) -> Delta:
        """The same with what listeners name filled in."""
        for type_url, name in delta.removed:
            if type_url == LISTENERS:
                self._asked.pop(name, None)
                self._told.pop(name, None)
        named = {one.name: one for one in delta.changed if one.type_url == LISTENERS}
        removed = tuple(one for one in delta.removed if one[0] != LISTENERS or self._only in ("", one[1]))
        others = (one for one in delta.changed if one.type_url != LISTENERS)
        wanted = {name: one for name, one in named.items() if self._only in ("", name)}
        self._asked |= wanted
        return Delta((*others, *await self._fill(wanted)), removed)

    async def run(self, publish: Callable[[Delta], None]) -> NoReturn:
        """Tell what has been renewed, for ever."""
        while True:
            await asyncio.sleep(_AGAIN)
            if delta := await self.again():
                publish(delta)

    async def again(self) -> Delta:
        """What has become different since it was told."""
        return Delta(await self._fill(dict(self._asked)))

    async def _fill(self, asked: dict[str, Resource]) -> tuple[Resource, ...]:
        """Those that are different from what was told."""
        async with self._filling:
            filled = await asyncio.to_thread(lambda: [self._filled(one) for one in asked.values()])
            changed = tuple(one for one in filled if self._told.get(one.name) != one)
            self._told |= {one.name: one for one in changed if one.name in self._asked}
            return changed

    def _filled(self, resource: Resource) -> Resource:
        message = GatewayListeners.FromString(resource.body)
        for listener in message.listeners:
            kept = [*self._usable(listener.servers)]
            del listener.servers[:]
            listener.servers.extend(kept)
        return listeners_resource(message)

    def _usable(self, servers: Iterable[Server]) -> Iterator[Server]:
        for server in servers:
            try:
                if server.HasField("tls"):
                    self._certify(server.tls)
                problem = ""
            except UnusableError as error:
                problem = f"{error}; the server is left out"
            if problem and self._problems.get(server.name) != problem:
                log.warning("%s: %s", server.name, problem)
            self._problems[server.name] = problem
            if not problem:
                yield server

    def _certify(self, tls: ServerTls) -> None:
        """Raises UnusableError."""
        for certificate in tls.certificates:
            self._complete(certificate)
        if tls.client_certificates:
            first = tls.certificates[0].secret
            sources = [tls.ca_source] if tls.ca_source else [first, first + _CA]
            found = (self._look(source, tls.ca_in_config_map) or {} for source in sources)
            whole = next((data for data in found if _first(data, _ROOTS)), None)
            if whole is None:
                raise UnusableError(f"no CA (ca.crt, cacert) to verify clients by, in {' or '.join(sources)}")
            tls.ca_certificates, tls.ca_crl = _first(whole, _ROOTS), _first(whole, _CRL)

    def _complete(self, certificate: ServerCertificate) -> None:
        name = certificate.secret
        data = self._look(name, False)
        if data is None:
            raise UnusableError(f"there is no Secret {name}")
        chain, key = _first(data, _CHAIN), _first(data, _KEY)
        if not chain or not key:
            raise UnusableError(f"Secret {name} lacks tls.crt or tls.key")
        _check(name, chain, key)
        certificate.chain, certificate.private_key = chain, key

    def _look(self, name: str, config_map: bool) -> Data | None:
        """What was known holds as long as it cannot be told."""
        namespace, _, own = name.partition("/")
        try:
            self._known[config_map, name] = self._read[config_map](namespace, own)
        except UnreachableError:
            if (config_map, name) not in self._known:
                raise UnusableError(f"{name} cannot be read now") from None
        return self._known[config_map, name]


def _check(name: str, chain: bytes, key: bytes) -> None:
    """Raises UnusableError for what no server could be made of."""
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        own = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise UnusableError(f"Secret {name} holds no certificate and key in PEM: {error}") from error
    if leaf.public_key().public_bytes(*_SPKI) != own.public_key().public_bytes(*_SPKI):
        raise UnusableError(f"Secret {name}: the key is not the certificate's")


def _first(data: Data, keys: tuple[str, ...]) -> bytes:
    return next((data[key] for key in keys if data.get(key)), b"")
