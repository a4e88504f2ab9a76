"""The gateway's manifests: fields and options that there are, and no more rights than needed."""

from functools import partial
from pathlib import Path

import click
import yaml

from agent.ca.configmaps import CRL, ROOTS
from agent.cli.main import warren
from agent.model.kinds import KINDS
from agent.model.mesh import GATEWAY
from agent.model.translation.gateways.attachments import CONTROLLER
from tests.deploy.manifests import DEPLOY, of_kind, written
from tests.deploy.test_manifests import unknown

FOLDER = DEPLOY / "gateway"
bodies = partial(written, FOLDER)


def test_each_field_is_one_of_the_api() -> None:
    for body in bodies():
        if body["kind"] != "GatewayClass":
            assert unknown(body, f"V1{body['kind']}", body["kind"]) == []
    [class_] = bodies("GatewayClass")
    assert class_["spec"] == {"controllerName": CONTROLLER}


def test_each_setting_is_an_option_of_its_command() -> None:
    [deployment] = bodies("Deployment")
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"][GATEWAY] == "true"
    for container in template["spec"]["containers"]:
        [name] = container["args"]
        with click.Context(warren) as context:
            assert isinstance(warren, click.Group)
            command = warren.get_command(context, name)
        assert command
        options = {parameter.envvar: parameter for parameter in command.params}
        given = {entry["name"] for entry in container["env"]}
        assert given <= {*options}
        assert {name for name, parameter in options.items() if parameter.required} <= given


def test_mounts_ports_and_rights() -> None:
    [deployment], [service] = bodies("Deployment"), bodies("Service")
    pod = deployment["spec"]["template"]["spec"]
    used = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
    assert used == {volume["name"] for volume in pod["volumes"]}
    ports = {port["containerPort"] for one in pod["containers"] for port in one["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert pod["automountServiceAccountToken"] is False
    [gateway] = [one for one in pod["containers"] if one["name"] == "gateway"]
    assert "api" not in {mount["name"] for mount in gateway["volumeMounts"]}, "it speaks to no API server"


def test_both_kinds_of_tunnels_ask_the_authority_and_mount_what_it_publishes() -> None:
    """The CA at a port of its Service; its root, and the list of revoked certificates where there is one."""
    [daemon_set], [gateway] = of_kind("DaemonSet"), bodies("Deployment")
    [service] = [body for body in of_kind("Service") if body["metadata"]["name"] == "warren-ca"]
    [port] = [str(port["port"]) for port in service["spec"]["ports"] if port["name"] == "grpc-ca"]
    for workload, name in ((daemon_set, "tunnel"), (gateway, "gateway")):
        pod = workload["spec"]["template"]["spec"]
        [container] = [one for one in pod["containers"] if one["name"] == name]
        settings = {entry["name"]: entry.get("value", "") for entry in container["env"]}
        assert settings["WARREN_CA"].rpartition(":")[2] == port
        for setting, kind in (("WARREN_CA_ROOT", ROOTS), ("WARREN_CRL", CRL)):
            folder, _, file = settings[setting].rpartition("/")
            [mount] = [mount for mount in container["volumeMounts"] if mount["mountPath"] == folder]
            [volume] = [one["configMap"] for one in pod["volumes"] if one["name"] == mount["name"]]
            assert (volume["name"], file) == (kind.name, kind.key)
            assert volume.get("optional", False) == (kind is CRL)


def test_its_agent_reads_the_kinds_that_there_are_and_secrets_of_its_namespace() -> None:
    [everywhere], [own] = bodies("ClusterRole"), bodies("Role")
    rights = {
        (group, resource)
        for rule in everywhere["rules"]
        for group in rule.get("apiGroups", ())
        for resource in rule["resources"]
    }
    kinds = {(kind.group, kind.plural) for kind in KINDS.values()}
    assert rights - kinds == {("apiextensions.k8s.io", "customresourcedefinitions")} and kinds <= rights
    assert own["rules"] == [{"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get"]}]
    for rule in everywhere["rules"]:
        assert {*rule["verbs"]} <= {"get", "list", "watch"}


def test_the_folder_is_whole() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    files = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}
    assert files == {Path(name).name for name in listed}
