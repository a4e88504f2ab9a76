"""The Helm chart is made from the manifests; `make test-chart` renders it with Helm itself."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from tests.deploy.manifests import FOLDER, of_kind

CHART = FOLDER.parent / "chart"
MAKER = FOLDER.parents[1] / "packaging" / "chart.py"


def test_the_templates_are_what_the_manifests_make() -> None:
    made = subprocess.run([sys.executable, MAKER, "--check"], capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")


def test_each_value_is_in_the_schema_and_each_property_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {*unlike(values, schema, schema["$defs"], "")} == {"global"}


def unlike(values: Any, schema: Any, defs: dict[str, Any], where: str) -> Iterator[str]:
    """Paths that only one of both has. Of what may have any fields nothing is said."""
    if reference := schema.get("$ref"):
        schema = defs[reference.rpartition("/")[2]]
    if schema.get("additionalProperties") is not False or not values:
        return
    properties = schema["properties"]
    yield from (f"{where}{name}" for name in values.keys() ^ properties.keys() if where != "resources.")
    for name in values.keys() & properties.keys():
        inner = f"{name}." if name == "resources" else f"{where}{name}."
        yield from unlike(values[name], properties[name], defs, inner)


def test_platforms_set_values_that_there_are() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in (CHART / "platforms").iterdir():
        [(part, fields)] = yaml.safe_load(path.read_text()).items()
        assert fields.keys() <= values[part].keys()
    overlays = {path.name for path in (FOLDER.parent / "overlays").iterdir()}
    assert {path.stem for path in (CHART / "platforms").iterdir()} == overlays


def test_a_gateway_reaches_the_authority() -> None:
    """At a port of its Service, through its NetworkPolicy."""
    [deployment] = [
        body
        for body in yaml.safe_load_all((FOLDER.parent / "gateway" / "gateway.yaml").read_text())
        if body["kind"] == "Deployment"
    ]
    template = deployment["spec"]["template"]
    [asked] = [
        entry["value"]
        for container in template["spec"]["containers"]
        for entry in container["env"]
        if entry["name"] == "WARREN_CA"
    ]
    [service] = [body for body in of_kind("Service") if body["metadata"]["name"] == "warren-ca"]
    [port] = [port for port in service["spec"]["ports"] if port["name"] == "grpc-ca"]
    assert asked == f"https://warren-ca.warren-system.svc:{port['port']}"
    [policy] = [body for body in of_kind("NetworkPolicy") if body["metadata"]["name"] == "warren-ca"]
    [rule] = [rule for rule in policy["spec"]["ingress"] if {"port": "grpc-ca"} in rule["ports"]]
    labels = template["metadata"]["labels"].items()
    assert any(
        peer["podSelector"]["matchLabels"].items() <= labels
        for peer in rule["from"]
        if "namespaceSelector" in peer
    )
