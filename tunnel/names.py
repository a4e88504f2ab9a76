"""The names of endpoints, and those that clients give, resolved by the node's resolvers while they are used.

The last good answer stays in force while a name server fails or is silent. That a name does not exist, or has
no address, is an answer as well: then there are no endpoints (RFC 8767 section 4).
"""

import asyncio
import logging
import random
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

from tunnel._core import Core
from tunnel.backoff import Backoff
from tunnel.counters import Counters
from tunnel.readable import readable

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

log = logging.getLogger("warren.names")

_LEAST, _MOST = 5.0, 300.0  # seconds for which an answer holds, whatever its TTL
_JITTER = 0.1
_PATIENCE = 5.0  # seconds for an answer
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0
_AT_ONCE = 32  # lookups
_NAMES = 4096  # at most, of one node
_LOOK = 1.0  # seconds between two looks at the resolvers' file
RESOLV_CONF = "/etc/resolv.conf"

Address = IPv4Address | IPv6Address


class Answer(NamedTuple):
    """The addresses in the order of the answer, and for how many seconds they hold."""

    addresses: tuple[Address, ...]
    ttl: float


class LookupFailed(Exception):
    """There is no answer; the text says why."""


class Names:
    """Has the core know the addresses of the names that it needs. `changed` when these may be others."""

    def __init__(self, core: Core, servers: tuple[str, ...], counters: Counters) -> None:
        """servers: addresses of resolvers; none: those of /etc/resolv.conf."""
        self._core = core
        self._counters = counters
        self._lookup = Lookup(servers)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._given: set[str] = set()  # by clients
        self._failing: dict[str, str] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._news = asyncio.Event()
        self._too_many = 0

    @property
    def problems(self) -> list[str]:
        """What does not resolve, and why."""
        too_many = f"{self._too_many} names of endpoints are not resolved: {_NAMES} are the most"
        failing = [f"name {name} does not resolve: {why}" for name, why in sorted(self._failing.items())]
        return [*failing, *([too_many] if self._too_many else [])]

    def changed(self) -> None:
        """The mesh or the pods of this node are others. Any thread of the loop may say so."""
        self._news.set()

    async def run(self) -> None:
        """For good."""
        with readable(self._core.lookups_fd()) as self._news:
            try:
                while True:
                    await self._review()
                    await self._news.wait()
                    self._news.clear()
            finally:
                for task in self._tasks.values():
                    task.cancel()

    async def _review(self) -> None:
        wanted = sorted(await asyncio.to_thread(self._core.names))
        self._too_many = len(wanted) - len(wanted[:_NAMES])
        wanted = wanted[:_NAMES]
        self._given = {*self._core.lookups()}.difference(wanted)
        wanted += self._given
        for name in self._tasks.keys() - wanted:
            self._tasks.pop(name).cancel()
            self._failing.pop(name, None)
            await asyncio.to_thread(self._core.forget_name, name)
        for name in wanted:
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._follow(name))
        self._counters.names.set(len(self._tasks))

    async def _follow(self, name: str) -> None:
        """Ask, and again each time that the answer is out of date."""
        backoff = Backoff(_FIRST_RETRY, _LAST_RETRY, _JITTER)
        while True:
            try:
                async with self._turns:
                    answer = await self._lookup.addresses(name)
            except LookupFailed as error:
                self._fails(name, str(error))
                addresses, holds = None, backoff.next()
            else:
                backoff.reset()
                self._take(name, answer)
                addresses = answer.addresses
                holds = min(max(answer.ttl, _LEAST), _MOST) * random.uniform(1 - _JITTER, 1)
            if not await asyncio.to_thread(self._core.resolve, name, addresses):
                self._news.set()
            await asyncio.sleep(holds)

    def _take(self, name: str, answer: Answer) -> None:
        if not answer.addresses:
            return self._fails(name, "it has no address", "EMPTY")
        self._counters.lookups.add("OK")
        if self._failing.pop(name, None):
            log.info("name %s resolves again", name)

    def _fails(self, name: str, why: str, result: str = "FAILED") -> None:
        self._counters.lookups.add(result)
        if name in self._given:  # the client is told, as often as it asks
            return
        if name not in self._failing:
            stays = "it has no endpoint" if result == "EMPTY" else "the last good answer stays in force"
            log.warning("name %s does not resolve: %s; %s", name, why, stays)
        self._failing[name] = why


class Lookup:
    """Asks name servers for both families at once."""

    def __init__(self, servers: tuple[str, ...]) -> None:
        self._servers = servers
        self._resolver: Resolver | None = None
        self._looked = 0.0

    async def addresses(self, name: str) -> Answer:
        """Raises LookupFailed."""
        answers = await asyncio.gather(
            *(self._ask(name, kind) for kind in ("A", "AAAA")), return_exceptions=True
        )
        found = [one for one in answers if isinstance(one, Answer)]
        if errors := [one for one in answers if isinstance(one, BaseException)]:
            # One family is enough; that there is nothing of the other one says nothing if it failed.
            if not any(one.addresses for one in found):
                raise LookupFailed(str(errors[0])) from errors[0]
            ttl = _LEAST
        else:
            ttl = min(one.ttl for one in found)
        return Answer(tuple(address for one in found for address in one.addresses), ttl)

    async def _ask(self, name: str, kind: str) -> Answer:
        # 8 MB that a tunnel without such names does not need.
        import dns.exception  # noqa: PLC0415
        import dns.resolver  # noqa: PLC0415

        try:
            answer = await self._current().resolve(f"{name}.", kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return Answer((), _LEAST)
        except dns.exception.Timeout:
            raise LookupFailed(f"no answer within {_PATIENCE:.0f} s") from None
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailed(_first_line(error)) from None
        addresses = tuple(ip_address(one.address) for one in answer.rrset or ())
        return Answer(addresses, max(answer.expiration - time.time(), 0))

    def _current(self) -> "Resolver":
        """The resolvers as they are now: the file may have changed."""
        from dns.asyncresolver import Resolver  # noqa: PLC0415

        now = time.monotonic()
        if self._resolver is None or (not self._servers and now - self._looked > _LOOK):
            self._looked = now
            self._resolver = Resolver(RESOLV_CONF, configure=not self._servers)
            if self._servers:
                self._resolver.nameservers = self._servers
            self._resolver.lifetime = _PATIENCE
            self._resolver.use_edns(0, 0, 1232)
        return self._resolver


def _first_line(error: BaseException) -> str:
    with suppress(IndexError):
        return str(error).splitlines()[0]
    return type(error).__name__
