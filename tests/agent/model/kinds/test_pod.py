"""Pod -> Workload, one table for each fact."""

from typing import Any

import pytest

from agent.model.mesh import Mesh
from agent.model.model import Model
from agent.model.schema.objects import Key, key_of
from protocols.workload_pb2 import (
    Address,
    Locality,
    NetworkMode,
    TunnelProtocol,
    WorkloadStatus,
    WorkloadType,
)
from tests.agent.model.objects import addresses, make, model_of, pod, service, workload

AMBIENT = {"istio.io/dataplane-mode": "ambient"}
READY = {"type": "Ready", "status": "True"}


def test_what_is_told_of_a_pod() -> None:
    item = pod("a", labels={"app": "a"}, spec={"serviceAccountName": "shop"})
    message = workload(model_of(item), "a")
    assert message.uid == "Kubernetes//Pod/default/a"
    assert (message.name, message.namespace, message.node) == ("a", "default", "n1")
    assert (message.service_account, message.trust_domain, message.cluster_id) == ("shop", "", "Kubernetes")
    assert list(message.addresses) == [bytes([10, 0, 0, 1])]
    assert message.tunnel_protocol == TunnelProtocol.NONE
    assert not message.HasField("locality")


def test_settings_of_the_mesh() -> None:
    mesh = Mesh(cluster="east", trust_domain="example.org", network="blue")
    [(name, address)] = addresses(model_of(pod("a"), base=Model(mesh))).items()
    assert name == "east//Pod/default/a"
    message = address.workload
    assert (message.cluster_id, message.trust_domain, message.network) == ("east", "example.org", "blue")


@pytest.mark.parametrize("account", ["", "default"])
def test_the_default_service_account_is_left_out(account: str) -> None:
    assert workload(model_of(pod("a", spec={"serviceAccountName": account})), "a").service_account == ""


@pytest.mark.parametrize(
    ("status", "packed"),
    [
        ({"podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}]}, ["0a000009", "fd" + "00" * 14 + "09"]),
        ({"podIPs": [], "podIP": "fd00::9"}, ["fd" + "00" * 14 + "09"]),
        ({"podIPs": [{"ip": "::ffff:10.0.0.9"}]}, ["0a000009"]),
    ],
)
def test_addresses(status: dict[str, Any], packed: list[str]) -> None:
    assert [a.hex() for a in workload(model_of(pod("a", status=status)), "a").addresses] == packed


@pytest.mark.parametrize(
    "status",
    [{"podIPs": []}, {"phase": "Succeeded"}, {"phase": "Failed"}],
    ids=["no address yet", "job done", "job failed"],
)
def test_not_listed(status: dict[str, Any]) -> None:
    assert addresses(model_of(pod("a", status=status))) == {}


@pytest.mark.parametrize(
    ("fields", "healthy", "draining"),
    [
        ({}, True, False),
        ({"status": {"conditions": []}}, False, False),
        ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False, False),
        ({"status": {"phase": "Pending"}}, True, False),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, False, True),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z", "status": {"conditions": []}}, False, False),
    ],
)
def test_health(fields: dict[str, Any], healthy: bool, draining: bool) -> None:
    expected = WorkloadStatus.HEALTHY if healthy else WorkloadStatus.UNHEALTHY
    message = workload(model_of(pod("a", **fields)), "a")
    assert (message.status, message.draining) == (expected, draining)


@pytest.mark.parametrize(
    ("of_namespace", "of_pod", "spec", "annotations", "enrolled"),
    [
        ({}, {}, {}, {}, False),
        (AMBIENT, {}, {}, {}, True),
        ({}, AMBIENT, {}, {}, True),
        (AMBIENT, {"istio.io/dataplane-mode": "none"}, {}, {}, False),
        (AMBIENT, {}, {"hostNetwork": True}, {}, False),
        (AMBIENT, {}, {}, {"sidecar.istio.io/status": "{}"}, False),
        ({}, {}, {}, {"ambient.istio.io/redirection": "enabled"}, True),
        (AMBIENT, AMBIENT, {"serviceAccountName": ""}, {"ambient.istio.io/redirection": "enabled"}, False),
        (AMBIENT, AMBIENT, {}, {"kubernetes.io/config.mirror": "hash"}, False),
    ],
)
def test_tunnel_protocol(
    of_namespace: dict[str, str],
    of_pod: dict[str, str],
    spec: dict[str, Any],
    annotations: dict[str, str],
    enrolled: bool,
) -> None:
    namespace = make("Namespace", "default", labels=of_namespace)
    model = model_of(namespace, pod("a", labels=of_pod, spec=spec, annotations=annotations))
    assert workload(model, "a").tunnel_protocol == int(enrolled)


