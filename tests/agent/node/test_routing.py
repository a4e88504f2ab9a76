"""Rules, routes and settings of a pod's namespace: put, put again, taken away."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.node import routing
from agent.node.errors import NodeError
from agent.node.netns import NetnsFd
from tests.support.stage import Stage


def ip(netns: NetnsFd, *arguments: str) -> str:
    def show() -> str:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False).stdout

    return netns.run(show)


def everything(netns: NetnsFd) -> list[str]:
    shown = [
        ip(netns, family, *what)
        for family in ("-4", "-6")
        for what in (("rule",), ("route", "show", "table", "100"))
    ]
    names = ("ipv4/tcp_fwmark_accept", "ipv4/fwmark_reflect", "ipv6/fwmark_reflect", "ipv4/tcp_migrate_req")
    shown += [ip(netns, "-6", "route", "show", "table", "local", str(routing.PREFIX))]
    return shown + [netns.run((Path("/proc/sys/net") / name).read_text) for name in names]


def test_install_twice_and_remove_twice(stage: Stage) -> None:
    netns = stage.pod().netns
    before = everything(netns)
    assert not routing.installed(netns)
    routing.install(netns)
    after = everything(netns)
    assert after[0].splitlines()[:2] == [
        "50:\tfrom all fwmark 0x5741 lookup 100",
        "100:\tfrom all lookup local",
    ]
    assert after[1].startswith("local default dev lo")
    assert after[4].startswith(f"local {routing.PREFIX} dev lo")
    assert after[5:] == ["1\n"] * 4
    routing.install(netns)
    assert everything(netns) == after
    assert routing.installed(netns)
    routing.remove(netns)
    assert everything(netns) == before
    routing.remove(netns)
    assert everything(netns) == before


def test_what_was_half_done_is_completed(stage: Stage) -> None:
    netns = stage.pod().netns
    routing.install(netns)
    for undo in (("rule", "del", "pref", "50"), ("route", "del", "local", str(routing.PREFIX))):
        ip(netns, "-6", *undo)
        assert not routing.installed(netns)
        routing.install(netns)
        assert routing.installed(netns)


def test_pod_without_ipv6(stage: Stage) -> None:
    netns = stage.pod().netns
    netns.run(lambda: Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1"))
    routing.install(netns)
    assert routing.installed(netns)
    assert "100" not in ip(netns, "-6", "rule")
    routing.remove(netns)
    assert not routing.installed(netns)


def test_namespace_without_lo_up_is_refused_in_one_line(stage: Stage) -> None:
    netns = stage.pod().netns
    ip(netns, "link", "set", "lo", "down")
    with pytest.raises(NodeError, match=r"^routing in the pod's network namespace: .*Network is down"):
        routing.install(netns)


_INSTALL = """
import sys
from pathlib import Path
from agent.node import routing
from agent.node.netns import NetnsFd
routing.install(NetnsFd.open(Path(sys.argv[1])), Path(sys.argv[2]))
"""
# As in a container: /proc/sys is read-only, and the host's procfs is somewhere else.
_CONTAINER = """
mount --rbind /proc "$0" && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys || exit
exec "$@"
"""


@pytest.mark.parametrize(("elsewhere", "done"), [(True, True), (False, False)])
def test_a_container_writes_by_way_of_the_hosts_procfs(
    stage: Stage, tmp_path: Path, elsewhere: bool, done: bool
) -> None:
    pod = stage.pod()
    proc = str(tmp_path) if elsewhere else "/proc"
    python = [sys.executable, "-c", _INSTALL, str(pod.path), proc]
    inside = ["unshare", "--mount", "sh", "-c", _CONTAINER, str(tmp_path), *python]
    ended = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode == 0) == done, ended.stderr
    assert ("Read-only file system" in ended.stderr) != done
    assert routing.installed(pod.netns) == done
