"""An agent whose DaemonSet is gone leaves its node as it was; one that only restarts leaves all in place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.kube.client import Client
from agent.kube.installation import Installation
from agent.node import routing
from bpf.pins import Pins
from tests.support import apiserver
from tests.support.cluster import Cluster
from tests.support.cni import Plugin
from tests.support.custom import install
from tests.support.netns import Pod
from tests.support.world import World, cookies

SET = {
    "metadata": {"name": "warren-node"},
    "spec": {
        "selector": {"matchLabels": {"app": "warren"}},
        "template": {
            "metadata": {"labels": {"app": "warren"}},
            "spec": {"containers": [{"name": "agent", "image": "warren"}]},
        },
    },
}


class Installed:
    """A cluster with our DaemonSet, and a node of it."""

    def __init__(self, world: World, cluster: Cluster, conf: Path) -> None:
        self.world, self.cluster, self.conf = world, cluster, conf
        self.daemon_set = f"{cluster.namespace}/warren-node"
        self._path = "apis", "apps", "v1", "namespaces", cluster.namespace, "daemonsets"
        cluster.post(SET, *self._path)
        conf.mkdir()
        (conf / "10-net.conflist").write_text(
            '{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "x"}]}'
        )
        world.configure(
            source="kube",
            kubeconfig=cluster.kubeconfig,
            daemon_set=self.daemon_set,
            cni_conf_dir=conf,
            cni_bin_dir=conf.parent / "bin",
        )

    async def start(self, pod: Pod) -> None:
        """As the kubelet does."""
        uid = self.cluster.pod(pod.name, "n1", "default")
        plugin = Plugin(self.world.settings.run_dir / "cni.sock")
        name = f"{self.cluster.namespace}/{pod.name}"
        done = await plugin.add(f"c-{pod.name}", pod.path, name, uid, [str(pod.v4)])
        assert done.code == 0, done

    def remove(self) -> None:
        """`kubectl delete daemonset`."""
        self.cluster.delete(*self._path, "warren-node")

    def chained(self) -> list[str]:
        return sorted(path.name for path in self.conf.iterdir())


@pytest.fixture
def installed(world: World, tmp_path: Path) -> Iterator[Installed]:
    with apiserver.fake() as server:
        install(server.kubeconfig)
        cluster = Cluster(server.kubeconfig)
        yield Installed(world, cluster, tmp_path / "net.d")
        cluster.close()


async def test_a_restart_leaves_all_in_place_and_a_removal_nothing(installed: Installed) -> None:
    world, pod = installed.world, installed.world.node.pod()
    async with world.agent() as agent:
        await installed.start(pod)
        assert world.captured(agent) == cookies(pod)
    assert Pins(world.settings.bpffs).pods().keys() == cookies(pod)
    assert installed.chained() == ["10-net-warren.conflist", "10-net.conflist"]

    async with world.agent() as agent:
        assert world.captured(agent) == cookies(pod)
        installed.remove()
    assert not Pins(world.settings.bpffs).links()
    assert not routing.installed(pod.netns)
    assert installed.chained() == ["10-net.conflist"]


def test_only_an_answer_counts(installed: Installed, tmp_path: Path) -> None:
    client = Client.load(installed.cluster.kubeconfig)
    installation = Installation(client, installed.daemon_set)
    assert not installation.removed()
    with apiserver.fake() as other:
        stranger = Client.load(other.kubeconfig_for("nobody's token", tmp_path / "kubeconfig"))
        assert not Installation(stranger, installed.daemon_set).removed(), "refused"
    assert not Installation(stranger, installed.daemon_set).removed(), "away"
    installed.remove()
    assert installation.removed()
