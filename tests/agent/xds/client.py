"""A delta xDS client for tests, on a real channel."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio

from agent.xds.server import METHOD, SERVICE
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status
from tests.support.wait import PATIENCE


class Client:
    """One stream to `target`; over TLS when `root`, a PEM file, is given."""

    def __init__(
        self, target: str, root: Path | None = None, metadata: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        if root:
            credentials = grpc.ssl_channel_credentials(root.read_bytes())
            self._channel = grpc.aio.secure_channel(target, credentials)
        else:
            self._channel = grpc.aio.insecure_channel(target)
        self._call = self._channel.stream_stream(
            f"/{SERVICE}/{METHOD}",
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )(metadata=tuple(metadata.items()))

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        await self._channel.close()

    async def ask(self, type_url: str, *names: str, **fields: Any) -> None:
        request = DeltaDiscoveryRequest(
            node=Node(id="test"), type_url=type_url, resource_names_subscribe=names, **fields
        )
        await self._call.write(request)

    async def hear(self) -> DeltaDiscoveryResponse:
        response = await asyncio.wait_for(self._call.read(), PATIENCE)
        assert isinstance(response, DeltaDiscoveryResponse)
        return response

    async def ended(self) -> grpc.StatusCode:
        """How the server ends the stream."""
        return await asyncio.wait_for(self._call.code(), PATIENCE)

    async def acknowledge(self, response: DeltaDiscoveryResponse, refuse: str = "") -> None:
        detail = Status(message=refuse) if refuse else None
        request = DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=response.nonce, error_detail=detail
        )
        await self._call.write(request)
