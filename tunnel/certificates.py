"""A valid certificate for each identity in use, at all times: `istio.v1.auth.IstioCertificateService`."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterable

from protocols.report import Certificate
from tunnel._core import Core, certificate_chain, certificate_request
from tunnel.backoff import Backoff
from tunnel.channel import Channel, RpcError, metadata
from tunnel.counters import Counters
from tunnel.settings import CertificateAuthority

log = logging.getLogger("warren.certificates")

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
_AT_ONCE = 8  # requests under way
_CALL_TIMEOUT = 10.0  # seconds
_REACHED = 1.0  # seconds for a connection and its TLS handshake, for somebody who waits for the word
_LOOK_EVERY = 60.0  # seconds: a machine that slept notices that its certificates aged meanwhile
_LOOK_AT_ROOT = 2.0  # seconds between two looks at the file
_LOOK_FOR_AUTHORITY = 5.0  # seconds at most between two attempts for who has no certificate
_SPREAD = 300.0  # seconds over which nodes ask anew when the root changed, so that they do not all at once
_HALF_LIFE = (0.45, 0.55)  # spread, so that certificates of one moment are not renewed in one moment


class AuthorityClient:
    """Asks the authority. The root that vouches for it and our token are read again for each request."""

    def __init__(self, core: Core, authority: CertificateAuthority, cluster: str) -> None:
        self._core = core
        self._authority = authority
        self._cluster = cluster
        self._link: tuple[bytes, Channel] | None = None

    @property
    def root(self) -> bytes | None:
        """What the file holds that vouches for the authority; None while it cannot be read."""
        try:
            return self._authority.root.read_bytes()
        except OSError:
            return None

    @property
    def url(self) -> str:
        """Where it is, https://HOST:PORT."""
        return self._authority.url

    async def unreachable(self) -> str:
        """Why a connection made now fails, known within `_REACHED` seconds; empty: it does not."""
        try:
            await Channel(self.url, self._authority.root).connect(_REACHED)
        except RpcError as error:
            return error.details
        except OSError as error:
            return str(error)
        return ""

    async def certify(self, identity: str) -> int:
        """Get a certificate for a new key, into use; gives its end in Unix seconds.

        Raises OSError (our files), RpcError (the authority), ValueError (what it sent is of no use).
        """
        headers = metadata(self._cluster, self._authority.token)
        channel = self._channel()
        request = certificate_request(self._core.new_key(identity), [("ImpersonatedIdentity", identity)])
        answer = await channel.call(METHOD, request, _CALL_TIMEOUT, headers)
        *chain, roots = certificate_chain(answer) or [""]
        if not chain:
            raise ValueError("the authority sent no chain of leaf and root")
        return self._core.set_certificate(identity, chain, roots)

    def _channel(self) -> Channel:
        """The connection that there is, as long as the root is the same."""
        root = self._authority.root.read_bytes()
        if self._link is None or self._link[0] != root:
            self._link = (root, Channel(self._authority.url, self._authority.root))
        return self._link[1]


