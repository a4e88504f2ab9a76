"""The fake's faults, and what outlasts a restart: what the contract cannot ask of a real server."""

import gc
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import urllib3

from tests.kube.cluster import MERGE, Cluster, Object, names, pod
from tests.support import apiserver, wait
from tests.support.apiserver import Fake

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with apiserver.fake(shortest_token=1) as fake:
        yield fake


@pytest.fixture
def cluster(fake: Fake) -> Iterator[Cluster]:
    cluster = Cluster(fake.kubeconfig)
    yield cluster
    cluster.close()


def test_away_and_back_with_its_data(fake: Fake, cluster: Cluster) -> None:
    version = cluster.version(PODS)
    created = cluster.made(PODS, pod("a"))
    with cluster.watch(PODS) as events:
        assert events.names(1) == [("ADDED", "a")]
        fake.stop()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            events.next()
    with pytest.raises(urllib3.exceptions.HTTPError):
        cluster.ask("GET", PODS)
    fake.start()
    assert cluster.ask("GET", f"{PODS}/a").body == created
    with cluster.watch(PODS, resourceVersion=version) as events:
        assert events.names(1) == [("ADDED", "a")]


def test_connections_that_come_as_it_goes_away_are_closed(fake: Fake) -> None:
    """What is not fails the test: Python warns when garbage is collected."""
    over = threading.Event()

    def connect() -> None:
        while not over.is_set():
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", fake.port)).close()

    with ThreadPoolExecutor() as clients:
        for _ in range(4):
            clients.submit(connect)
        try:
            for _ in range(20):
                fake.stop()
                gc.collect()
                fake.start()
        finally:
            over.set()


def test_history_that_is_compacted_is_gone_for_all_kinds(fake: Fake, cluster: Cluster) -> None:
    version = cluster.version(PODS)
    cluster.made(PODS, pod("a"))
    cluster.made(PODS, pod("b"))
    page = cluster.ask("GET", f"{PODS}?limit=1").body["metadata"]
    with cluster.watch(PODS, resourceVersion=cluster.version(PODS)) as current:
        fake.compact()
        with cluster.watch(PODS, resourceVersion=version) as events:
            kind, status = events.next()
            assert (kind, status["code"]) == ("ERROR", 410)
        assert cluster.ask("GET", f"{PODS}?continue={page['continue']}").status == 410
        cluster.made(PODS, pod("c"))
        assert current.names(1) == [("ADDED", "c")]  # it had seen all there was


@pytest.mark.parametrize("after", [0, 1, 700])
def test_running_watches_are_cut(fake: Fake, cluster: Cluster, after: int) -> None:
    with cluster.watch(PODS, resourceVersion=cluster.version(PODS)) as events:
        wait.until(lambda: fake.watches == 1)
        fake.cut_watches(after)
        for name in "ab" if after else "":
            cluster.made(PODS, pod(name))
        with pytest.raises(urllib3.exceptions.ProtocolError):
            events.rest()
    wait.until(lambda: fake.watches == 0)


def test_new_watches_are_cut_after_so_many_bytes(fake: Fake, cluster: Cluster) -> None:
    cluster.made(PODS, pod("a"))
    lengths = iter([10, 100_000])
    fake.faults.watch_bytes = lambda: next(lengths)
    with cluster.watch(PODS) as events, pytest.raises(urllib3.exceptions.ProtocolError):
        events.next()
    with cluster.watch(PODS) as events:
        assert events.names(1) == [("ADDED", "a")]


def test_events_are_repeated(fake: Fake, cluster: Cluster) -> None:
    fake.faults.repeats = 2
    cluster.made(PODS, pod("a"))
    with cluster.watch(PODS) as events:
        assert events.names(2) == [("ADDED", "a"), ("ADDED", "a")]


def test_events_of_one_kind_are_lost(fake: Fake, cluster: Cluster) -> None:
    version = cluster.version(PODS)
    with cluster.watch(PODS, resourceVersion=version) as events:
        fake.faults.mutes = lambda resource: resource == "pods"
        cluster.made(PODS, pod("lost"))
        with cluster.watch("/api/v1/nodes", resourceVersion=version) as others:
            cluster.made("/api/v1/nodes", {"metadata": {"name": "told"}})
            assert others.names(1) == [("ADDED", "told")]
        fake.faults.mutes = lambda resource: False
        cluster.made(PODS, pod("told"))
        assert events.names(1) == [("ADDED", "told")]


def test_events_of_one_kind_are_held_back(fake: Fake, cluster: Cluster) -> None:
    version, nodes = cluster.version(PODS), "/api/v1/nodes"
    with (
        cluster.watch(PODS, resourceVersion=version) as of_pods,
        cluster.watch(nodes, resourceVersion=version) as of_nodes,
        fake.hold("pods"),
    ):
        cluster.made(PODS, pod("a"))
        cluster.made(nodes, {"metadata": {"name": "later"}})
        assert of_nodes.names(1) == [("ADDED", "later")]
        fake.cut_watches()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            of_pods.next()
    with fake.hold("nodes"), cluster.watch(PODS, resourceVersion=version) as of_pods:
        assert of_pods.names(1) == [("ADDED", "a")]


