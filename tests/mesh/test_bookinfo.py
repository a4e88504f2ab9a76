"""Istio's bookinfo samples as they stand: each does what its name says."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.lab import Lab, manifests
from tests.mesh.conftest import Mesh
from tests.support import asking
from tests.support.samples import SAMPLES
from tests.support.wait import until

KUBE, NETWORKING, GATEWAY_API = (
    SAMPLES / "bookinfo" / part for part in ("platform/kube", "networking", "gateway-api")
)
PODS = (
    "bookinfo",
    "bookinfo-versions",
    "bookinfo-details-v2",
    "bookinfo-ratings-v2",
    "bookinfo-ratings-v2-mysql",
)
MYSQL_VM = "bookinfo-ratings-v2-mysql-vm"
VERSIONS = {
    "productpage": {"v1"},
    "details": {"v1", "v2"},
    "reviews": {"v1", "v2", "v3"},
    "ratings": {"v1", "v2", "v2-mysql", "v2-mysql-vm"},
}
JASON = {"end-user": "jason"}
MANY = 2000
TUNNEL_METRICS = 15020


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """Bookinfo on two nodes; requests come from the page's pod."""
    files = [KUBE / f"{name}.yaml" for name in (*PODS, MYSQL_VM)]
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up(files, name=f"wt-bookinfo-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        yield mesh


def address(mesh: Mesh, service: str) -> asking.Address:
    return mesh.service(service, 4), 9080


def answers(mesh: Mesh, service: str, count: int, headers: dict[str, str] | None = None) -> Counter[str]:
    """The versions of a service that the page's pod gets."""
    page = mesh.inside(page_of(mesh))
    return page.call(asking.versions, address(mesh, service), service, count, headers)


def ask(mesh: Mesh, service: str, headers: dict[str, str] | None = None) -> asking.Answer:
    page = mesh.inside(page_of(mesh))
    return page.call(asking.ask, address(mesh, service), service, headers=headers)


def page_of(mesh: Mesh) -> str:
    return next(pod.name for pod in mesh.lab.pods if pod.name.startswith("productpage"))


def is_unrouted(mesh: Mesh) -> bool:
    """All versions of all services answer."""
    return all(spread_over_connections(mesh, service) == versions for service, versions in VERSIONS.items())


def spread_over_connections(mesh: Mesh, service: str, headers: dict[str, str] | None = None) -> set[str]:
    """As `answers`, with a connection for each request: without a route that is what is balanced."""
    replies = (ask(mesh, service, headers) for _ in range(40))
    return {reply.version or str(reply.status) for reply in replies}


@contextmanager
def applied(mesh: Mesh, *files: Path) -> Iterator[None]:
    """The files' objects as long as it lasts, and the mesh as it was before and afterwards."""
    until(lambda: is_unrouted(mesh), what="no route is in force")
    read, _ = manifests.read(files)
    mesh.lab.put(read)
    try:
        yield
    finally:
        mesh.lab.withdraw([one.key for one in read])


def all_subsets(*names: str) -> list[Path]:
    return [NETWORKING / f"{name}.yaml" for name in ("destination-rule-all", *names)]


def gives(mesh: Mesh, service: str, *wanted: str, headers: dict[str, str] | None = None) -> None:
    """Waits until these versions answer, and no others; then they go on to."""
    until(
        lambda: spread_over_connections(mesh, service, headers) == set(wanted), what=f"{service} is {wanted}"
    )
    assert set(answers(mesh, service, 25, headers)) == set(wanted)


def shares(mesh: Mesh, service: str, **parts: float) -> None:
    """`MANY` requests are spread so, within 4.5 standard deviations: one run of 100,000 is not."""
    until(
        lambda: spread_over_connections(mesh, service) <= set(parts),
        what=f"{service} is spread over {set(parts)}",
    )
    counts = answers(mesh, service, MANY // 4)
    assert set(counts) == set(parts)
    for version, part in parts.items():
        deviation = math.sqrt(MANY * part * (1 - part))
        assert abs(counts[version] - MANY * part) <= 4.5 * deviation, counts


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("virtual-service-all-v1", dict.fromkeys(VERSIONS, "v1")),
        ("virtual-service-reviews-v3", {"reviews": "v3"}),
        ("virtual-service-ratings-db", {"reviews": "v3", "ratings": "v2"}),
        ("virtual-service-ratings-mysql", {"reviews": "v3", "ratings": "v2-mysql"}),
        ("virtual-service-ratings-mysql-vm", {"reviews": "v3", "ratings": "v2-mysql-vm"}),
        ("virtual-service-details-v2", {"details": "v2"}),
    ],
)
@pytest.mark.parametrize("rules", ["destination-rule-all", "destination-rule-all-mtls"])
def test_all_of_a_service_goes_to_one_version(
    mesh: Mesh, name: str, wanted: dict[str, str], rules: str
) -> None:
    with applied(mesh, NETWORKING / f"{rules}.yaml", NETWORKING / f"{name}.yaml"):
        for service, version in wanted.items():
            gives(mesh, service, version)


