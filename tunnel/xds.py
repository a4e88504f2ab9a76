"""Configuration from the agent, or from istiod: delta xDS.

We subscribe to everything of five types, acknowledge each push or refuse it with the reasons, and tell after
a reconnection what we still have, so that only differences are sent. On demand we subscribe by name to those
workloads and services that connections of this node meet.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from tunnel._core import Core, discovery_request
from tunnel.backoff import Backoff
from tunnel.channel import Channel, Code, RpcError, Stream, metadata
from tunnel.counters import Counters
from tunnel.readable import readable
from tunnel.settings import Configuration

log = logging.getLogger("warren.xds")

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"
TRAFFIC = "type.googleapis.com/warren.mesh.Traffic"
ROUTES = "type.googleapis.com/warren.routes.ServiceRoutes"
TELEMETRY = "type.googleapis.com/warren.telemetry.Telemetry"
CREDENTIAL = "type.googleapis.com/warren.routes.Credential"
# Workloads last: at a first start none is served before it is known who may reach it, whether it may leave
# the mesh, what is routed, and what is told of it. The first four only our agent knows: it answers in this
# order, and others are not waited for.
TYPES = (TRAFFIC, TELEMETRY, CREDENTIAL, ROUTES, AUTHORIZATION, ADDRESS)
# Of a gateway, which is nobody's before it has all of these.
LISTENERS = "type.googleapis.com/warren.routes.GatewayListeners"
_AWAITED = (AUTHORIZATION, ADDRESS)
_REASONS = 50  # of rejected resources in one refusal: a gRPC message must stay small
# Of our agent: a large mesh comes in parts, and what is asked for by an address comes under its own name.
_FEATURES = ("warren.parts", "warren.aliases")
_UNUSED = 600.0  # seconds after which what was asked for, and is not needed any more, is forgotten
_LOOK_EVERY = 60.0  # seconds
_CALM_ENDS = (Code.CANCELLED, Code.DEADLINE_EXCEEDED)
_Node: TypeAlias = tuple[str, Sequence[tuple[str, str]], Sequence[str]]


class XdsClient:
    """Keeps a stream of configuration open, and the core up to date. The last good one stays in force."""

    def __init__(
        self, core: Core, source: Configuration, node: str, cluster: str, counters: Counters
    ) -> None:
        self._core = core
        self._source = source
        self._node = _node(node, cluster)
        self._cluster = cluster
        self._counters = counters
        self.changed: Callable[[], None] = lambda: None  # called after each push
        # Our own agent is not overrun by one tunnel, which ought to be there as soon as it is.
        self._types = (*TYPES, LISTENERS) if source.gateway else TYPES
        self._backoff = Backoff(0.010, 1.0 if source.url.startswith("unix:") else 15.0, 0.2)
        self._received: set[str] = set()  # types
        self._changed: dict[str, float] = {}  # by type: when something of it was last received
        self._tells_versions = True  # of what it still has, when it comes back
        self._whole: set[str] = set()  # types of which the next push is all that there is

    @property
    def missing(self) -> list[str]:
        """The types, by their short names, of which not all was received since the start, and has to be."""
        awaited = (AUTHORIZATION,) if self._source.on_demand else _AWAITED
        awaited = (*awaited, LISTENERS) if self._source.gateway else awaited
        return [_short(type_url) for type_url in awaited if type_url not in self._received]

    @property
    def on_demand(self) -> bool:
        """Whether only a part of the mesh is held."""
        return self._source.on_demand

    def ages(self) -> dict[str, float]:
        """Seconds since something of a type was last received, by type."""
        now = time.monotonic()
        return {url: now - then for url, then in self._changed.items()}

    async def run(self) -> NoReturn:
        """Connect, and again, for ever."""
        while True:
            try:
                await self._session()
                reason = "Complete"
                log.info("%s has closed the stream", self._source.url)
            except RpcError as error:
                reason = "Reconnect" if error.code in _CALM_ENDS else "Error"
                log.warning("%s: %s", self._source.url, error)
                # Of a large mesh the versions are more than some servers take: 4 MiB are 50,000 workloads.
                self._tells_versions &= error.code != Code.RESOURCE_EXHAUSTED
            except OSError as error:
                reason = "ConnectionError"
                log.warning("%s: %s", self._source.url, error)
            finally:
                self._counters.xds_connected.set(0)
            self._counters.xds_ends.add(reason)
            await asyncio.sleep(self._backoff.next())

    async def _session(self) -> None:
        source = self._source
        token = None if source.url.startswith("unix:") else source.token
        link = Channel(source.url, source.root)
        with link.stream(METHOD, metadata(self._cluster, token)) as stream:
            for type_url in self._types:
                stream.send(await asyncio.to_thread(self._subscription, type_url))
            asking = [asyncio.create_task(self._ask(stream)), asyncio.create_task(self._ask_for_keys(stream))]
            try:
                while (push := await stream.read()) is not None:
                    self._counters.xds_connected.set(1)
                    # A push of a whole large mesh takes a while: pods and probes must not wait for it.
                    stream.send(await asyncio.to_thread(self._take, push))
                    self.changed()
                    self._backoff.reset()
            finally:
                for task in asking:
                    task.cancel()

    def _subscription(self, type_url: str) -> bytes:
        """The first request for a type, with the versions of what the core still has."""
        asked = [self._source.gateway] if type_url == LISTENERS else []
        dropped: list[str] = []
        partly = self._source.on_demand and type_url == ADDRESS
        if partly and not (asked := self._core.demanded()):
            # Everything asked for and dropped at once is how to ask for nothing.
            asked = dropped = ["*"]
        request = discovery_request(type_url, node=self._node, subscribe=asked, unsubscribe=dropped)
        if not self._tells_versions and not partly:
            self._whole.add(type_url)
            return request
        return request + self._core.held(type_url)

    async def _ask(self, stream: Stream) -> None:
        """On demand: ask for what the core meets, and forget what it does not need any more."""
        if not self._source.on_demand:
            return
        loop, core = asyncio.get_running_loop(), self._core
        descriptor = core.demand_fd()
        assert descriptor is not None  # the core is on demand as we are
        with readable(descriptor) as news:
            look_at = loop.time() + _LOOK_EVERY
            while True:
                try:
                    async with asyncio.timeout_at(look_at):
                        await news.wait()
                except TimeoutError:
                    look_at += _LOOK_EVERY
                    await asyncio.to_thread(core.forget_unused, _UNUSED)
                news.clear()
                asked, dropped = core.demand_news()
                if asked or dropped:
                    stream.send(discovery_request(ADDRESS, subscribe=asked, unsubscribe=dropped))

    async def _ask_for_keys(self, stream: Stream) -> None:
        """Ask again for policies whose tokens name unknown keys: the control plane fetches their key sets."""
        with readable(self._core.unknown_keys_fd()) as news:
            while await news.wait():
                news.clear()
                names = self._core.unknown_keys()
                # Asked for and dropped at once: all of them we have as it is.
                stream.send(discovery_request(AUTHORIZATION, subscribe=names, unsubscribe=names))

    def _take(self, data: bytes) -> bytes:
        """Apply one push; gives the answer to it."""
        try:
            push = self._core.apply(data, [*self._whole])
        except ValueError:
            return discovery_request("", error=_invalid("the message is no DeltaDiscoveryResponse"))
        url = push.type_url
        if url not in self._types:
            log.warning("ignored a push of %r: not subscribed", url)
            return discovery_request(url, nonce=push.nonce, error=_invalid(f"not subscribed to {url!r}"))
        self._whole.discard(url)
        self._counters.xds_messages.add(url)
        self._changed[url] = time.monotonic()
        self._counters.xds_bytes.add(url, by=len(data))
        if not push.partial:
            self._received.add(url)
        if rejected := push.rejected:
            self._counters.xds_rejected.add(url, by=len(rejected))
            for name, reason in rejected:
                log.warning("%s %s rejected: %s", _short(url), name, reason)
        figures = (push.changed, push.removed, len(rejected))
        log.debug("%s: %d changed, %d removed, %d rejected", _short(url), *figures)
        error = _invalid(_summary(rejected)) if rejected else None
        return discovery_request(url, nonce=push.nonce, error=error)


def _node(name: str, cluster: str) -> _Node:
    """Who we are, in the form by which istiod knows a node's proxy: type~address~name.namespace~domain."""
    own = f"ztunnel~127.0.0.1~{name}.warren~warren.svc.cluster.local"
    return own, [("NODE_NAME", name), ("CLUSTER_ID", cluster)], _FEATURES


def _invalid(text: str) -> tuple[int, str]:
    return Code.INVALID_ARGUMENT, text


def _summary(rejected: list[tuple[str, str]]) -> str:
    named = [f"{name}: {reason}" for name, reason in rejected[:_REASONS]]
    more = len(rejected) - len(named)
    return "; ".join([*named, f"and {more} more"] if more else named)


def _short(type_url: str) -> str:
    return type_url.rpartition(".")[2]
