"""Probes: what this kernel has, and what a process without privilege is told."""

import os
from pathlib import Path

from agent.node import features
from tests.support.resident import Resident
from tests.support.stage import Stage


def drop_privileges_and_probe() -> tuple[list[str], str | None]:
    """In a process of its own: it does not get them back."""
    os.setresuid(65534, 65534, 65534)
    absent = [feature.name for feature in features.features() if not feature.present]
    return absent, features.missing()


def test_this_kernel_has_all_that_is_required() -> None:
    found = features.features()
    assert [feature.name for feature in found if feature.required and not feature.present] == []
    assert len({feature.name for feature in found}) == len(found)
    assert features.missing() is None


def test_without_privilege_that_is_what_is_named(stage: Stage) -> None:
    resident = Resident(stage.node.make_cgroup("nobody"))
    absent, lack = resident.call(drop_privileges_and_probe)
    resident.close()
    assert "sk_lookup programs" in absent
    assert lack == "CAP_SYS_ADMIN, CAP_NET_ADMIN is missing (run as root), needed for programs and namespaces"


def test_mounts_are_told_apart(stage: Stage, tmp_path: Path) -> None:
    assert features.on_bpffs(stage.bpffs / "not" / "yet")
    assert not features.on_bpffs(tmp_path)
    assert features.on_cgroup2(stage.node.cgroup)
    assert not features.on_cgroup2(stage.node.cgroup / "none")
    assert not features.on_cgroup2(tmp_path)
