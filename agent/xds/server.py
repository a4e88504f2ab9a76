"""Serves the configuration to tunnels: delta xDS over gRPC, on a Unix socket and over TLS."""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import grpc
import grpc.aio
from msgspec import Struct

from agent.errors import SettingsError
from agent.model.resources import AUTHORIZATION, Delta
from agent.model.schema.objects import IPAddress
from agent.model.unread import NOTHING_UNREAD, Unread
from agent.xds.cache import Cache
from agent.xds.certificate import serving_certificate
from agent.xds.histogram import Histogram
from agent.xds.stream import Stream
from agent.xds.subscription import Answer, Rejection
from agent.xds.upstream import Upstream
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "DeltaAggregatedResources"
_OPTIONS = (
    # A client that comes back names all that it has: some 90 bytes for each workload and service.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # Clients look every few seconds whether we are there, also when there is nothing to say.
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
)
log = logging.getLogger(__name__)

# By a caller's `authorization` header and its address: why it hears nothing, empty if it does.
Admit = Callable[[str | None, str], Awaitable[str]]
# Policies, by name, that a client asks for again: their tokens name a key that it does not have.
UnknownKey = Callable[[Iterable[str]], None]
_Context = grpc.aio.ServicerContext[DeltaDiscoveryRequest, DeltaDiscoveryResponse]


class Subscribed(Struct, frozen=True):
    """One type of resource of one client.

    current: whether it has accepted everything as it is now.
    version: of the configuration when it last accepted something of this type, None before that.
    rejection: the last answer, if it was a refusal.
    """

    client: str
    type_url: str
    current: bool
    version: str | None
    rejection: Rejection | None