def test_kube_system_is_never_enrolled() -> None:
    model = model_of(
        make("Namespace", "kube-system", labels=AMBIENT), pod("a", namespace="kube-system", labels=AMBIENT)
    )
    [address] = addresses(model).values()
    assert address.workload.tunnel_protocol == TunnelProtocol.NONE


@pytest.mark.parametrize("label", [("networking.istio.io/tunnel", "http"), ("warren.dev/gateway", "true")])
def test_a_pod_that_speaks_hbone_itself(label: tuple[str, str]) -> None:
    message = workload(model_of(pod("a", labels=dict([label]))), "a")
    assert message.native_tunnel
    assert message.tunnel_protocol == TunnelProtocol.HBONE


def test_a_pod_on_the_hosts_network_cannot_be_asked_for_by_address() -> None:
    model = model_of(pod("a", spec={"hostNetwork": True}))
    assert workload(model, "a").network_mode == NetworkMode.HOST_NETWORK
    assert [r.aliases for those in model.resources.values() for r in those] == [()]


@pytest.mark.parametrize(
    ("owner", "labels", "kind", "name"),
    [
        (None, {}, WorkloadType.POD, "a"),
        (("ReplicaSet", "shop-5d8f"), {"pod-template-hash": "5d8f"}, WorkloadType.DEPLOYMENT, "shop"),
        (("ReplicaSet", "my-shop-5d8f"), {"pod-template-hash": "5d8f"}, WorkloadType.DEPLOYMENT, "my-shop"),
        (("ReplicaSet", "shop-5d8f"), {}, WorkloadType.POD, "shop-5d8f"),
        (("ReplicaSet", "shop-5d8f"), {"rollouts-pod-template-hash": "5d8f"}, WorkloadType.POD, "shop"),
        (("ReplicationController", "shop-3"), {"deploymentconfig": "shop"}, WorkloadType.POD, "shop"),
        (("ReplicationController", "shop-3"), {}, WorkloadType.POD, "shop-3"),
        (("Job", "tidy"), {}, WorkloadType.JOB, "tidy"),
        (("Job", "tidy-1"), {}, WorkloadType.JOB, "tidy-1"),
        (("Job", "tidy-28374910"), {}, WorkloadType.CRONJOB, "tidy"),
        (("StatefulSet", "db"), {}, WorkloadType.POD, "db"),
        (("DaemonSet", "logs"), {}, WorkloadType.POD, "logs"),
        (("SomebodysSet", "x"), {}, WorkloadType.POD, "x"),
        (("Node", "n1"), {}, WorkloadType.POD, "a"),
        (("StatefulSet", "db"), {"service.istio.io/workload-name": "base"}, WorkloadType.POD, "base"),
    ],
)
def test_owner(owner: tuple[str, str] | None, labels: dict[str, str], kind: WorkloadType, name: str) -> None:
    references = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    message = workload(model_of(pod("a", labels=labels, ownerReferences=references)), "a")
    assert (message.workload_type, message.workload_name, message.canonical_name) == (kind, name, name)


@pytest.mark.parametrize(
    ("labels", "name", "revision"),
    [
        ({}, "a", "latest"),
        ({"app": "x", "version": "v1"}, "x", "v1"),
        ({"app": "x", "app.kubernetes.io/name": "y", "app.kubernetes.io/version": "2"}, "y", "2"),
        ({"app.kubernetes.io/name": "y", "service.istio.io/canonical-name": "z"}, "z", "latest"),
        ({"version": "v1", "service.istio.io/canonical-revision": "v2"}, "a", "v2"),
    ],
)
def test_canonical_name(labels: dict[str, str], name: str, revision: str) -> None:
    message = workload(model_of(pod("a", labels=labels)), "a")
    assert (message.canonical_name, message.canonical_revision) == (name, revision)


def test_locality_is_the_nodes() -> None:
    labels = {
        "topology.kubernetes.io/region": "eu",
        "topology.kubernetes.io/zone": "eu-1",
        "topology.istio.io/subzone": "rack-4",
    }
    message = workload(model_of(make("Node", "n1", labels=labels), pod("a")), "a")
    assert message.locality == Locality(region="eu", zone="eu-1", subzone="rack-4")


