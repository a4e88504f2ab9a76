"""A real Prometheus: queries of our dashboards, of alerts, Istio's dashboards and Kiali; figures agree."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from agent.lab import Lab
from agent.model.schema.objects import Key
from tests.mesh.conftest import Mesh, in_force, is_current, serving
from tests.support import asking, traffic
from tests.support.prometheus import PORTS, RULES, Prometheus, complaints, page, scraping, total
from tests.support.wait import until

PODS = Path(__file__).with_name("metrics.yaml")
DASHBOARDS = RULES.parent / "dashboards"
PAGE = RULES.parents[2] / "docs" / "metrics.md"
GRPC = 9090
MANY = int(os.environ.get("WARREN_FIGURES", "400"))  # requests, and connections
TEXT = "text/plain;version=0.0.4"
# What promtool holds against Istio's own names.
ISTIOS = re.compile(
    r"^(istio_\w+_milliseconds|process_|istio_build|istio_xds|workload_manager|citadel_server)"
)

ENDS = (
    "source_cluster, source_workload_namespace, source_workload, source_canonical_service, "
    "source_canonical_revision, destination_cluster, destination_service_namespace, destination_service, "
    "destination_service_name, destination_workload_namespace, destination_workload, "
    "destination_canonical_service, destination_canonical_revision"
)
KIALI = [
    f"sum(rate(istio_requests_total{{{match}}}[20s])) by ({ENDS}, request_protocol, response_code, "
    "grpc_response_status, response_flags) > 0"
    for match in ('reporter="source"', 'reporter="destination"', 'request_protocol="grpc"')
]
KIALI += [
    f"sum(rate({metric}{{reporter=~'source|destination'}}[20s])) by ({ENDS}, response_flags)"
    for metric in ("istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total")
]
KIALI += [
    f"sum(rate({metric}{{reporter='destination'}}[20s])) by ({ENDS}) > 0"
    for metric in ("istio_request_messages_total", "istio_response_messages_total")
]
KIALI += [
    f"sum(rate({metric}{{reporter='destination', connection_security_policy='mutual_tls'}}[20s])) by "
    f"({ENDS}, source_principal, destination_principal, connection_security_policy) > 0"
    for metric in ("istio_requests_total", "istio_tcp_connections_opened_total")
]
KIALI += [
    f"histogram_quantile({share}, sum(rate({metric}_bucket{{reporter='destination'}}[20s])) by "
    f"(le, {ENDS}, request_protocol)) > 0"
    for share in ("0.5", "0.95", "0.99", "0.999")
    for metric in ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes")
]
TO_SHOP = 'destination_service=~"shop.default.svc.cluster.local"'
OF_WORKLOAD = 'destination_workload_namespace=~"default", destination_workload=~"shop"'
ISTIO = [
    'round(sum(irate(istio_requests_total{reporter=~"source|waypoint"}[20s])), 0.001)',
    'sum(irate(istio_requests_total{reporter=~"source|waypoint", response_code!~"5.*"}[20s])) '
    '/ sum(irate(istio_requests_total{reporter=~"source|waypoint"}[20s]))',
    'label_join(sum(rate(istio_requests_total{reporter=~"source|waypoint", response_code="200"}[20s])) by '
    "(destination_workload, destination_workload_namespace, destination_service), "
    '"destination_workload_var", ".", "destination_workload", "destination_workload_namespace")',
    "sum(istio_build) by (component, tag)",
]
ISTIO += [
    f"round(sum(irate(istio_requests_total{{{match}, reporter='destination', "
    'connection_security_policy="mutual_tls", source_workload=~".*", source_workload_namespace=~".*"}[20s])) '
    "by (source_workload, source_workload_namespace, response_code, source_canonical_revision), 0.001)"
    for match in (TO_SHOP, OF_WORKLOAD)
]
ISTIO += [
    f"histogram_quantile(0.90, sum(irate({metric}_bucket{{{match}, reporter='destination'}}[20s])) by "
    "(destination_workload, destination_workload_namespace, source_workload, source_app, source_version, "
    "le)) > 0"
    for match in (TO_SHOP, OF_WORKLOAD)
    for metric in ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes")
]
ISTIO += [
    f"sum(rate({metric}{{{match}, reporter='{reporter}'}}[20s])) by "
    "(destination_service, destination_service_name, source_workload, destination_app, destination_version)"
    for match, reporter in ((TO_SHOP, "source"), (OF_WORKLOAD, "destination"))
    for metric in (
        *("istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"),
        *("istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"),
    )
]


class Watched(NamedTuple):
    mesh: Mesh
    prometheus: Prometheus

    @property
    def shop(self) -> tuple[str, int]:
        """By the Service, which has routes."""
        return self.mesh.service("shop", 4), 80

    @property
    def pod(self) -> tuple[str, int]:
        """The pod itself, where nothing is known of requests."""
        return self.mesh.address("shop", 4), 8080


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The lab, scraped, with traffic on all ways: requests, gRPC, connections, and what is refused."""
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([PODS], name=f"wt-metrics-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        watched = Watched(mesh, exits.enter_context(scraping(lab, tmp_path_factory.mktemp("prometheus"))))
        mesh.inside("shop").call(traffic.serve_grpc, GRPC, "shop", "v1")
        lab.cluster.put([*_objects()])
        until(lambda: _holds(watched, "deny"), what="its policies hold")
        for pod in ("near", "far"):
            mesh.inside(pod).call(traffic.start, "http", watched.shop, "shop", 40, 2)
        exits.callback(lambda: [mesh.inside(pod).call(traffic.stop) for pod in ("near", "far")])
        yield watched


def _objects() -> Iterator[dict[str, Any]]:
    """A policy that refuses connections, and one that is refused itself."""
    for name, port, source in (("deny", "1234", {}), ("odd", "1234", {"colour": ["red"]})):
        rule = {
            "to": [{"operation": {"ports": [port]}}],
            **({"from": [{"source": source}]} if source else {}),
        }
        yield {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"action": "DENY", "selector": {"matchLabels": {"app": "near"}}, "rules": [rule]},
        }


