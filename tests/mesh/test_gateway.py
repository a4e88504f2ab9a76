"""Bookinfo from outside of the mesh: the samples' Gateways as they stand, over the machine's loopback."""

import http.client
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.lab import Lab, manifests
from tests.support import asking
from tests.support.samples import SAMPLES
from tests.support.wait import until

KUBE, NETWORKING = (SAMPLES / "bookinfo" / part for part in ("platform/kube", "networking"))
GATEWAY = NETWORKING / "bookinfo-gateway.yaml"
PORT, GATEWAY_API_PORT, ADMIN = 8080, 80, 15000
INGRESS = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"
REVIEWS = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews-outside}
spec:
  hosts: [reviews.example.com]
  gateways: [bookinfo-gateway]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 50}
    - {destination: {host: reviews, subset: v3}, weight: 50}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up([KUBE / "bookinfo.yaml", GATEWAY], name=f"wt-gateway-{os.getpid()}") as lab:
        yield lab


def door(lab: Lab, port: int = PORT) -> asking.Address:
    """Where the machine's loopback leads to a port of the gateway."""
    return "127.0.0.1", next(own for own, there in lab.state.doors.items() if there == port)


def ask(
    lab: Lab, path: str, host: str = "bookinfo.example.com", port: int = PORT, **more: str
) -> asking.Answer:
    return asking.ask(door(lab, port), host, path, headers=more)


@contextmanager
def applied(lab: Lab, *files: Path) -> Iterator[Sequence[manifests.Manifest]]:
    read, _ = manifests.read(files)
    lab.put(read)
    try:
        yield read
    finally:
        lab.withdraw([one.key for one in read])


def test_the_page_shows(lab: Lab) -> None:
    """Through HBONE, with the gateway's identity, and with what a browser's way to it was."""
    until(lambda: ask(lab, "/productpage").status == 200, what="the page")
    page = ask(lab, "/productpage")
    assert page.version == "v1"
    assert page.seen["x-forwarded-proto"] == "http" and page.seen["x-forwarded-for"]
    node = next(pod.node for pod in lab.pods if pod.name.startswith("productpage"))
    assert INGRESS in lab.node(node).fetch(ADMIN, "/connections")


def test_paths_are_those_of_the_virtual_service(lab: Lab) -> None:
    until(lambda: ask(lab, "/productpage").status == 200, what="the page")
    statuses = {path: ask(lab, path).status for path in ("/static/x", "/api/v1/products/0", "/ratings", "/")}
    assert statuses == {"/static/x": 200, "/api/v1/products/0": 200, "/ratings": 404, "/": 404}


def test_the_page_shows_by_the_gateway_api(lab: Lab) -> None:
    """Beside Istio's Gateway of the same name; the listener's port is opened, and closed again."""
    with applied(lab, SAMPLES / "bookinfo" / "gateway-api" / "bookinfo-gateway.yaml"):
        until(lambda: ask(lab, "/productpage", port=GATEWAY_API_PORT).status == 200, what="the page")
        statuses = {
            path: ask(lab, path, port=GATEWAY_API_PORT).status for path in ("/static/x", "/staticx", "/")
        }
        assert statuses == {"/static/x": 200, "/staticx": 404, "/": 404}
        address = door(lab, GATEWAY_API_PORT)
    until(lambda: is_closed(address), what="the listener is gone")
    assert ask(lab, "/productpage").status == 200


def is_closed(address: asking.Address) -> bool:
    try:
        asking.ask(address, "bookinfo.example.com", "/productpage")
    except (OSError, http.client.HTTPException):
        return True
    return False


def test_another_host_has_rules_of_its_own(lab: Lab, tmp_path: Path) -> None:
    """A canary behind the gateway."""
    reviews = tmp_path / "reviews.yaml"
    reviews.write_text(REVIEWS)
    with applied(lab, NETWORKING / "destination-rule-reviews.yaml", reviews):
        until(lambda: ask(lab, "/", "reviews.example.com").status == 200, what="reviews answer")
        counts = Counter(ask(lab, "/", "reviews.example.com").version for _ in range(60))
        assert set(counts) == {"v1", "v3"}, counts
        assert ask(lab, "/", "else.example.com").status == 404
    until(lambda: ask(lab, "/", "reviews.example.com").status == 404, what="the rules are gone")