@pytest.mark.parametrize(
    ("of_pod", "of_root", "network"),
    [("", "", ""), ("blue", "", "blue"), ("", "red", "red"), ("blue", "red", "blue")],
)
def test_network(of_pod: str, of_root: str, network: str) -> None:
    label = "topology.istio.io/network"
    root = make("Namespace", "istio-system", labels={label: of_root} if of_root else {})
    model = model_of(root, pod("a", labels={label: of_pod} if of_pod else {}))
    assert workload(model, "a").network == network
    [[resource]] = model.resources.values()
    assert resource.aliases == (f"{network}/10.0.0.1",)


def test_services_that_select_it_with_its_own_ports() -> None:
    containers = [
        {"ports": [{"containerPort": 9999, "name": "dns", "protocol": "UDP"}]},
        {"ports": [{"containerPort": 8080, "name": "web"}]},
    ]
    staying = [{"restartPolicy": "Always", "ports": [{"containerPort": 7070, "name": "proxy"}]}]
    spec = {"containers": containers, "initContainers": staying}
    model = model_of(
        pod("a", labels={"app": "a", "tier": "x"}, spec=spec),
        service(
            "a",
            [
                {"port": 80, "name": "http", "targetPort": "web"},
                {"port": 81, "targetPort": 9000},
                {"port": 82},
                {"port": 83, "name": "c", "targetPort": "absent"},
                {"port": 84, "name": "d", "targetPort": "dns"},
                {"port": 85, "name": "e", "targetPort": "proxy"},
                {"port": 53, "protocol": "UDP"},
            ],
        ),
        service("tier", selector={"tier": "x"}),
        service("other"),
        service("none", selector={}),
    )
    services = workload(model, "a").services
    suffix = "default.svc.cluster.local"
    assert sorted(services) == [f"default/a.{suffix}", f"default/tier.{suffix}"]
    ports = services[f"default/a.{suffix}"].ports
    assert [(p.service_port, p.target_port) for p in ports] == [(80, 8080), (81, 9000), (82, 82), (85, 7070)]


def test_a_service_of_another_namespace_selects_nothing_here() -> None:
    model = model_of(pod("a", labels={"app": "a"}), service("a", metadata={"namespace": "other"}))
    assert not workload(model, "a").services


OWNER = {"kind": "ReplicaSet", "name": "web-abc", "controller": True}
PORT = {"containerPort": 1, "name": "http"}
DIFFERENCES: list[dict[str, Any]] = [
    {"labels": {"app": "other"}},
    {"annotations": {"ambient.istio.io/redirection": "enabled"}},
    {"ownerReferences": [{**OWNER, "name": "db"}]},
    {"ownerReferences": []},
    {"ownerReferences": [{**OWNER, "controller": False}]},
    {"ownerReferences": [{**OWNER, "kind": "Node"}]},
    {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    {"spec": {"serviceAccountName": "other"}},
    {"spec": {"serviceAccountName": "web", "hostNetwork": True}},
    {"spec": {"serviceAccountName": "web", "nodeName": "n2"}},
    {
        "spec": {
            "serviceAccountName": "web",
            "containers": [{"ports": [{"containerPort": 1, "name": "http"}]}],
        }
    },
    {"status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}]}},
]


def test_pods_of_a_template_share_what_they_have_in_common() -> None:
    owned: dict[str, Any] = {"ownerReferences": [OWNER], "labels": {"app": "web"}}
    model = model_of(*(pod(name, ip, **owned) for name, ip in (("one", "10.0.0.1"), ("two", "10.0.0.2"))))
    [one], [two] = (model.resources[Key("Pod", "default", name)] for name in ("one", "two"))
    assert one.common is two.common
    assert len(one.own) < len(one.common)
    told = Address.FromString(one.body).workload
    assert (told.name, told.uid, told.namespace) == ("one", one.name, "default")


@pytest.mark.parametrize("difference", DIFFERENCES, ids=str)
def test_what_differs_from_its_template_is_its_own(difference: dict[str, Any]) -> None:
    """Pods of one template are translated once; one of them that is different in a part is not."""
    same: dict[str, Any] = {
        "ownerReferences": [OWNER],
        "labels": {"app": "web"},
        "spec": {"serviceAccountName": "web"},
    }
    ready = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "conditions": ready}
    one = pod("one", **same)
    two = make("Pod", "two", **{"status": status, **same, **difference})
    others = [service("web", [{"port": 80, "targetPort": "http"}]), make("Node", "n2", "", labels={
        "topology.kubernetes.io/zone": "z"})]  # fmt: skip
    three = make("Pod", "three", **{"status": status, **same, **difference})
    together = model_of(one, two, three, *others)
    for item in (one, two, three):
        alone = model_of(item, *others)
        assert together.resources[key_of(item)] == alone.resources[key_of(item)]