# The server's node reads requests only where somebody asks for it: then it counts them, too.
READ = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "read", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "shop"}},
        "rules": [{"to": [{"operation": {"methods": ["GET", "POST"]}}]}],
    },
}


def _knows(watched: Watched, policy: str) -> bool:
    """Whether the server's tunnel has a policy."""
    dump = json.loads(watched.mesh.lab.node("node1").fetch(15000, "/config_dump"))
    return any(one["name"] == f"default/{policy}" for one in dump["policies"])


def _holds(watched: Watched, policy: str) -> bool:
    """Whether it is in force there."""
    return _knows(watched, policy) and is_current(watched.mesh.lab.node("node1"))


def _is_direct(watched: Watched) -> bool:
    """Whether connections to the server's pod go past the tunnel of its node."""
    dump = json.loads(watched.mesh.lab.node("node1").fetch(15000, "/config_dump"))
    address, port = watched.pod
    return any(pair["to"] == f"{address}:{port}" for pair in dump["direct"]["pairs"])


def _poke(watched: Watched) -> None:
    """What happens seldom: gRPC, connections that are carried and direct ones, a refusal."""
    for pod in ("near", "far"):
        watched.mesh.inside(pod).call(asking.ask, watched.pod, "shop")
        watched.mesh.inside(pod).call(traffic.call, (watched.shop[0], GRPC))
    with pytest.raises(OSError):
        watched.mesh.inside("far").call(asking.ask, (watched.mesh.address("near", 4), 1234), "near")


def _answered(watched: Watched, queries: list[str]) -> None:
    """Waits until each query has data; names those that have none."""
    left = list(queries)

    def none_left() -> bool:
        _poke(watched)
        left[:] = [query for query in left if not watched.prometheus.query(query)]
        return not left

    with in_force(watched.mesh, [READ], lambda: not _knows(watched, "read"), "nothing asks for requests"):
        until(lambda: _holds(watched, "read"), what="the server's node reads requests")
        until(lambda: not _is_direct(watched), what="the kernel carries none of them any more")
        try:
            until(none_left, 30)
        except AssertionError:
            pytest.fail("no data for:\n" + "\n".join(left))


