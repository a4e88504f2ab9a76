"""A gRPC server that answers any unary method with who it is and what it got; and its client.

The functions run in a Resident, or here.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

import grpc

_servers: list[grpc.Server] = []


class Answer(NamedTuple):
    """status: a name of gRPC's. by: the server's name, empty unless it is OK. seen: metadata as it came."""

    status: str
    by: str = ""
    seen: Mapping[str, str] = MappingProxyType({})


class _Echo(grpc.GenericRpcHandler):
    def __init__(self, name: str) -> None:
        self._name = name

    def service(self, details: Any) -> Any:
        seen = {key: str(value) for key, value in details.invocation_metadata}
        answer = json.dumps({"by": self._name, "seen": seen}).encode()
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)


def serve(port: int, name: str) -> None:
    server = grpc.server(ThreadPoolExecutor(4), handlers=[_Echo(name)])
    assert server.add_insecure_port(f"0.0.0.0:{port}") == port
    server.start()
    _servers.append(server)


def call(
    to: tuple[str, int], host: str, method: str, metadata: Sequence[tuple[str, str]] = (), count: int = 1
) -> list[Answer]:
    """So many calls of a method (`/package.Service/Method`) over one connection."""
    options = [("grpc.default_authority", host), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"{to[0]}:{to[1]}", options=options) as channel:
        return [_call(channel, method, metadata) for _ in range(count)]


def _call(channel: grpc.Channel, method: str, metadata: Sequence[tuple[str, str]]) -> Answer:
    ask: Any = channel.unary_unary(method)
    try:
        answer = json.loads(ask(b"", metadata=metadata, timeout=10))
    except grpc.RpcError as error:
        return Answer(error.code().name)
    return Answer("OK", answer["by"], answer["seen"])