def test_bookmarks_come_as_often_as_asked(fake: Fake, cluster: Cluster) -> None:
    fake.faults.bookmark_every = 0.05
    version = cluster.version(PODS)
    with cluster.watch(PODS, resourceVersion=version, allowWatchBookmarks="true") as events:
        cluster.made("/api/v1/nodes", {"metadata": {"name": "elsewhere"}})
        kind, bookmark = events.next()
        while int(bookmark["metadata"]["resourceVersion"]) <= int(version):
            kind, bookmark = events.next()
    assert (kind, bookmark["kind"]) == ("BOOKMARK", "Pod")
    assert "annotations" not in bookmark["metadata"]


def test_requests_are_refused_as_asked(fake: Fake, cluster: Cluster) -> None:
    fake.faults.refuse = lambda verb, resource: 503 if (verb, resource) == ("list", "pods") else None
    assert cluster.ask("GET", PODS).status == 503
    assert cluster.ask("GET", "/api/v1/nodes").status == 200


def test_answers_are_late_as_asked(fake: Fake, cluster: Cluster) -> None:
    fake.faults.latency = 5.0
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        cluster.ask("GET", "/version", seconds=0.1)


def test_a_revoked_token_is_nobodys(fake: Fake, cluster: Cluster, tmp_path: Path) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    token = cluster.made(path, {"spec": {}})["status"]["token"]
    bearer = Cluster(fake.kubeconfig_for(token, tmp_path / "kubeconfig"))
    assert bearer.ask("GET", "/api").status == 200
    fake.revoke(token)
    assert bearer.ask("GET", "/api").status == 401
    bearer.close()


def test_a_folder_is_gone_on_with(tmp_path: Path) -> None:
    with apiserver.fake(tmp_path) as fake:
        cluster = Cluster(fake.kubeconfig)
        created = cluster.made(PODS, pod("a", "node", app="web"))
        version = cluster.version(PODS)
        token = cluster.made("/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {}})
        cluster.made(PODS, pod("b"))
        cluster.close()
    with apiserver.fake(tmp_path) as fake:
        cluster = Cluster(fake.kubeconfig)
        assert cluster.ask("GET", f"{PODS}/a").body == created
        assert names(cluster.ask("GET", f"{PODS}?labelSelector=app&fieldSelector=spec.nodeName%3Dnode")) == [
            "a"
        ]
        assert cluster.ask("GET", "/api", token=token["status"]["token"]).status == 200
        with cluster.watch(PODS, resourceVersion=version) as events:
            assert events.next()[1]["code"] == 410  # the history is not kept
        newer = cluster.made(PODS, pod("c"))
        assert int(newer["metadata"]["resourceVersion"]) > int(version)
        cluster.close()


def test_restored_from_a_backup(fake: Fake, cluster: Cluster, tmp_path: Path) -> None:
    cluster.made(PODS, pod("a"))
    fake.save(tmp_path / "backup")
    version = cluster.version(PODS)
    cluster.ask("DELETE", f"{PODS}/a")
    for name in "bc":
        cluster.made(PODS, pod(name))
    fake.restore(tmp_path / "backup")
    assert names(cluster.ask("GET", PODS)) == ["a"]
    assert cluster.version(PODS) == version


def test_groups_that_are_not_known_yet(fake: Fake, cluster: Cluster) -> None:
    group = "coordination.k8s.io"
    with fake.hidden(group):
        assert group not in [one["name"] for one in cluster.ask("GET", "/apis").body["groups"]]
        for path in (f"/apis/{group}", f"/apis/{group}/v1", f"/apis/{group}/v1/leases"):
            assert cluster.ask("GET", path).status == 404
    assert cluster.ask("GET", f"/apis/{group}/v1/leases").status == 200


def test_discovery_is_refused_as_asked(fake: Fake, cluster: Cluster) -> None:
    fake.faults.refuse = lambda verb, resource: 503 if resource == "/apis" else None
    assert cluster.ask("GET", "/apis").status == 503
    assert cluster.ask("GET", "/apis/apps/v1").status == 200


def test_a_process_of_its_own_with_an_audit_log(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    command = [sys.executable, "-m", "tests.support.kubernetes", "--dir", str(tmp_path / "data")]
    command += ["--audit-log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready == f"ready: {tmp_path / 'data' / 'kubeconfig'}\n"
        cluster = Cluster(tmp_path / "data" / "kubeconfig")
        cluster.made(PODS, pod("a"))
        patch = {"status": {"phase": "Running"}}
        cluster.ask("PATCH", f"{PODS}/a/status", patch, media_type=MERGE)
        cluster.ask("GET", PODS, token="garbage")
        with cluster.watch(f"{PODS}", timeoutSeconds=1) as events:
            events.rest()
        cluster.close()
        process.terminate()
        assert process.wait(10) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = [
        (line["stage"], line["verb"], line["resource"], line["subresource"], line["code"]) for line in lines
    ]
    assert found == [
        ("ResponseComplete", "create", "pods", "", 201),
        ("ResponseComplete", "patch", "pods", "status", 200),
        ("ResponseStarted", "list", "pods", "", 401),
        ("ResponseStarted", "watch", "pods", "", 200),
        ("ResponseComplete", "watch", "pods", "", 200),
    ]
    first: Object = lines[0]
    del first["time"], first["agent"]
    assert first == {
        "stage": "ResponseComplete",
        "user": "kubernetes-admin",
        "verb": "create",
        "group": "",
        "resource": "pods",
        "subresource": "",
        "namespace": "default",
        "name": "",
        "code": 201,
        "uri": PODS,
        "reason": "system:masters",
    }
