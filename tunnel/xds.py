"""Configuration from the agent, or from istiod: delta xDS.

We subscribe to everything of two types, acknowledge each push or refuse it with the reasons, and tell after a
reconnection what we still have, so that only differences are sent.
"""

import asyncio
import contextlib
import logging
from typing import NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status
from tunnel import channel
from tunnel._core import Core
from tunnel.backoff import Backoff
from tunnel.counters import Counters
from tunnel.settings import Configuration

log = logging.getLogger("warren.xds")

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"
# Workloads after policies, so that at a first start no workload is served before its policies are known.
TYPES = (AUTHORIZATION, ADDRESS)
_REASONS = 50  # of rejected resources in one refusal: a gRPC message must stay small
_CALM_ENDS = (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
# What is received stays bytes until it is in another thread.
Method: TypeAlias = "grpc.aio.StreamStreamMultiCallable[DeltaDiscoveryRequest, bytes]"
Stream: TypeAlias = "grpc.aio.StreamStreamCall[DeltaDiscoveryRequest, bytes]"


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
        self._backoff = Backoff(0.010, 15.0, 0.2)
        # By type, once it has been received: name -> version of what the core has accepted.
        self._versions: dict[str, dict[str, str]] = {}

    @property
    def missing(self) -> list[str]:
        """The types, by their short names, of which nothing was received since the start."""
        return [_short(type_url) for type_url in TYPES if type_url not in self._versions]

    async def run(self) -> NoReturn:
        """Connect, and again, for ever."""
        while True:
            try:
                await self._session()
                reason = "Complete"
                log.info("%s has closed the stream", self._source.url)
            except grpc.aio.AioRpcError as error:
                reason = "Reconnect" if error.code() in _CALM_ENDS else "Error"
                log.warning("%s: %s: %s", self._source.url, error.code().name, error.details())
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
        async with channel.connect(source.url, source.root) as link:
            method: Method = link.stream_stream(METHOD, DeltaDiscoveryRequest.SerializeToString)
            stream = method(metadata=channel.metadata(self._cluster, token))
            for type_url in TYPES:
                await _send(stream, self._subscription(type_url))
            while isinstance(push := await stream.read(), bytes):
                self._counters.xds_connected.set(1)
                # A push of a whole large mesh takes a while: pods and probes must not wait for it.
                await _send(stream, await asyncio.to_thread(self._take, push))
                self._backoff.reset()

    def _subscription(self, type_url: str) -> DeltaDiscoveryRequest:
        return DeltaDiscoveryRequest(
            node=self._node, type_url=type_url, initial_resource_versions=self._versions.get(type_url, {})
        )

    def _take(self, data: bytes) -> DeltaDiscoveryRequest:
        """Apply one push; gives the answer to it."""
        try:
            push = DeltaDiscoveryResponse.FromString(data)
        except DecodeError:
            return DeltaDiscoveryRequest(error_detail=_invalid("the message is no DeltaDiscoveryResponse"))
        url = push.type_url
        answer = DeltaDiscoveryRequest(type_url=url, response_nonce=push.nonce)
        if url not in TYPES:
            log.warning("a push of %r, to which we did not subscribe", url)
            answer.error_detail.CopyFrom(_invalid(f"not subscribed to {url!r}"))
            return answer
        self._counters.xds_messages.add(url)
        self._counters.xds_bytes.add(url, by=len(data))
        if rejected := self._apply(push):
            self._counters.xds_rejected.add(url, by=len(rejected))
            for name, reason in rejected.items():
                log.warning("%s %s rejected: %s", _short(url), name, reason)
            answer.error_detail.CopyFrom(_invalid(_summary(rejected)))
        return answer

    def _apply(self, push: DeltaDiscoveryResponse) -> dict[str, str]:
        """Hand a push to the core and keep book of the versions; gives the rejected names, with reasons."""
        url, removed = push.type_url, list(push.removed_resources)
        rejected = {
            r.name: f"is a {r.resource.type_url!r}" for r in push.resources if r.resource.type_url != url
        }
        resources = [(r.name, r.resource.value) for r in push.resources if r.name not in rejected]
        rejected |= dict(self._core.apply(url, resources, removed))
        versions = self._versions.setdefault(url, {})
        versions |= {r.name: r.version for r in push.resources if r.name not in rejected}
        for name in removed:
            versions.pop(name, None)
        log.info(
            "%s: %d changed, %d removed, %d rejected",
            _short(url),
            len(resources),
            len(removed),
            len(rejected),
        )
        return rejected


async def _send(stream: Stream, request: DeltaDiscoveryRequest) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # it has ended: the next read says how
        await stream.write(request)


def _node(name: str, cluster: str) -> Node:
    """Who we are, in the form by which istiod knows a node's proxy: type~address~name.namespace~domain."""
    metadata = Struct()
    metadata.update({"NODE_NAME": name, "CLUSTER_ID": cluster})
    return Node(id=f"ztunnel~127.0.0.1~{name}.warren~warren.svc.cluster.local", metadata=metadata)


def _invalid(text: str) -> Status:
    return Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=text)


def _summary(rejected: dict[str, str]) -> str:
    named = [f"{name}: {reason}" for name, reason in list(rejected.items())[:_REASONS]]
    more = len(rejected) - len(named)
    return "; ".join([*named, f"and {more} more"] if more else named)


def _short(type_url: str) -> str:
    return type_url.rpartition(".")[2]
