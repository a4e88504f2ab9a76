"""A lab whose cluster is on an API server: what it puts there, and that it takes it away again."""

import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from agent.errors import SettingsError
from agent.kube.client import Client
from agent.lab import Lab, kernel
from agent.lab.api import Api, copy_kubeconfig
from agent.lab.errors import LabError
from agent.lab.mesh import roles
from tests.support import apiserver
from tests.support.cluster import Cluster
from tests.support.custom import install, policy
from tests.support.leftovers import leftovers
from tests.support.wait import until

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "first", "namespace": "default"},
    "spec": {"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"], "ports": [{"port": 80}]},
}


SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, mine: "yes"}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
UNJUDGED = {"rules": [{"when": [{"key": "connection.sni", "values": ["a"]}]}]}  # of which its status tells
_GIVEN = ("resourceVersion", "generation")
POLICIES = "apis", "security.istio.io", "v1", "authorizationpolicies"
PLURALS = (
    *(("api", "v1", plural) for plural in ("namespaces", "nodes", "pods", "services", "serviceaccounts")),
    *(("api", "v1", plural) for plural in ("secrets", "configmaps", "events")),
    ("apis", "coordination.k8s.io", "v1", "leases"),
    POLICIES,
)


def named(kind: str, name: str, **metadata: Any) -> Any:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **metadata}}


def within(namespace: str, plural: str) -> tuple[str, ...]:
    return "api", "v1", "namespaces", namespace, plural


def everything(admin: Cluster) -> dict[tuple[str, str, str], Any]:
    """All objects of all kinds, but for what any write counts up."""
    found = {}
    for path in PLURALS:
        for item in admin.get(*path)["items"]:
            meta = item["metadata"] = {k: v for k, v in item["metadata"].items() if k not in _GIVEN and v}
            if not (item.get("status") or {}).get("conditions", True):
                del item["status"]
            found[path[-1], meta.get("namespace", ""), meta["name"]] = item
    return found


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


def test_what_the_authority_revokes_reaches_tunnels(lab: Lab, server: apiserver.Fake) -> None:
    """By the ConfigMap, as in a cluster; and who is revoked gets another certificate."""
    revoke = [sys.executable, "-m", "agent.cli.main", "ca", "revoke", f"--kubeconfig={server.kubeconfig}"]
    log = lab.nodes[0].log("ca").read_text()
    identity = lab.pod("deploy/client").identity
    [serial, *_] = re.findall(rf"{identity} for \S+ until \S+, serial (\w+)", log)
    subprocess.run([*revoke, serial], check=True)
    told = "ca-crl.pem: 1 certificate revocation list"
    for node in lab.nodes:
        until(lambda: told in node.log("tunnel").read_text(), 40, f"{node.name} has the list")  # noqa: B023
    ask = ["curl", "-sf", "--max-time", "2", "http://web/"]
    until(lambda: lab.pod("deploy/client").run(ask, check=False).returncode == 0, 40, "it has another")


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