def test_a_rule_that_names_subsets_alone_changes_nothing(mesh: Mesh) -> None:
    with applied(mesh, NETWORKING / "destination-rule-reviews.yaml"):
        assert spread_over_connections(mesh, "reviews") == VERSIONS["reviews"]


@pytest.mark.parametrize(
    ("name", "jasons", "others"),
    [("virtual-service-reviews-test-v2", "v2", "v1"), ("virtual-service-reviews-jason-v2-v3", "v2", "v3")],
)
def test_jason_goes_elsewhere(mesh: Mesh, name: str, jasons: str, others: str) -> None:
    with applied(mesh, *all_subsets(name)):
        gives(mesh, "reviews", others)
        gives(mesh, "reviews", jasons, headers=JASON)
        gives(mesh, "reviews", others, headers={"end-user": "jasonette"})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("virtual-service-reviews-50-v3", {"v1": 0.5, "v3": 0.5}),
        ("virtual-service-reviews-80-20", {"v1": 0.8, "v2": 0.2}),
        ("virtual-service-reviews-90-10", {"v1": 0.9, "v2": 0.1}),
        ("virtual-service-reviews-v2-v3", {"v2": 0.5, "v3": 0.5}),
    ],
)
def test_weights(mesh: Mesh, name: str, parts: dict[str, float]) -> None:
    with applied(mesh, *all_subsets(name)):
        shares(mesh, "reviews", **parts)


def test_jason_waits_for_seven_seconds(mesh: Mesh) -> None:
    with applied(mesh, *all_subsets("virtual-service-ratings-test-delay")):
        gives(mesh, "ratings", "v1")
        delayed = ask(mesh, "ratings", JASON)
        assert (delayed.status, delayed.version) == (200, "v1")
        assert 7.0 <= delayed.seconds < 7.5
        assert ask(mesh, "ratings").seconds < 1


def test_jason_gets_an_error(mesh: Mesh) -> None:
    with applied(mesh, *all_subsets("virtual-service-ratings-test-abort")):
        gives(mesh, "ratings", "v1")
        failed = ask(mesh, "ratings", JASON)
        assert (failed.status, failed.body) == (500, b"fault filter abort")
        assert ask(mesh, "ratings").status == 200


def test_requests_are_told_in_the_log_and_the_metrics(mesh: Mesh) -> None:
    with applied(mesh, *all_subsets("virtual-service-ratings-test-abort")):
        gives(mesh, "ratings", "v1")
        node = mesh.lab.node(mesh.lab.pod(page_of(mesh)).node)
        before = len(node.log("tunnel").read_text())
        assert ask(mesh, "ratings", JASON).status == 500

        def told() -> list[str]:
            lines = node.log("tunnel").read_text()[before:].splitlines()
            return [line for line in lines if "request complete" in line and "response_code=500" in line]

        (line,) = until(told, what="the request is logged")
        fields = dict(part.split("=", 1) for part in line.split("\t")[4:])
        assert (fields["response_flags"], fields["method"], fields["path"]) == ("FI", "GET", "/")
        assert fields["dst.service"] == "ratings.default.svc.cluster.local"
        counted = [
            sample
            for sample in node.fetch(TUNNEL_METRICS, "/metrics").splitlines()
            if sample.startswith("istio_requests_total{") and 'response_code="500"' in sample
        ]
        assert any(
            'response_flags="FI"' in one and 'destination_service_name="ratings"' in one for one in counted
        )


def test_everybody_gets_an_error_of_ones_own_number(mesh: Mesh) -> None:
    with applied(mesh, NETWORKING / "fault-injection-details-v1.yaml"):
        gives(mesh, "details", "555")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("route-all-v1", dict.fromkeys(VERSIONS, "v1")),
        ("route-reviews-v1", {"reviews": "v1"}),
        ("route-reviews-v3", {"reviews": "v3"}),
    ],
)
def test_a_route_of_the_gateway_api_leads_to_one_version(
    mesh: Mesh, name: str, wanted: dict[str, str]
) -> None:
    with applied(mesh, GATEWAY_API / f"{name}.yaml"):
        for service, version in wanted.items():
            gives(mesh, service, version)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("route-reviews-50-v3", {"v1": 0.5, "v3": 0.5}), ("route-reviews-90-10", {"v1": 0.9, "v2": 0.1})],
)
def test_weights_of_the_gateway_api(mesh: Mesh, name: str, parts: dict[str, float]) -> None:
    with applied(mesh, GATEWAY_API / f"{name}.yaml"):
        shares(mesh, "reviews", **parts)
