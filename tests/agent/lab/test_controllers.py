"""Objects out of manifests, as a cluster's controllers make them."""

from pathlib import Path

import pytest

from agent.errors import SettingsError
from agent.lab import addresses, manifests
from agent.lab.controllers import Body, Expansion, expand, node_object
from agent.model.schema.objects import Key

NODES = [node_object("node1", 1), node_object("node2", 2)]
TEMPLATE = "template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c}]}}"


def made(tmp_path: Path, text: str, present: dict[Key, Body] | None = None) -> Expansion:
    (tmp_path / "m.yaml").write_text(text)
    read, _ = manifests.read([tmp_path / "m.yaml"])
    return expand(read, NODES, present or {})


def names(pods: list[Body]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


def where(pods: list[Body]) -> list[str]:
    return [pod["spec"]["nodeName"] for pod in pods]


def test_deployment_becomes_pods_like_a_clusters(tmp_path: Path) -> None:
    text = f"apiVersion: v1\nkind: Deployment\nmetadata: {{name: shop}}\nspec: {{replicas: 3, {TEMPLATE}}}"
    pods = made(tmp_path, text).pods
    digest = pods[0]["metadata"]["labels"]["pod-template-hash"]
    assert len(digest) == 10
    assert all(name.rpartition("-")[0] == f"shop-{digest}" for name in names(pods))
    assert len(set(names(pods))) == 3
    assert pods[0]["metadata"]["ownerReferences"][0]["name"] == f"shop-{digest}"
    assert where(pods) == ["node1", "node2", "node1"]
    assert names(made(tmp_path, text).pods) == names(pods)


def test_single_pods_spread_too(tmp_path: Path) -> None:
    one = "apiVersion: v1\nkind: Deployment\nmetadata: {{name: d{}}}\nspec: {{{}}}\n---\n"
    assert where(made(tmp_path, one.format(1, TEMPLATE) + one.format(2, TEMPLATE)).pods) == ["node1", "node2"]


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("StatefulSet", "replicas: 2, serviceName: s", ["x-0", "x-1"]),
        ("DaemonSet", "selector: {}", 2),
        ("Job", "parallelism: 3", 3),
        ("ReplicaSet", "replicas: 2", 2),
        ("Deployment", "replicas: 0", 0),
    ],
)
def test_other_templates(tmp_path: Path, kind: str, spec: str, expected: list[str] | int) -> None:
    pods = made(
        tmp_path, f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{{spec}, {TEMPLATE}}}"
    ).pods
    assert (names(pods) if isinstance(expected, list) else len(set(names(pods)))) == expected
    assert sorted(where(pods)) == sorted(["node1", "node2", "node1"][: len(pods)])


def test_namespaces_and_accounts_are_completed(tmp_path: Path) -> None:
    objects = made(
        tmp_path,
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: kube-system}\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n",
    ).objects
    labels = {
        key.name: body["metadata"].get("labels", {})
        for key, body in objects.items()
        if key.kind == "Namespace"
    }
    assert labels == {"shop": {"istio.io/dataplane-mode": "ambient"}, "kube-system": {}, "default": {}}
    assert Key("ServiceAccount", "shop", "default") in objects


def test_services_are_completed(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {{name: {}}}\nspec: {{{}}}\n---\n"
    objects = made(
        tmp_path,
        "".join(
            text.format(name, spec)
            for name, spec in [
                ("both", "ports: [{port: 80}]"),
                ("six", "ipFamilies: [IPv6]"),
                ("mixed", "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]"),
                ("headless", "clusterIP: None"),
                ("fixed", "clusterIP: 10.96.0.77"),
                ("elsewhere", "type: ExternalName, externalName: example.com"),
            ]
        ),
    ).objects
    spec = {key.name: body["spec"] for key, body in objects.items() if key.kind == "Service"}
    number = addresses.service_number("default", "both", ())
    assigned = [str(addresses.SERVICES_V4[number]), str(addresses.SERVICES_V6[number])]
    assert spec["both"]["clusterIPs"] == assigned
    assert spec["both"]["ports"] == [{"protocol": "TCP", "targetPort": 80, "port": 80}]
    assert [":" in address for address in spec["six"]["clusterIPs"]] == [True]
    assert [":" in address for address in spec["mixed"]["clusterIPs"]] == [True, False]
    assert "clusterIPs" not in spec["headless"]
    assert spec["fixed"]["clusterIPs"] == ["10.96.0.77"]
    assert spec["elsewhere"] == {"type": "ExternalName", "externalName": "example.com"}


def test_taken_addresses_are_left_alone() -> None:
    first = addresses.service_number("a", "b", ())
    assert addresses.service_number("a", "b", {first}) == first + 1
    assert addresses.free_pod_number({2, 3, 5}) == 4


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("serviceAccountName: nobody", "there is no ServiceAccount nobody in namespace default"),
        ("nodeName: node7", "no node fits"),
        ("nodeSelector: {disk: fast}", "no node fits"),
    ],
)
def test_what_a_cluster_would_leave_pending_is_refused(tmp_path: Path, spec: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=rf"m\.yaml:1: Pod default/x: {problem}"):
        made(
            tmp_path,
            f"apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {{{spec}, containers: [{{name: c}}]}}",
        )


def test_pods_have_an_account_but_for_static_ones(tmp_path: Path) -> None:
    one = "apiVersion: v1\nkind: Pod\nmetadata: {{name: {}}}\nspec: {{{}containers: [{{name: c}}]}}\n---\n"
    web = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n---\n"
    static = one.format("c, annotations: {kubernetes.io/config.mirror: x}", "")
    text = web + one.format("a", "") + one.format("b", "serviceAccount: web, ") + static
    accounts = [pod["spec"].get("serviceAccountName") for pod in made(tmp_path, text).pods]
    assert accounts == ["default", "web", None]


def test_node_selector_is_obeyed(tmp_path: Path) -> None:
    spec = "nodeSelector: {topology.kubernetes.io/zone: lab-2}, containers: [{name: c}]"
    assert where(
        made(tmp_path, f"apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {{{spec}}}").pods
    ) == ["node2"]


def test_what_no_controller_touches_stays_as_it_was_written(tmp_path: Path) -> None:
    """Policies, for example: to leave one out would open what it closes."""
    text = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {}
"""
    objects = made(tmp_path, text).objects
    metadata = {"name": "nobody", "namespace": "shop"}
    assert objects[Key("AuthorizationPolicy", "shop", "nobody")] == {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata,
        "spec": {},
    }
    assert Key("Namespace", "", "shop") in objects
