"""Records of sandboxes: which one is a pod's, and which are still true."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import describe
from agent.model.schema.kubernetes import STATIC_POD, Pod
from agent.model.schema.objects import Metadata
from agent.node.errors import NodeError
from agent.node.sandboxes import Attachment, Sandboxes

HERE = Path("/proc/self/ns/net")


def attachment(container: str, uid: str = "u1", created: int = 1, netns: Path = HERE) -> Attachment:
    return Attachment(container, "default", "web", uid, netns, ("10.0.0.1",), created)


def pod(uid: str, annotations: dict[str, str] | None = None) -> Pod:
    return Pod(Metadata(name="web", namespace="default", uid=uid, annotations=annotations or {}))


@pytest.fixture
def sandboxes(tmp_path: Path) -> Sandboxes:
    return Sandboxes(tmp_path / "sandboxes")


def test_a_pod_has_its_newest_one(sandboxes: Sandboxes) -> None:
    assert sandboxes.of(pod("u1")) is None
    for one in (attachment("a", created=2), attachment("b", created=3), attachment("c", created=1)):
        sandboxes.add(one)
    assert sandboxes.of(pod("u1")) == attachment("b", created=3)
    sandboxes.remove("b")
    assert sandboxes.of(pod("u1")) == attachment("a", created=2)


def test_a_name_that_another_pod_had(sandboxes: Sandboxes) -> None:
    sandboxes.add(attachment("a", uid="old"))
    assert sandboxes.of(pod("new")) is None
    assert sandboxes.of(pod("")), "a manifest without a uid goes by its name"
    static = pod("of the API's copy", {STATIC_POD: "old"})
    assert sandboxes.of(static), "the kubelet has its own uid for it"
    sandboxes.add(attachment("b", uid=""))
    assert sandboxes.of(pod("new")) == attachment("b", uid=""), "a runtime that tells no uid"


def test_what_has_ended_does_not_come_back(sandboxes: Sandboxes) -> None:
    sandboxes.found(attachment("a"))
    sandboxes.remove("a")
    sandboxes.found(attachment("a"))
    assert sandboxes.of(pod("u1")) is None
    sandboxes.add(attachment("b"))
    sandboxes.keep(["a", "c"])
    assert sandboxes.of(pod("u1")) is None


def test_records_outlive_the_agent(sandboxes: Sandboxes, tmp_path: Path) -> None:
    sandboxes.add(attachment("a"))
    assert Sandboxes(tmp_path / "sandboxes").of(pod("u1")) == attachment("a")
    assert (tmp_path / "sandboxes").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["boot", "cookie", "path", "half", "other"])
def test_records_that_are_not_true_any_more(sandboxes: Sandboxes, tmp_path: Path, damage: str) -> None:
    sandboxes.add(attachment("a"))
    [file] = (tmp_path / "sandboxes").iterdir()
    text = file.read_text()
    damaged = {
        "boot": text.replace('"boot":"', '"boot":"0'),
        "cookie": text.replace('"cookie":', '"cookie":9'),
        "path": text.replace(str(HERE), "/run/netns/absent"),
        "half": text[:-9],
        "other": "[]",
    }[damage]
    file.write_text(damaged)
    assert Sandboxes(tmp_path / "sandboxes").of(pod("u1")) is None
    assert not file.exists()


def test_what_cannot_be_looked_at_is_not_forgotten(sandboxes: Sandboxes, tmp_path: Path) -> None:
    """An agent without the right to enter a namespace ends; the next one still knows where its pods are."""
    sandboxes.add(attachment("a"))
    read = "import sys; from agent.node.sandboxes import Path, Sandboxes; Sandboxes(Path(sys.argv[1]))"
    without = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"]
    argv = [*without, sys.executable, "-c", read, str(tmp_path / "sandboxes")]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Operation not permitted" in ran.stderr
    assert Sandboxes(tmp_path / "sandboxes").of(pod("u1")) == attachment("a")


def test_a_namespace_that_is_not_there(sandboxes: Sandboxes) -> None:
    with pytest.raises(NodeError, match="absent"):
        sandboxes.add(attachment("a", netns=Path("/run/netns/absent")))
    assert sandboxes.of(pod("u1")) is None


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], check=True)
    try:
        sandboxes = Sandboxes(tmp_path / "sandboxes")
        sandboxes.add(attachment("a"))
        with (tmp_path / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 512)
        with pytest.raises(OSError, match="No space") as caught:
            sandboxes.add(attachment("b", created=2))
        assert "/sandboxes/b" in describe(caught.value)
        assert describe(caught.value).endswith("No space left on device; free space there")
        with pytest.raises(OSError, match="No space"):
            sandboxes.add(
                attachment("a", uid="u" * 9000)
            )  # more than what is freed by giving up the former one
        assert sandboxes.of(pod("u1")) == attachment("a")
        assert Sandboxes(tmp_path / "sandboxes").of(pod("u1")) == attachment("a")
        (tmp_path / "filler").unlink()
        sandboxes.add(attachment("b", created=2))
        assert Sandboxes(tmp_path / "sandboxes").of(pod("u1")) == attachment("b", created=2)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
