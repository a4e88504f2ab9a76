"""The definitions that we print, as an API server takes them."""

from typing import Any

import pytest
import yaml

from agent.cli import main
from agent.model.kinds import KINDS

Body = dict[str, Any]
# What apiextensions/v1 allows beside `x-kubernetes-` in a schema that is structural.
FIELDS = {
    *("type", "properties", "items", "additionalProperties", "nullable", "required", "enum"),
    *("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems"),
}


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> list[Body]:
    assert main.run(["crds"]) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def test_each_kind_of_istio_that_we_act_on_and_each_of_ours_has_one(printed: list[Body]) -> None:
    groups = (".istio.io", ".warren.dev")
    kinds = {kind.name: kind for kind in KINDS.values() if kind.group.endswith(groups)}
    assert {body["spec"]["names"]["kind"] for body in printed} == set(kinds)
    for body in printed:
        kind, spec = kinds[body["spec"]["names"]["kind"]], body["spec"]
        assert body["metadata"]["name"] == f"{kind.plural}.{kind.group}"
        assert [version["name"] for version in spec["versions"]] == [*kind.versions]
        assert [version["storage"] for version in spec["versions"]].count(True) == 1


def test_they_are_structural_and_drop_nothing(printed: list[Body]) -> None:
    """https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/"""
    for body in printed:
        for version in body["spec"]["versions"]:
            check(version["schema"]["openAPIV3Schema"], body["metadata"]["name"])


def check(schema: Body, where: str) -> None:
    kept = schema.get("x-kubernetes-preserve-unknown-fields")
    assert {name for name in schema if not name.startswith("x-kubernetes-")} <= FIELDS, where
    assert schema.get("type") or kept, f"{where}: of some type"
    assert not ("properties" in schema and "additionalProperties" in schema), where
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        assert kept, f"{where}: an unknown field would be dropped in silence"
    for name, inner in schema.get("properties", {}).items():
        check(inner, f"{where}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            check(schema[name], f"{where}[]")


def test_they_know_the_fields_that_we_read(printed: list[Body]) -> None:
    [policy] = [body for body in printed if body["spec"]["names"]["kind"] == "AuthorizationPolicy"]
    spec = policy["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rule = spec["properties"]["rules"]["items"]["properties"]
    source = rule["from"]["items"]["properties"]["source"]["properties"]
    assert source["principals"]["items"] == {"type": "string", "minLength": 1}
    assert spec["properties"]["action"]["enum"] == ["ALLOW", "AUDIT", "CUSTOM", "DENY"]