class XdsServer:
    """`update` what is served, whenever; `start` once there is a whole configuration to serve."""

    def __init__(
        self, upstream: Upstream | None = None, unknown_key: UnknownKey = lambda policies: None
    ) -> None:
        """upstream: answers all that is not of this host alone, in our place."""
        self.cache = Cache()
        self._upstream = upstream
        self._unknown_key = unknown_key
        self._admit: Admit | None = None
        self.convergence = Histogram()  # seconds from when a change is heard of until a client has it
        self._streams: set[Stream] = set()
        self._answers: Counter[tuple[str, str]] = Counter()  # of clients that are gone
        self._server: grpc.aio.Server | None = None

    def update(
        self, delta: Delta, version: str, unread: Unread = NOTHING_UNREAD, since: float | None = None
    ) -> None:
        """Serve a different configuration from now on.

        unread: objects that are there and cannot be read: a client that comes with what they made keeps it.
        since: when the change was heard of, on the monotonic clock.
        """
        if unread != self.cache.unread:
            self.cache.unread = unread
            for stream in self._streams:
                stream.news.set()
        self.cache.apply(delta, version, since)

    async def start(self, socket: Path, address: IPAddress | None = None, port: int = 0) -> int:
        """Listen on a Unix socket (mode 0600) and, over TLS, on an address; gives the port, if it was 0.

        address: None for none.

        Raises SettingsError when one of them cannot be listened on.
        """
        server = self._new(self._relay if self._upstream else self._serve)
        _bind(server, f"unix:{socket}", f"--run-dir: {socket}", None)
        place, bound = "", 0
        if address:
            place = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
            key, chain = serving_certificate(socket.parent, address)
            credentials = grpc.ssl_server_credentials([(key, chain)])
            bound = _bind(server, place, f"--xds-address {place}", credentials)
        await server.start()
        self._server = server
        log.info("serving configuration on %s", " and ".join(filter(None, [str(socket), place])))
        return bound

    async def start_remote(
        self, place: tuple[IPAddress, int], credentials: grpc.ServerCredentials, admit: Admit
    ) -> int:
        """Listen over TLS alone, for whom `admit` lets in; gives the port. Raises SettingsError."""
        address, port = place
        text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        self._admit, server = admit, self._new(self._serve)
        bound = _bind(server, text, f"--listen {text}", credentials)
        await server.start()
        self._server = server
        log.info("serving configuration on %s", text)
        return bound

    def _new(self, serve: "_Serve") -> grpc.aio.Server:
        server = grpc.aio.server(options=_OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(
            serve, DeltaDiscoveryRequest.FromString, DeltaDiscoveryResponse.SerializeToString
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        return server

    async def stop(self) -> None:
        """Cut all streams: clients keep what they have, and come back."""
        if self._server:
            await self._server.stop(grace=None)
            self._server = None

    def subscribed(self) -> Iterator[Subscribed]:
        """Every type of every client that is connected."""
        for stream in self._streams:
            for url, one in stream.subscriptions.items():
                yield Subscribed(str(stream), url, one.current, one.acked_version, one.rejection)

    def answers(self) -> Counter[tuple[str, str]]:
        """How often clients have answered `ack` or `nack`, by type URL and that word, since the start."""
        total = Counter(self._answers)
        for stream in self._streams:
            total.update(_answers(stream))
        return total

    async def _serve(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: _Context) -> None:
        """One client, until it goes: its requests change the stream's state, which says what to send."""
        if self._admit:
            metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
            if why := await self._admit(metadata.get("authorization"), context.peer()):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, why)
        stream = Stream(context.peer(), self.cache)
        self._streams.add(stream)
        listening = asyncio.create_task(self._listen(stream, requests))
        try:
            while not listening.done():
                stream.news.clear()
                while response := stream.next_response():
                    await context.write(response)
                await stream.news.wait()
            if error := listening.exception():
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        finally:
            listening.cancel()
            self._forget(stream)
            log.info("xDS client %s disconnected", stream)

    async def _relay(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: _Context) -> None:
        """One client of whom discovery answers what is not of this host alone."""
        assert self._upstream
        stream, writing = Stream(context.peer(), self.cache), asyncio.Lock()
        self._streams.add(stream)

        async def send(response: DeltaDiscoveryResponse) -> None:
            async with writing:
                await context.write(response)

        def keep(request: DeltaDiscoveryRequest) -> None:
            if answer := stream.receive(request):
                self._heard(stream, answer)

        async def answer_ours() -> None:
            while await stream.news.wait():
                stream.news.clear()
                while response := stream.next_response():
                    await send(response)

        answering = asyncio.create_task(answer_ours())
        try:
            if why := await self._upstream.relay(requests, keep, send):
                log.warning("discovery: %s; tunnels keep what they have", why)
                await context.abort(grpc.StatusCode.UNAVAILABLE, f"discovery: {why}")
        finally:
            answering.cancel()
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self._streams.remove(stream)
        stream.close()
        self._answers.update(_answers(stream))

    def _heard(self, stream: Stream, answer: Answer) -> None:
        if rejection := answer.rejection:
            what = ", ".join(rejection.names) or "the configuration"
            log.warning("xDS client %s rejected %s: %s", stream, what, rejection.reason)
            return
        if answer.since is not None:
            self.convergence.observe(time.monotonic() - answer.since)
        log.debug("xDS client %s has %s", stream, " ".join(answer.names))

    async def _listen(self, stream: Stream, requests: AsyncIterator[DeltaDiscoveryRequest]) -> None:
        try:
            async for request in requests:
                if not stream.subscriptions:
                    log.info("xDS client %s connected", request.node.id or stream.peer)
                if request.type_url == AUTHORIZATION:
                    self._unknown_key(request.resource_names_subscribe)
                if answer := stream.receive(request):
                    self._heard(stream, answer)
        finally:
            stream.news.set()


_Serve = Callable[[AsyncIterator[DeltaDiscoveryRequest], _Context], Awaitable[None]]


def _answers(stream: Stream) -> dict[tuple[str, str], int]:
    acks = {(url, "ack"): one.acks for url, one in stream.subscriptions.items()}
    return acks | {(url, "nack"): one.nacks for url, one in stream.subscriptions.items()}


def _bind(
    server: grpc.aio.Server, target: str, setting: str, credentials: grpc.ServerCredentials | None
) -> int:
    former = os.umask(0o177)
    try:
        if credentials:
            bound = server.add_secure_port(target, credentials)
        else:
            bound = server.add_insecure_port(target)
    except RuntimeError:
        bound = 0
    finally:
        os.umask(former)
    if not bound:
        raise SettingsError(f"{setting}: cannot listen there; is another agent running, is the address ours?")
    return bound
