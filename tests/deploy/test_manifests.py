"""The manifests say what Kubernetes and our commands understand, and belong together."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from kubernetes import client as models

from agent.cli.main import warren
from tests.deploy.manifests import DEPLOY, FOLDER, NAMESPACE, Body, documents, of_kind, written

CONTAINERS = [
    (body["metadata"]["name"], container)
    for body in of_kind("DaemonSet", "Deployment")
    for container in body["spec"]["template"]["spec"]["containers"]
]
OVERLAYS = sorted((DEPLOY / "overlays").iterdir())
SETTINGS = next(body["data"] for body in of_kind("ConfigMap"))


def unknown(value: Any, type_: str, where: str) -> list[str]:
    """The fields that a type of the Kubernetes API does not have."""
    if inner := re.fullmatch(r"list\[(.*)\]", type_):
        return [text for n, item in enumerate(value) for text in unknown(item, inner[1], f"{where}[{n}]")]
    if inner := re.fullmatch(r"dict\(str, (.*)\)", type_):
        return [text for name, item in value.items() for text in unknown(item, inner[1], f"{where}.{name}")]
    model = getattr(models, type_, None)
    if model is None:
        return []
    fields = {name: model.openapi_types[python] for python, name in model.attribute_map.items()}
    strange = [f"{where}.{name}" for name in value if name not in fields]
    known = [(name, item) for name, item in value.items() if name in fields]
    return strange + [text for name, item in known for text in unknown(item, fields[name], f"{where}.{name}")]


@pytest.mark.parametrize(
    "body", [*documents()], ids=lambda body: f"{body['kind']}-{body['metadata']['name']}"
)
def test_each_field_is_one_of_the_api(body: Body) -> None:
    kind = body["kind"]
    assert unknown(body, f"V1{kind}", kind) == []


@pytest.mark.parametrize(("workload", "container"), CONTAINERS, ids=lambda each: str(each)[:11])
def test_each_setting_is_an_option_of_the_command(workload: str, container: Body) -> None:
    command: click.Command = warren
    with click.Context(warren) as context:
        for word in container["args"]:
            assert isinstance(command, click.Group)
            found = command.get_command(context, word)
            assert found
            command = found
        if isinstance(command, click.Group):
            command = command.commands["serve"]
    options = {parameter.envvar: parameter for parameter in command.params}
    given = {entry["name"] for entry in container["env"]} | {*SETTINGS}
    assert given <= {*options}
    assert {name for name, parameter in options.items() if parameter.required} <= given


def test_what_is_mounted_is_there() -> None:
    for body in of_kind("DaemonSet", "Deployment"):
        pod = body["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        used = {mount["name"] for one in every_container(pod) for mount in one.get("volumeMounts", ())}
        assert used == volumes


def test_a_service_leads_to_ports_that_its_pods_have() -> None:
    pods = [body["spec"]["template"] for body in of_kind("DaemonSet", "Deployment")]
    for service in of_kind("Service"):
        selector = service["spec"]["selector"].items()
        [pod] = [pod for pod in pods if selector <= pod["metadata"]["labels"].items()]
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("folder", ["daemonset", "discovery", "gateway"])
def test_nothing_runs_with_more_than_it_needs(folder: str) -> None:
    """Only a node's pod is root's and has capabilities; of its containers one is privileged: it mounts."""
    workloads = written(DEPLOY / folder, "DaemonSet", "Deployment")
    assert workloads
    for body in workloads:
        of_node, pod = body["kind"] == "DaemonSet", body["spec"]["template"]["spec"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert of_node or pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["capabilities"]["drop"] == ["ALL"]
            assert of_node or "add" not in context["capabilities"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert "privileged" not in context
        privileged = [one["name"] for one in every_container(pod) if one["securityContext"].get("privileged")]
        assert privileged == (["bpffs"] if of_node else [])


def test_the_tunnel_gets_no_token_for_the_api_server() -> None:
    [body] = of_kind("DaemonSet")
    pod = body["spec"]["template"]["spec"]
    [tunnel] = [one for one in pod["containers"] if one["name"] == "tunnel"]
    assert pod["automountServiceAccountToken"] is False
    mounted = {mount["name"] for mount in tunnel["volumeMounts"]}
    tokens = {
        volume["name"]: source["serviceAccountToken"].get("audience")
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        if "serviceAccountToken" in source and volume["name"] in mounted
    }
    assert tokens == {"token": "istio-ca"}


def test_the_image_is_named_where_it_is_chosen() -> None:
    assert {container["image"] for _, container in CONTAINERS} == {"warren"}
    assert re.search(r"^\s+- name: warren$", (FOLDER / "kustomization.yaml").read_text(), re.MULTILINE)
    assert all(body["metadata"].get("namespace", NAMESPACE) == NAMESPACE for body in documents())


def every_container(pod: Body) -> list[Body]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_changes_what_is_there(overlay: Path) -> None:
    """Each patch names a workload, volumes and containers of ours; further manifests are of the API."""
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    for resource in kustomization["resources"]:
        place = overlay / resource
        assert place.exists()
        for body in yaml.safe_load_all(place.read_text()) if place.is_file() else ():
            assert unknown(body, f"V1{body['kind']}", resource) == []
    for patch in kustomization["patches"]:
        change = yaml.safe_load(patch["patch"])
        [base] = [
            body for body in of_kind(change["kind"]) if body["metadata"]["name"] == patch["target"]["name"]
        ]
        assert unknown(change, f"V1{change['kind']}", overlay.name) == []
        assert names(change, "volumes") <= names(base, "volumes")
        assert names(change, "containers") <= names(base, "containers")


def names(workload: Body, field: str) -> set[str]:
    return {one["name"] for one in workload["spec"]["template"]["spec"].get(field, ())}
