"""The same backends behind Warren's routes and behind Envoy's."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.lab import Lab
from agent.model.schema.objects import Key
from tests.routes import gateway, translation
from tests.routes.tables import Table
from tests.support import backend, envoy
from tests.support.backend import Answer, Seen
from tests.support.envoy import Envoy
from tests.support.resident import Resident
from tests.support.wait import until

Json = dict[str, Any]
VERSIONS = ("v1", "v2")
_SIDES = ("client", "envoy")  # pods whose requests we and Envoy route
_PORT, _TARGET, _FIRST, _ADMIN = 80, 8080, 20000, 15000
_HTTP = "extensions.filters.http"
_MANAGER = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@dataclass(frozen=True)
class Outcome:
    """What a request came to: its answer, and what each backend saw of it."""

    answer: Answer
    seen: Mapping[str, Sequence[Seen]]


@dataclass(frozen=True)
class Stage:
    """places: processes of ours in pods, by the pods' names."""

    lab: Lab
    places: Mapping[str, Resident]
    tables: Sequence[Table]

    def outcomes(self) -> Iterator[tuple[Table, str, Outcome, Outcome]]:
        """What all requests of all tables come to: with us, and with Envoy."""
        with ThreadPoolExecutor() as pool:
            both = list(pool.map(self._answers, _SIDES))
        cases = [(table, text) for table in self.tables for text in table.ask]
        seen = {name: self.places[name].call(backend.seen) for name in VERSIONS}

        def outcome(side: str, number: int, answer: Answer) -> Outcome:
            found = {name: requests.get(f"{side}-{number}", []) for name, requests in seen.items()}
            return Outcome(answer, found)

        for number, ((table, text), ours, envoys) in enumerate(zip(cases, *both, strict=True)):
            yield table, text, outcome(_SIDES[0], number, ours), outcome(_SIDES[1], number, envoys)

    def _answers(self, side: str) -> list[Answer]:
        found: list[Answer] = []
        for place, table in enumerate(self.tables):
            to = (self._address(table), _PORT) if side == "client" else ("127.0.0.1", _FIRST + place)
            for request in table.requests():
                sent = request.encode(f"{side}-{len(found)}")
                found.append(self.places[side].call(backend.ask, to, sent, request.method))
        return found

    def _address(self, table: Table) -> str:
        service = self.lab.cluster.objects[Key("Service", "default", table.host)]
        return str(service["spec"]["clusterIP"])


@contextmanager
def stage(tables: Sequence[Table], folder: Path) -> Iterator[Stage]:
    """A lab of one node with all tables in force, and Envoy in a pod outside of the mesh."""
    manifest = folder / "lab.yaml"
    objects = [*_pods(), *_services(), *(one for table in tables for one in table.objects())]
    manifest.write_text(yaml.safe_dump_all(objects))
    with ExitStack() as exits:
        name = f"wt-routes-{os.getpid()}"
        lab = exits.enter_context(Lab.up([manifest], nodes=1, name=name, access_log="off"))
        places = {}
        for pod in lab.pods:
            places[pod.name] = Resident(pod.cgroup, pod.netns)
            exits.callback(places[pod.name].close)
        for version in VERSIONS:
            places[version].call(backend.serve, _TARGET, version)
        listeners = [_listener(table, _FIRST + place) for place, table in enumerate(tables)]
        netns = lab.pod("envoy").netns.name
        exits.enter_context(Envoy("envoy", netns, folder, listeners, list(_clusters(lab))))
        node = lab.node("node1")
        hosts = {f"default/{table.host}.default.svc.cluster.local" for table in tables}
        until(lambda: hosts <= _routed(node.fetch(_ADMIN, "/routes")), what="all tables are in force")
        yield Stage(lab, places, tables)


def _routed(text: str) -> set[str]:
    return {one["service"] for one in yaml.safe_load(text)}


def _pods() -> Iterator[Json]:
    for name in ("client", "envoy", *VERSIONS):
        labels = {"app": "echo", "version": name} if name in VERSIONS else {"app": name}
        labels["istio.io/dataplane-mode"] = "none" if name == "envoy" else "ambient"
        meta = {"name": name, "namespace": "default", "labels": labels}
        spec = {"nodeName": "node1", "containers": [{"name": "x", "image": "x"}]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _services() -> Iterator[Json]:
    """`echo` with a subset for each version, a Service for each version, one without endpoints."""
    selectors: dict[str, Json] = {"echo": {"app": "echo"}, "empty": {"app": "nobody"}}
    selectors |= {name: {"app": "echo", "version": name} for name in VERSIONS}
    for name, selector in selectors.items():
        spec = {"selector": selector, "ports": [{"name": "http", "port": _PORT, "targetPort": _TARGET}]}
        meta = {"name": name, "namespace": "default"}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
    subsets = [{"name": name, "labels": {"version": name}} for name in VERSIONS]
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "echo", "namespace": "default"},
        "spec": {"host": "echo", "subsets": subsets},
    }


def _cluster_of(destination: Mapping[str, Any]) -> str:
    return destination.get("subset") or str(destination["host"])


def _clusters(lab: Lab) -> Iterator[Json]:
    for name in VERSIONS:
        yield envoy.cluster(name, (str(lab.pod(name).ipv4), _TARGET))
    yield {"name": "empty", "type": "STATIC", "load_assignment": {"cluster_name": "empty"}}


def _listener(table: Table, port: int) -> Json:
    rules = table.rules if table.kind == "http" else gateway.http_rules(table.rules)
    routes = translation.routes(rules, _PORT, _cluster_of, table.kind == "rules")
    host = {"name": "all", "domains": ["*"], "routes": routes, "include_request_attempt_count": True}
    filters = {
        "fault": f"{_HTTP}.fault.v3.HTTPFault",
        "cors": f"{_HTTP}.cors.v3.Cors",
        "router": f"{_HTTP}.router.v3.Router",
    }
    manager = {
        "stat_prefix": "out",
        "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "use_remote_address": False,
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [host], "validate_clusters": False},
        "http_filters": [envoy.named(name, kind, {}) for name, kind in filters.items()],
    }
    return envoy.listener(("127.0.0.1", port), {"filters": [envoy.named("http", _MANAGER, manager)]})