def test_every_query_of_our_dashboards_has_data(watched: Watched) -> None:
    queries = [
        target["expr"]
        for file in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(file.read_text())["panels"]
        for target in panel.get("targets", ())
    ]
    assert len(queries) > 50
    _answered(watched, [re.sub(r"\$\w+", ".*", one.replace("$__rate_interval", "20s")) for one in queries])


def test_every_query_of_istios_dashboards_and_kiali_has_data(watched: Watched) -> None:
    _answered(watched, [*KIALI, *ISTIO])


def test_the_series_of_every_alert_are_there_and_none_cries_wolf(watched: Watched) -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["spec"]["groups"] for rule in group["rules"]]
    names = {name for rule in rules for name in re.findall(r"\b(?:warren|istio)_\w+", rule["expr"])}
    _answered(watched, sorted(names))
    firing = {one["labels"]["alertname"] for one in watched.prometheus.get("alerts")["alerts"]}
    assert firing <= {"WarrenPoliciesRefused", "WarrenConnectionsRefused"}


@pytest.mark.parametrize("role", PORTS)
def test_promtool_has_nothing_to_say(watched: Watched, role: str) -> None:
    node = watched.mesh.lab.node("node1")
    kind, text = page(node, PORTS[role], "/metrics", TEXT)
    assert kind.startswith("text/plain")
    said = [line for line in complaints(text) if not ISTIOS.match(line)]
    assert not said


def test_the_page_of_metrics_names_all_and_no_others(watched: Watched) -> None:
    text = PAGE.read_text()
    named = {*re.findall(r"`((?:warren|istio|workload_manager|citadel|process)_\w+)`", text)}
    told = set()
    for node in watched.mesh.lab.nodes:
        for role, port in PORTS.items():
            if role != "ca" or node.name == "node1":
                _, page_ = page(node, port, "/metrics", TEXT)
                told |= {name.removesuffix("_created") for name in re.findall(r"^# TYPE (\w+) ", page_, re.M)}
    assert told - named == set(), "not on the page"
    seldom = {"warren_ca_clock_ahead_seconds", "warren_agent_cni_add_seconds"}
    assert named - told <= seldom, "on the page, and told by nobody"


def figures(watched: Watched, name: str, **labels: str) -> float:
    """A counter, as both tunnels have it now."""
    return total(watched.mesh.lab, name, **labels)


def logged(watched: Watched, *words: str) -> int:
    """Lines of both tunnels' access logs that have these words."""
    lines = [line for node in watched.mesh.lab.nodes for line in node.log("tunnel").read_text().splitlines()]
    return sum(all(word in line for word in words) for line in lines)


def kill_all(watched: Watched) -> None:
    """The tunnel of each node; when others serve. What those count begins at 0."""
    for node in watched.mesh.lab.nodes:
        killed = serving(node)["pid"]
        os.kill(killed, signal.SIGKILL)
        until(lambda: serving(node)["pid"] != killed, what="another one serves")  # noqa: B023
    until(lambda: _holds(watched, "deny"), what="it has the policies")


@pytest.mark.parametrize("pod", ["near", "far"])
def test_requests_sent_counted_and_logged_are_as_many(watched: Watched, pod: str) -> None:
    requests_agree(watched, pod)


@pytest.mark.parametrize(("pod", "security"), [("near", "direct"), ("far", "mutual_tls")])
def test_connections_made_counted_and_logged_are_as_many(watched: Watched, pod: str, security: str) -> None:
    connections_agree(watched, pod, security)


def test_requests_are_as_many_after_each_tunnel_was_killed(watched: Watched) -> None:
    """What was counted before is Prometheus' alone: the new ones begin at 0, and the log goes on."""
    requests_agree(watched, "far")
    kill_all(watched)
    requests_agree(watched, "far", former=logged(watched, *_requests_of("far")))