def test_down_leaves_others_objects_as_they_were(tmp_path: Path) -> None:
    """A cluster in use: all that is there before is there afterwards, and like it was."""
    (tmp_path / "shop.yaml").write_text(SHOP)
    with apiserver.fake() as own:
        install(own.kubeconfig)
        admin = Cluster(own.kubeconfig)
        for namespace in ("shop", "warren-system", "other"):
            admin.post(named("Namespace", namespace, labels={"istio.io/dataplane-mode": "none"}),
                       "api", "v1", "namespaces")  # fmt: skip
            for name in ("istio-ca-root-cert", "istio-ca-crl"):
                theirs = {**named("ConfigMap", name), "data": {"root-cert.pem": f"theirs in {namespace}"}}
                admin.post(theirs, *within(namespace, "configmaps"))
            admin.post(named("Secret", "theirs"), *within(namespace, "secrets"))
            admin.post(policy("theirs", namespace, **UNJUDGED), *POLICIES[:3], "namespaces", namespace,
                       POLICIES[3])  # fmt: skip
        admin.post(named("ServiceAccount", "warren-node", annotations={"a": "b"}),
                   *within("warren-system", "serviceaccounts"))  # fmt: skip
        service = {"ports": [{"name": "theirs", "port": 81}], "sessionAffinity": "ClientIP"}
        admin.post({**named("Service", "web"), "spec": service}, *within("shop", "services"))
        before = everything(admin)
        with Lab.up([tmp_path], name=f"wt-apiuse-{os.getpid()}", nodes=1, api=own.kubeconfig):
            until(
                lambda: "conditions" in str(everything(admin)["authorizationpolicies", "other", "theirs"]), 40
            )
            changed = everything(admin)
            web = changed["services", "shop", "web"]
            assert [port["port"] for port in web["spec"]["ports"]] == [80]
            assert web["spec"]["sessionAffinity"] == "ClientIP"
            assert web["spec"]["clusterIP"] == before["services", "shop", "web"]["spec"]["clusterIP"]
            assert changed["namespaces", "", "shop"]["metadata"]["labels"]["mine"] == "yes"
            assert "BEGIN" in changed["configmaps", "other", "istio-ca-root-cert"]["data"]["root-cert.pem"]
            late = named("Namespace", "other", labels={"late": "yes"})
            admin.patch(late, "api", "v1", "namespaces", "other")
        after = everything(admin)
        assert after.pop(("namespaces", "", "other"))["metadata"]["labels"].pop("late") == "yes"
        before.pop(("namespaces", "", "other"))
        assert after == before
        admin.close()


def test_what_somebody_has_made_anew_stays(server: apiserver.Fake) -> None:
    """An object of the lab's name that is not the lab's."""
    api, admin = Api(server.kubeconfig, "wt-anew"), Cluster(server.kubeconfig)
    [body] = api.put([SERVICE])
    admin.delete(*within("default", "services"), "first")
    admin.post(SERVICE, *within("default", "services"))
    api.delete(body)
    api.withdraw(None)
    assert "first" in names(server, "services")
    admin.delete(*within("default", "services"), "first")
    admin.close()


def test_pods_and_nodes_of_somebody_elses_are_not_taken_over(server: apiserver.Fake) -> None:
    admin = Cluster(server.kubeconfig)
    pod = {**named("Pod", "theirs"), "spec": {"nodeName": "x", "containers": [{"name": "c", "image": "i"}]}}
    stored = admin.post(pod, *within("default", "pods"))
    with pytest.raises(LabError, match="theirs is there already on the API server: it is not this lab's"):
        Api(server.kubeconfig, "wt-pods").put(
            [{**pod, "metadata": {**pod["metadata"], "namespace": "default"}}]
        )
    assert admin.get(*within("default", "pods"), "theirs") == stored
    admin.delete_pod("theirs", "default")
    admin.close()


def test_a_killed_up_is_taken_back_without_a_memory(server: apiserver.Fake) -> None:
    """What was created last may be in no file of the lab's yet."""
    before = names(server, "services")
    Api(server.kubeconfig, "wt-killed").put([SERVICE])
    Api(server.kubeconfig, "wt-killed").withdraw(None)
    assert names(server, "services") == before


def test_nodes_of_somebody_elses_are_left_alone(lab: Lab, server: apiserver.Fake) -> None:
    name = f"wt-apitwice-{os.getpid()}"
    with pytest.raises(LabError, match="node1 is there already"):
        Lab.up(name=name, api=server.kubeconfig)
    assert leftovers(name) == []
    assert names(server, "nodes") == {"node1", "node2"}


def test_an_address_that_the_server_refuses_is_chosen_by_it(server: apiserver.Fake) -> None:
    api = Api(server.kubeconfig, "wt-address")
    [first] = api.put([SERVICE])
    [second] = api.put([{**SERVICE, "metadata": {"name": "second", "namespace": "default"}}])
    assert first["spec"]["clusterIP"] == "10.96.7.7" != second["spec"]["clusterIP"]
    for body in (first, second, first):
        api.delete(body)
    assert not {"first", "second"} & names(server, "services")


def test_what_the_server_refuses_is_one_line(server: apiserver.Fake) -> None:
    body = {**SERVICE, "metadata": {"name": "first", "namespace": "nowhere"}}
    with pytest.raises(LabError, match=r"the API server: .*nowhere"):
        Api(server.kubeconfig, "wt-refused").put([body])


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
