"""A lab whose cluster is on an API server: what it puts there, and that it takes it away again."""

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from agent.errors import SettingsError
from agent.kube.client import Client
from agent.lab import Lab, kernel
from agent.lab.api import Api, copy_kubeconfig
from agent.lab.errors import LabError
from agent.lab.mesh import roles
from agent.model.objects import Key
from tests.support import apiserver
from tests.support.custom import install
from tests.support.leftovers import leftovers

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "first", "namespace": "default"},
    "spec": {"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"], "ports": [{"port": 80}]},
}


@pytest.fixture(scope="module")
def server() -> Iterator[apiserver.Fake]:
    with apiserver.fake() as running:
        install(running.kubeconfig)
        yield running


@pytest.fixture(scope="module")
def lab(server: apiserver.Fake) -> Iterator[Lab]:
    with Lab.up(name=f"wt-api-{os.getpid()}", api=server.kubeconfig) as running:
        yield running


def names(server: apiserver.Fake, plural: str) -> set[str]:
    items = msgspec.json.decode(Client.load(server.kubeconfig).request("GET", f"/api/v1/{plural}"))["items"]
    return {item["metadata"]["name"] for item in items}


def test_a_pod_is_there_as_its_kubelet_would_tell(lab: Lab, server: apiserver.Fake) -> None:
    pod = lab.pod("deploy/web")
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
    stored = msgspec.json.decode(Client.load(server.kubeconfig).request("GET", path))
    assert stored["status"]["podIPs"] == [{"ip": str(pod.ipv4)}, {"ip": str(pod.ipv6)}]
    assert stored["spec"]["nodeName"] == pod.node
    assert stored["metadata"]["uid"] == pod.body["metadata"]["uid"]


def test_each_node_reaches_the_server_through_its_gateway(lab: Lab) -> None:
    assert [role for role in roles(lab.state, lab.state.nodes[0]) if role == "api"]
    content = yaml.safe_load((lab.state.run / "kubeconfig").read_text())
    port = int(content["clusters"][0]["cluster"]["server"].rpartition(":")[2])
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def ask() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain) as sock,
        ):
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return sock.recv(1 << 10)

    for node in lab.nodes:
        assert kernel.in_netns(node.netns, ask).startswith(b"HTTP/1.1 ")


def test_objects_of_a_pod_that_is_deleted_are_gone(lab: Lab, server: apiserver.Fake) -> None:
    pod = lab.pods_of("deploy/web")[-1]
    lab.delete(pod)
    assert pod.name not in names(server, "pods")


def test_down_leaves_nothing_on_the_server() -> None:
    plurals = ("namespaces", "nodes", "pods", "services", "serviceaccounts", "secrets", "configmaps")
    with apiserver.fake() as own:
        install(own.kubeconfig)
        before = {plural: names(own, plural) for plural in plurals}
        with Lab.up(name=f"wt-apidown-{os.getpid()}", nodes=3, api=own.kubeconfig):
            assert names(own, "nodes") == {"node1", "node2", "node3"}
            assert "istio-ca-root-cert" in names(own, "configmaps")
        assert {plural: names(own, plural) for plural in plurals} == before


def test_nodes_of_somebody_elses_are_left_alone(lab: Lab, server: apiserver.Fake) -> None:
    name = f"wt-apitwice-{os.getpid()}"
    with pytest.raises(LabError, match="node1 is there already"):
        Lab.up(name=name, api=server.kubeconfig)
    assert leftovers(name) == []
    assert names(server, "nodes") == {"node1", "node2"}


def test_an_address_that_the_server_refuses_is_chosen_by_it(server: apiserver.Fake) -> None:
    api = Api(server.kubeconfig)
    [first] = api.put([SERVICE])
    [second] = api.put([{**SERVICE, "metadata": {"name": "second", "namespace": "default"}}])
    assert first["spec"]["clusterIP"] == "10.96.7.7" != second["spec"]["clusterIP"]
    api.delete(Key("Service", "default", name) for name in ("first", "second", "none"))
    assert not {"first", "second"} & names(server, "services")


def test_what_the_server_refuses_is_one_line(server: apiserver.Fake) -> None:
    body = {**SERVICE, "metadata": {"name": "first", "namespace": "nowhere"}}
    with pytest.raises(LabError, match=r"the API server: .*nowhere"):
        Api(server.kubeconfig).put([body])


def test_a_server_that_is_away_is_told_after_the_rest_is_gone(tmp_path: Path) -> None:
    name = f"wt-apiaway-{os.getpid()}"
    with apiserver.fake() as away:
        install(away.kubeconfig)
        lab = Lab.up(name=name, api=away.kubeconfig)
    with pytest.raises(LabError, match="may be left on the API server"):
        lab.down()
    assert not lab.state.run.exists() and not lab.state.cgroup.exists()


@pytest.mark.parametrize("text", ["", "a: [", "contexts: []\ncurrent-context: x", "- 1"])
def test_what_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(SettingsError, match=r"--api .*config: no kubeconfig"):
        copy_kubeconfig(tmp_path / "config", tmp_path / "copy", 6443)


def test_a_kubeconfig_keeps_the_servers_name_and_finds_its_files(tmp_path: Path) -> None:
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": "https://api.example.com", "certificate-authority": "ca.pem"}}],
        "users": [{"name": "u", "user": {"tokenFile": "/run/token"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(yaml.safe_dump(content))
    (tmp_path / "run").mkdir()
    assert copy_kubeconfig(tmp_path / "config", tmp_path / "run/copy", 7443) == ("api.example.com", 443)
    copied = yaml.safe_load((tmp_path / "run/copy").read_text())
    assert copied["clusters"][0]["cluster"] == {
        "server": "https://127.0.0.1:7443",
        "tls-server-name": "api.example.com",
        "certificate-authority": str(tmp_path / "ca.pem"),
    }
    assert copied["users"][0]["user"] == {"tokenFile": "/run/token"}
