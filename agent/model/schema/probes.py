"""Where the kubelet calls a pod from outside of it: probes and lifecycle handlers that are not `exec`."""

from collections.abc import Iterator, Mapping

from msgspec import Struct


class _Target(Struct, frozen=True, gc=False):
    port: int | str = 0
    host: str = ""


class Handler(Struct, frozen=True, gc=False, rename="camel"):
    """What is to be called, of a v1.Probe or a v1.LifecycleHandler."""

    http_get: _Target | None = None
    tcp_socket: _Target | None = None
    grpc: _Target | None = None

    def ports(self, named: Mapping[str, int]) -> Iterator[int]:
        """The ports of the pod; `named` are the container's own.

        A handler with a host of its own is none of this pod's: it may name any address that the kubelet
        reaches, and gets no port opened by that.
        """
        for target in (self.http_get, self.tcp_socket, self.grpc):
            if target and not target.host:
                port = named.get(target.port) if isinstance(target.port, str) else target.port
                # Like the kubelet, which takes "8080" for a number where no port has that name.
                if port is None and str(target.port).isdecimal():
                    port = int(target.port)
                if port and port < 65536:
                    yield port


class Lifecycle(Struct, frozen=True, gc=False, rename="camel"):
    post_start: Handler | None = None
    pre_stop: Handler | None = None
