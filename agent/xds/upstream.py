"""The configuration of `warren discovery`, handed on to a node's tunnels: `warren agent --discovery`.

What is of this host alone (`LOCAL`) the agent answers itself. All else goes through, request by request, on a
stream of its own for each tunnel. A tunnel whose stream ends comes back with the versions of what it has,
which are the same at every replica.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from msgspec import Struct

from agent.errors import describe
from agent.model.resources import LOCAL, Delta, Resource
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_OPTIONS = (
    ("grpc.max_receive_message_length", 200 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
)
Requests = AsyncIterator[DeltaDiscoveryRequest]
_Call = grpc.aio.StreamStreamCall[Any, DeltaDiscoveryResponse]


class Place(Struct, frozen=True):
    """Where discovery is: HOST:PORT; root: PEM, by which its certificate is verified; token: ours, a file."""

    address: str
    root: Path
    token: Path


class Upstream:
    """`watch` says whether it is there, `relay` is one tunnel's stream."""

    def __init__(self, place: Place, told: Callable[[Delta], Awaitable[None]]) -> None:
        """told: of what went to a tunnel, before it goes."""
        self._place, self._told = place, told
        self.reason = "not connected yet"  # why it is not there; empty when it is

    async def watch(self) -> None:
        """Keep `reason` true, for ever: a connection of its own, that carries nothing."""
        while True:
            try:
                async with self._channel() as channel:
                    while True:
                        state = channel.get_state(try_to_connect=True)
                        there = state is grpc.ChannelConnectivity.READY
                        self.reason = "" if there else f"no connection to {self._place.address}"
                        await channel.wait_for_state_change(state)
            except OSError as error:
                self.reason = describe(error)
                await asyncio.sleep(1.0)

    async def relay(
        self,
        requests: Requests,
        keep: Callable[[DeltaDiscoveryRequest], None],
        send: Callable[[DeltaDiscoveryResponse], Awaitable[None]],
    ) -> str:
        """Until either side ends; why discovery did, or empty. `keep` gets the requests that are ours."""
        try:
            metadata = (("authorization", f"Bearer {self._place.token.read_text().strip()}"),)
            channel = self._channel()
        except OSError as error:
            return describe(error)
        async with channel:
            call = channel.stream_stream(
                _METHOD, DeltaDiscoveryRequest.SerializeToString, DeltaDiscoveryResponse.FromString
            )(metadata=metadata)
            asking = asyncio.create_task(_ask(requests, keep, call))
            hearing = asyncio.create_task(self._hear(call, send))
            try:
                await asyncio.wait((asking, hearing), return_when=asyncio.FIRST_COMPLETED)
                # A request that cannot be sent says nothing of the reason, which the stream's end does.
                gone = asking.done() and asking.exception() is None
                return "" if gone else await hearing
            finally:
                for task in (asking, hearing):
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await task

    async def _hear(
        self,
        call: _Call,
        send: Callable[[DeltaDiscoveryResponse], Awaitable[None]],
    ) -> str:
        try:
            async for response in call:
                await self._told(_delta(response))
                await send(response)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "it has closed the stream"

    def _channel(self) -> grpc.aio.Channel:
        """Raises OSError."""
        credentials = grpc.ssl_channel_credentials(self._place.root.read_bytes())
        return grpc.aio.secure_channel(self._place.address, credentials, options=_OPTIONS)


async def _ask(
    requests: Requests,
    keep: Callable[[DeltaDiscoveryRequest], None],
    call: _Call,
) -> None:
    async for request in requests:
        if request.type_url in LOCAL:
            keep(request)
        else:
            await call.write(request)


def _delta(response: DeltaDiscoveryResponse) -> Delta:
    url = response.type_url
    changed = (Resource(url, one.name, one.version, one.resource.value) for one in response.resources)
    return Delta(tuple(changed), tuple((url, name) for name in response.removed_resources))