class Certificates:
    """One task for each identity gets its certificate and renews it at half of its life.

    When that fails, the certificate that there is stays in use, and the next attempt follows after 0.5 s,
    doubling up to 150 s; up to 5 s where there is none and the authority does not answer. When the root file
    of the authority changes, all are renewed soon: each answer brings the roots that peers are to be measured
    by, and with a new root among them a rotation has begun.
    """

    def __init__(self, core: Core, authority: AuthorityClient, counters: Counters) -> None:
        self._core = core
        self._authority = authority
        self._counters = counters
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, int] = {}
        self._problems: dict[str, str] = {}  # by identity: why the last attempt failed
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._root_changed = asyncio.Event()

    @property
    def pending(self) -> list[str]:
        """The identities in use that have no valid certificate."""
        now = time.time()
        return [identity for identity in self._tasks if self._ends.get(identity, 0) <= now]

    @property
    def held(self) -> list[Certificate]:
        """For each identity in use what there is."""
        return [
            Certificate(identity, self._ends.get(identity), self._problems.get(identity, ""))
            for identity in sorted(self._tasks)
        ]

    def use(self, identities: set[str]) -> None:
        """Have certificates for these SPIFFE ids and for no others."""
        for identity in self._tasks.keys() - identities:
            self._forget(identity)
        for identity in identities - self._tasks.keys():
            self._start(identity)

    def renew(self, identities: Iterable[str]) -> None:
        """Have new certificates for these at once: theirs are revoked."""
        for identity in self._tasks.keys() & set(identities):
            log.warning("the certificate of %s is revoked: asking for another one", identity)
            self._tasks[identity].cancel()
            self._start(identity)

    def _start(self, identity: str) -> None:
        self._tasks[identity] = asyncio.create_task(self._keep(identity), name=identity)

    async def follow_root(self) -> None:
        """Have all certificates renewed soon, each time that the authority's root file changes."""
        known = self._authority.root
        while True:
            await asyncio.sleep(_LOOK_AT_ROOT)
            if (now := self._authority.root) not in (known, None):
                log.info("the authority's root changed: renewing %d certificates", len(self._tasks))
                known = now
                changed, self._root_changed = self._root_changed, asyncio.Event()
                changed.set()

    def _forget(self, identity: str) -> None:
        self._tasks.pop(identity).cancel()
        self._core.forget_identity(identity)
        self._problems.pop(identity, None)
        if self._ends.pop(identity, None):
            self._counters.certificate_ends.remove(identity)
        log.info("%s is no longer in use", identity)

    async def _keep(self, identity: str) -> None:
        backoff = Backoff(0.5, 150.0, 0.2)
        while True:
            changed = self._root_changed
            end = await self._certify(identity)
            if end is None or identity in self._core.revoked():
                await asyncio.sleep(self._pause(identity, backoff.next()))
                continue
            backoff.reset()
            now = time.time()
            await _until(now + (end - now) * random.uniform(*_HALF_LIFE), changed)

    def _pause(self, identity: str, wait: float) -> float:
        """Without a certificate nobody gets through: an authority that is back is found soon."""
        unanswered = self._problems.get(identity, "").startswith("UNAVAILABLE")
        return min(wait, _LOOK_FOR_AUTHORITY) if unanswered and identity in self.pending else wait

    async def _certify(self, identity: str) -> int | None:
        """One attempt; gives the certificate's end, or None when it failed."""
        try:
            async with self._at_once:
                end = await self._authority.certify(identity)
        except Exception as error:  # whatever it is, the identity must not be given up
            result, text = _explain(error)
            self._counters.certificates.add(result)
            self._problems[identity] = text
            log.warning("no certificate for %s: %s", identity, text)
            return None
        self._problems.pop(identity, None)
        self._ends[identity] = end
        self._counters.certificates.add("OK")
        self._counters.certificate_ends.set(end, identity)
        log.info("%s: certificate until %s", identity, time.strftime("%FT%TZ", time.gmtime(end)))
        return end


def _explain(error: Exception) -> tuple[str, str]:
    """What went wrong, as the metric's label and for the log."""
    match error:
        case RpcError():
            return error.code.name, str(error)
        case OSError():
            return "FILE", str(error)
        case ValueError():
            return "UNUSABLE", str(error)
        case _:
            return "INTERNAL", repr(error)


async def _until(moment: float, changed: asyncio.Event) -> None:
    """Sleep until a Unix time, by the wall clock, as certificates end by it; or until soon after a change."""
    while not changed.is_set() and (left := moment - time.time()) > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left, _LOOK_EVERY)):
                await changed.wait()
    left = moment - time.time()
    if changed.is_set() and left > 0:
        await asyncio.sleep(random.uniform(0, min(_SPREAD, left)))
