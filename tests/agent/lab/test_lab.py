"""Up and down, whole or in part, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import SettingsError
from agent.lab import Lab, LabError, kernel
from agent.lab.state import load, locked
from agent.node.netns import NetnsFd
from tests.support.leftovers import leftovers, links
from tests.support.samples import BOOKINFO
from tests.support.wait import until

UP = "import sys; from agent.lab import Lab; Lab.up(name=sys.argv[1], meshed=False)"


def test_down_leaves_nothing(name: str) -> None:
    before = links()
    with Lab.up(name=name, meshed=False) as lab:
        assert lab.nodes and lab.pods
        assert len(leftovers(name)) > 10
        assert links() == before
    assert leftovers(name) == []
    assert links() == before
    assert not Lab.remove(name)


def test_a_tunnel_that_has_panicked_is_told_of_when_its_lab_is_gone(name: str) -> None:
    lab = Lab.up(name=name, meshed=False, nodes=1)
    line = "warren: thread warren-0 panicked at src/a.rs:1:2: why"
    (lab.state.run / "log" / "node1-tunnel.log").write_text(f"before\n{line}\n")
    with pytest.raises(LabError, match=f"node1-tunnel: {line}"):
        lab.down()
    assert leftovers(name) == []


def test_down_after_every_process_was_killed(name: str) -> None:
    lab = Lab.up(name=name, meshed=False)
    servers = [pid for node in lab.nodes for pid in node.pids("dns")]
    for pid in [*servers, *(pid for pod in lab.pods for pid in pod.pids())]:
        os.kill(pid, signal.SIGKILL)
    Lab.remove(name)
    assert leftovers(name) == []


@pytest.mark.parametrize("after", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_down_after_up_was_killed(name: str, after: float) -> None:
    """`after` is a share of the way: that of all processes of a whole lab which were seen before the kill."""
    up = subprocess.Popen([sys.executable, "-c", UP, name])
    whole = 6 * 10  # more traces than a lab of two nodes and four pods leaves
    until(lambda: len(leftovers(name)) > after * whole or up.poll() is not None)
    up.kill()
    up.wait()
    Lab.remove(name)
    assert leftovers(name) == []


def test_one_at_a_time(name: str) -> None:
    with locked(name), pytest.raises(LabError, match="at work"):
        Lab.remove(name)
    assert leftovers(name) == []


def test_failed_up_takes_all_away(name: str, tmp_path: Path) -> None:
    broken = tmp_path / "taken.yaml"
    broken.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec: {hostNetwork: true, containers: "
        "[{name: c, ports: [{containerPort: 53}]}]}\n"
    )
    with pytest.raises(LabError, match=r"pod one has ended(.|\n)*in use"):
        Lab.up([broken], name=name, meshed=False)
    assert leftovers(name) == []


def test_up_twice_is_refused_and_harmless(name: str) -> None:
    with Lab.up(name=name, meshed=False) as lab:
        with pytest.raises(LabError, match="warren lab down"):
            Lab.up(name=name, meshed=False)
        assert lab.pod("client").run(["true"]).returncode == 0


def test_what_cannot_be_is_said_at_once_and_before_anything_is_made(name: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Lab.up([Path("/nope")], name=name, ztunnels={"node9": Path("/nope")})
    assert "node9" in str(refusal.value)
    assert "/nope is not a program" in str(refusal.value)
    with pytest.raises(SettingsError, match="1 to 5 nodes"):
        Lab.up(name=name, nodes=6)
    assert leftovers(name) == []


def test_what_others_made_is_not_touched(name: str) -> None:
    kernel.NETNS_DIRECTORY.mkdir(exist_ok=True)  # a lab before this one may have been the first to need it
    netns = kernel.add_netns(f"{name}-node2")
    with pytest.raises(LabError, match=f"ip netns del {name}-node2"):
        Lab.up(name=name, meshed=False)
    NetnsFd.open(netns).close()  # it is still there
    kernel.remove_netns(netns.name)
    assert leftovers(name) == []


def test_a_directory_of_namespaces_that_another_mount_hides_is_none() -> None:
    """As in a container that has a /run of its own, over the machine's."""
    mounts = "mount -t tmpfs hidden /run/netns && mount -t tmpfs over /run"
    prepare = "from agent.lab.kernel import prepare_netns_directory as prepare; print(prepare(), prepare())"
    script = f"mkdir -p /run/netns && {mounts} && exec {sys.executable} -c '{prepare}'"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout == "True False\n"


def test_open_finds_the_lab(name: str) -> None:
    with pytest.raises(LabError, match="warren lab up"):
        Lab.open(name)
    with Lab.up(name=name, meshed=False, nodes=1):
        assert [node.name for node in Lab.open(name).nodes] == ["node1"]
        state = load(name)
        assert state is not None
        state.complete = False
        state.save()
        with pytest.raises(LabError, match="not whole"):
            Lab.open(name)


def test_damaged_state_is_named(name: str) -> None:
    folder = Path("/run/warren") / name
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{")
    with pytest.raises(LabError, match=r"state\.json cannot be read"):
        Lab.open(name)
    shutil.rmtree(folder)


def test_bookinfo_as_it_stands(name: str) -> None:
    with Lab.up([BOOKINFO], name=name, meshed=False) as lab:
        apps = {(pod.labels["app"], pod.labels["version"]) for pod in lab.pods}
        assert len(apps) == len(lab.pods) == 6
        assert {pod.node for pod in lab.pods} == {"node1", "node2"}
        reviews = lab.pod("deploy/reviews-v1")
        lab.pod("deploy/productpage-v1").run(["curl", "-sSf", f"http://{reviews.ipv4}:9080/reviews/0"])


def test_an_address_is_used_again(name: str, tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: newcomer}\n"
        "spec: {nodeName: node1, containers: [{name: c}]}\n"
    )
    with Lab.up(name=name, meshed=False) as lab:
        old = lab.pod("client")
        assert old.node == "node1"
        lab.delete(old)
        assert not any(old.place.slug in line for line in leftovers(name) if "pods/" not in line)
        [new] = lab.apply([manifest])
        assert (new.ipv4, new.ipv6) == (old.ipv4, old.ipv6)
        assert new.run(["hostname"]).stdout == "newcomer\n"
        assert lab.apply([manifest]) == []
    assert leftovers(name) == []


def test_pods_are_found_by_name(plain: Lab) -> None:
    web = plain.pod("deploy/web")
    assert web.deployment == "web"
    assert plain.pod(web.name) == plain.pod(f"default/{web.name}") == plain.pod("default/deploy/web") == web
    assert {pod.node for pod in plain.pods_of("deploy/web")} == {"node1", "node2"}
    assert plain.pod("cli").deployment == "client"
    for unknown in ("deploy/we", "other/web", "nope"):
        with pytest.raises(LabError, match="pods are default/client"):
            plain.pod(unknown)


def test_a_pod_of_the_node_network(name: str, tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: host}\n"
        "spec: {hostNetwork: true, containers: [{name: c}]}\n"
    )
    with Lab.up([manifest], name=name, meshed=False, nodes=1) as lab:
        pod, node = lab.pod("host"), lab.node("node1")
        assert (pod.netns, pod.ipv4, pod.ipv6) == (node.netns, node.ipv4, node.ipv6)
        assert not lab.enrolled(pod)
        lab.delete(pod)
        node.run(["true"])
