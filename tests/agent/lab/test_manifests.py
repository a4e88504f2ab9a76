"""Manifests in: what is accepted, and where a mistake is."""

from pathlib import Path

import pytest

from agent.errors import SettingsError
from agent.lab import manifests
from agent.model.schema.objects import Key

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec: {containers: [{name: c}]}\n"
SEVERAL = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: null}}
- {apiVersion: batch/v1, kind: CronJob}
- {apiVersion: v1, kind: Node, metadata: {name: theirs}}
---
---
"""


def test_lists_folders_nulls_and_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a.yml").write_text(SEVERAL + POD)
    (tmp_path / "notes.txt").write_text("not: [read")
    read, others = manifests.read([tmp_path])
    assert [manifest.key for manifest in read] == [Key("Namespace", "", "shop"), Key("Pod", "default", "one")]
    assert read[0].body["metadata"] == {"name": "shop"}
    assert read[0].where == f"{tmp_path}/below/a.yml:5"
    assert read[1].body["metadata"] == {"name": "one", "namespace": "default"}
    assert others == {"CronJob": 1, "Node": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "kind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n  - name: c\n    ports:\n"
            "    - containerPort: 70000\n",
            ":9: Pod default/x: spec.containers[0].ports[0].containerPort: Expected int <= 65535",
        ),
        (
            "kind: Deployment\nmetadata: {name: x}\nspec:\n  replicas: -1\n"
            "  template: {spec: {containers: []}}\n",
            ":5: Deployment default/x: spec.replicas: Expected int >= 0",
        ),
        ("kind: Deployment\nmetadata: {name: x}\nspec: {}\n", ":4: Deployment default/x: spec: "),
        ("kind: Service\nmetadata: {name: A_B}\n", ":3: Service default/A_B: metadata.name: "),
        ("kind: Pod\nspec: {containers: [{name: c}]}\n", ":1: document: Pod: metadata.name is needed"),
        ("---\n- 1\n", ":1: document: "),
        ("kind: [\n", ":3: document: not YAML"),
        (
            "kind: List\nitems: []\n---\n" + POD + "---\n" + POD,
            ":10: Pod default/one: it is there already, at ",
        ),
    ],
)
def test_mistakes_have_a_place(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("apiVersion: v1\n" + text)
    with pytest.raises(SettingsError) as refusal:
        manifests.read([file])
    assert str(refusal.value).startswith(f"{file}{problem}")


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError) as refusal:
        manifests.read([tmp_path / "bytes.yaml", tmp_path / "empty", tmp_path / "nope"])
    assert len(str(refusal.value).splitlines()) == 3
