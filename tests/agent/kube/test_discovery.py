"""What a server says that it serves, and when that is no proof."""

from collections.abc import Iterator

import pytest

from agent.kube.discovery import Resource, missing
from agent.kube.errors import ApiError
from tests.support.apiserver import Fake
from tests.support.cluster import Cluster
from tests.support.custom import DEFINITIONS, definition
from tests.support.wait import until

LEASES = Resource("coordination.k8s.io", "leases")
NOTHINGS = Resource("coordination.k8s.io", "nothings")
ELSEWHERE = Resource("none.example", "leases")
GATEWAY = Resource("gateway.networking.k8s.io", "grpcroutes")  # has versions of its own


def test_what_no_version_of_a_group_has(cluster: Cluster) -> None:
    assert missing(cluster.client, [LEASES, NOTHINGS, ELSEWHERE]) == {NOTHINGS, ELSEWHERE}
    assert missing(cluster.client, [LEASES]) == set()


@pytest.fixture
def admin(fake: Fake) -> Iterator[Cluster]:
    it = Cluster(fake.kubeconfig)
    yield it
    it.close()


def test_a_kind_that_is_installed(admin: Cluster) -> None:
    assert missing(admin.client, [GATEWAY]) == {GATEWAY}
    for plural in ("httproutes", "grpcroutes"):
        admin.post(definition(plural), *DEFINITIONS)
    until(lambda: not missing(admin.client, [GATEWAY]))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/apis", 403),
        ("/apis", 404),
        ("/apis", 503),
        ("/apis/coordination.k8s.io/v1", 403),
        ("/apis/coordination.k8s.io/v1", 404),
        ("/apis/coordination.k8s.io/v1", 503),
        ("/readyz", 500),
        ("/readyz", 403),
    ],
)
def test_an_answer_that_is_not_whole_proves_nothing(
    fake: Fake, admin: Cluster, path: str, status: int
) -> None:
    fake.faults.refuse = lambda verb, resource: status if resource == path else None
    with pytest.raises(ApiError, match=f"GET {path}: {status}"):
        missing(admin.client, [NOTHINGS, ELSEWHERE])


def test_a_server_without_a_page_on_its_readiness(fake: Fake, admin: Cluster) -> None:
    fake.faults.refuse = lambda verb, resource: 404 if resource == "/readyz" else None
    assert missing(admin.client, [LEASES, NOTHINGS]) == {NOTHINGS}


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"groups": []}', b'{"groups": null}', b"ok", b"\xff"])
def test_an_answer_of_something_else(admin: Cluster, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = admin.client.request
    instead = lambda method, path, **how: body if path == "/apis" else real(method, path, **how)  # noqa: E731
    monkeypatch.setattr(admin.client, "request", instead)
    with pytest.raises(ApiError, match="GET /apis: no "):
        missing(admin.client, [NOTHINGS])