def _requests_of(pod: str) -> tuple[str, ...]:
    """Words of the lines of its requests."""
    return ("request complete", f"src.workload={pod}", "direction=outbound")


def requests_agree(watched: Watched, pod: str, former: int = 0) -> None:
    """Sent, counted and logged: as many. former: lines of tunnels whose figures are gone."""
    counts = (
        "istio_requests_total",
        "istio_request_bytes_count",
        "istio_request_duration_milliseconds_count",
    )
    for one in ("near", "far"):
        watched.mesh.inside(one).call(traffic.stop)
    sent = MANY // 4 * 4  # over four connections
    labels = {"reporter": "source", "source_workload": pod, "request_protocol": "http"}
    words = _requests_of(pod)
    until(
        lambda: (
            figures(watched, counts[0], reporter="source", source_workload=pod)
            == logged(watched, *words) - former
        ),
        what="all before is counted and logged",
    )
    before, lines = [figures(watched, name, **labels) for name in counts], logged(watched, *words)
    answered = watched.mesh.inside(pod).call(asking.versions, watched.shop, "shop", MANY // 4)
    assert answered == {"v1": sent}
    until(
        lambda: [figures(watched, name, **labels) for name in counts] == [one + sent for one in before],
        what=f"{sent} requests are counted: {before}",
    )
    until(lambda: logged(watched, *words) == lines + sent, what=f"{sent} requests are logged")


def connections_agree(watched: Watched, pod: str, security: str) -> None:
    """Made, counted and logged at both ends: as many."""
    counts = ("istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total")
    both = [(name, reporter) for name in counts for reporter in ("source", "destination")]

    def counted() -> list[float]:
        own = {"source_workload": pod, "connection_security_policy": security}
        return [figures(watched, name, reporter=reporter, **own) for name, reporter in both]

    words = ("connection complete", f"src.workload={pod}")

    made, lines = 0, logged(watched, *words)

    def has_ended() -> bool:
        """One of these: the first of two pods of a node takes the tunnel."""
        nonlocal made
        watched.mesh.inside(pod).call(asking.ask, watched.pod, "shop")
        made += 1
        opened, _, closed, _ = counted()
        return opened == closed > 0

    until(has_ended, what="a connection was counted")
    until(lambda: logged(watched, *words) == lines + 2 * made, what="each end has logged it")
    before, lines = counted(), logged(watched, *words)
    for _ in range(MANY):
        watched.mesh.inside(pod).call(asking.ask, watched.pod, "shop")
    until(lambda: counted() == [one + MANY for one in before], what=f"{MANY} connections: {before}")
    until(lambda: logged(watched, *words) == lines + 2 * MANY, what="each end has logged each")


def test_a_telemetry_is_in_force(watched: Watched) -> None:
    spec = {
        "selector": {"matchLabels": {"app": "far"}},
        "metrics": [
            {
                "overrides": [
                    {"match": {"metric": "RESPONSE_SIZE"}, "disabled": True},
                    {
                        "match": {"metric": "REQUEST_COUNT", "mode": "CLIENT"},
                        "tagOverrides": {
                            "team": {"value": "request.headers['x-team']"},
                            "source_principal": {"operation": "REMOVE"},
                        },
                    },
                ]
            }
        ],
    }
    manifest = {
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "far", "namespace": "default"},
        "spec": spec,
    }
    watched.mesh.lab.cluster.put([manifest])

    def blue() -> float:
        headers = {"x-team": "blue"}
        watched.mesh.inside("far").call(asking.ask, watched.shop, "shop", headers=headers)
        return figures(watched, "istio_requests_total", team="blue", reporter="source")

    until(blue, what="requests are told apart by their team")
    assert not figures(watched, "istio_requests_total", team="blue", source_principal="spiffe://")
    size = "istio_response_bytes_count"
    before = figures(watched, size, reporter="source", source_workload="far")
    assert blue() > 0 and figures(watched, size, reporter="source", source_workload="far") == before
    watched.mesh.lab.cluster.delete(Key("Telemetry", "default", "far"))
