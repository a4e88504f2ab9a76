"""The manifests of discovery: fields and options that there are, the rights of an agent, and one more."""

from functools import partial

import click

from agent.cli.main import warren
from tests.deploy.manifests import DEPLOY, of_kind, written
from tests.deploy.test_manifests import SETTINGS, unknown

bodies = partial(written, DEPLOY / "discovery")


def test_each_field_is_one_of_the_api() -> None:
    for body in bodies():
        assert unknown(body, f"V1{body['kind']}", body["kind"]) == []


def test_each_setting_is_an_option() -> None:
    [deployment] = bodies("Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    with click.Context(warren) as context:
        assert isinstance(warren, click.Group)
        command = warren.get_command(context, "discovery")
    assert command
    options = {parameter.envvar: parameter for parameter in command.params}
    given = {entry["name"] for entry in container["env"]} | {*SETTINGS}
    assert given <= {*options}
    assert {name for name, parameter in options.items() if parameter.required} <= given


def test_it_reads_what_agents_read_and_asks_whose_a_token_is() -> None:
    [role] = bodies("ClusterRole")
    assert role["rules"] == [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
    ]
    bound = [body["roleRef"]["name"] for body in bodies("ClusterRoleBinding")]
    assert bound == [role["metadata"]["name"], "warren-node"]
    assert "warren-node" in {body["metadata"]["name"] for body in of_kind("ClusterRole")}
