"""Pods that the runtime starts through the CNI plugin: the real binary, the whole agent, real namespaces."""

import asyncio
import subprocess
import threading
from pathlib import Path

import pytest

from agent.node import pods as node_pods
from agent.node.netns import NetnsFd
from tests.support.cni import Done, Plugin
from tests.support.eventually import eventually
from tests.support.netns import Pod
from tests.support.world import World, cookies


class Node:
    """A world whose pods are started by a runtime."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.plugin = Plugin(world.settings.run_dir / "cni.sock")

    def pod(self, mode: str = "ambient", running: bool = False) -> Pod:
        """One that the API server knows and the kubelet is about to start."""
        pod = self.world.node.pod()
        self.world.write(pod, mode, stated=False, running=running)
        return pod

    async def add(self, pod: Pod, container: str = "", netns: Path | None = None) -> Done:
        ips = [str(address) for address in pod.addresses]
        name, uid = f"default/{pod.name}", f"uid-{pod.name}"
        return await self.plugin.add(container or f"c-{pod.name}", netns or pod.path, name, uid, ips)

    async def check(self, pod: Pod) -> Done:
        return await self.plugin.check(f"c-{pod.name}", pod.path, f"default/{pod.name}", f"uid-{pod.name}")

    async def delete(self, pod: Pod, container: str = "") -> Done:
        name, uid = f"default/{pod.name}", f"uid-{pod.name}"
        return await self.plugin.delete(container or f"c-{pod.name}", pod.path, name, uid)


@pytest.fixture
def node(world: World) -> Node:
    return Node(world)


async def test_captured_when_add_returns(node: Node) -> None:
    pod, other = node.pod(), node.pod("none")
    async with node.world.agent() as agent:
        assert (await node.add(pod)).code == 0
        assert node.world.captured(agent) == cookies(pod)
        [state] = agent._datapath.pods().values()
        assert set(state.addresses) == set(pod.addresses), "from the result of the plugin before"
        assert (await node.add(other)).code == 0
        assert node.world.captured(agent) == cookies(pod)
        assert (await node.add(pod)).code == 0, "again is harmless"
        figures = await node.world.page("/metrics")
        assert 'warren_agent_cni_calls_total{command="ADD",result="done"} 3.0' in figures
        assert "warren_agent_cni_add_seconds_count 3.0" in figures


async def test_a_pod_that_the_watch_has_not_told_of_yet(node: Node) -> None:
    pod = node.world.node.pod()
    async with node.world.agent() as agent:
        adding = asyncio.create_task(node.add(pod))
        await eventually((node.world.settings.run_dir / f"sandboxes/c-{pod.name}.json").exists)
        assert not adding.done()
        node.world.write(pod, stated=False, running=False)
        assert (await adding).code == 0
        assert node.world.captured(agent) == cookies(pod)


async def test_a_pod_that_is_not_known_to_be_on_this_node_yet(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = node.world.node.pod()
    node.world.write(pod, stated=False, running=False, node="''")
    async with node.world.agent() as agent:
        adding = asyncio.create_task(node.add(pod))
        await eventually((node.world.settings.run_dir / f"sandboxes/c-{pod.name}.json").exists)
        node.world.write(pod, stated=False, running=False)
        assert (await adding).code == 0
        assert node.world.captured(agent) == cookies(pod)
        monkeypatch.setattr(node_pods, "_KNOWN_WITHIN", 0.1)
        node.world.write(pod, stated=False, running=False, node="n2")
        await eventually(lambda: node.world.captured(agent) == set())
        assert "is not known" in (await node.add(pod, "c2")).error["msg"]


async def test_a_pod_that_nobody_knows_is_held(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_pods, "_KNOWN_WITHIN", 0.1)
    pod = node.world.node.pod()
    async with node.world.agent():
        done = await node.add(pod)
        assert f"pod default/{pod.name} is not known after 0 s: no object of this uid" in done.error["msg"]
        node.world.write(pod, stated=False)
        wrong = await node.plugin.add("c2", pod.path, f"default/{pod.name}", "another-uid")
        assert "no object of this uid" in wrong.error["msg"], "it was another pod's name before"


def remove(pod: Pod) -> None:
    """The pod's namespace loses its name."""
    subprocess.run(["ip", "netns", "del", pod.name], check=True)


def make(pod: Pod) -> None:
    """Another namespace of that name."""
    subprocess.run(["ip", "netns", "add", pod.name], check=True)
    subprocess.run(["ip", "-n", pod.name, "link", "set", "lo", "up"], check=True)


async def test_labels_enrol_and_release_pods_that_run(node: Node) -> None:
    pod = node.pod("none", running=True)
    inheriting = node.world.node.pod()
    async with node.world.agent() as agent:
        assert (await node.add(pod)).code == 0
        node.world.write(pod, "ambient", stated=False)
        await eventually(lambda: node.world.captured(agent) == cookies(pod))
        node.world.write(pod, "none", stated=False)
        await eventually(lambda: node.world.captured(agent) == set())

        node.world.write(inheriting, "''", stated=False)
        assert (await node.add(inheriting)).code == 0
        assert node.world.captured(agent) == cookies(inheriting)
        node.world.label("none")
        await eventually(lambda: node.world.captured(agent) == set())
        node.world.label("ambient")
        await eventually(lambda: node.world.captured(agent) == cookies(inheriting))


async def test_a_sandbox_made_anew_moves_the_pod(node: Node) -> None:
    pod, second = node.pod(), node.world.node.pod()
    async with node.world.agent() as agent:
        assert (await node.add(pod, "c1")).code == 0
        assert (await node.add(pod, "c2", second.path)).code == 0
        assert node.world.captured(agent) == cookies(second)
        assert (await node.delete(pod, "c1")).code == 0, "that one is gone, its successor stays"
        assert node.world.captured(agent) == cookies(second)


async def test_a_namespace_made_anew_at_the_same_path(node: Node) -> None:
    pod = node.pod()
    async with node.world.agent() as agent:
        assert (await node.add(pod, "c1")).code == 0
        remove(pod)
        make(pod)
        assert (await node.add(pod, "c2")).code == 0
        fresh = NetnsFd.open(pod.path)
        assert node.world.captured(agent) == {fresh.cookie()}
        fresh.close()


async def test_del_before_the_watch(node: Node) -> None:
    pod = node.pod(running=True)
    async with node.world.agent() as agent:
        assert (await node.add(pod)).code == 0
        blocked = threading.Event()
        blocking = asyncio.create_task(agent._enrolment.in_kernel(blocked.wait))
        deleting = asyncio.create_task(node.delete(pod))
        done, _ = await asyncio.wait({deleting}, timeout=0.3)
        blocked.set()
        assert not done, "it waits, so that nobody holds the namespace any more when it ends"
        await blocking
        assert (await deleting).code == 0
        assert node.world.captured(agent) == set(), "although the object is still there"
        assert list((node.world.settings.run_dir / "sandboxes").iterdir()) == []


async def test_an_address_that_another_pod_gets(node: Node) -> None:
    first, second = node.pod(running=True), node.pod()
    async with node.world.agent() as agent:
        assert (await node.add(first)).code == 0
        await node.delete(first)
        ips = [str(address) for address in first.addresses]
        name, uid = f"default/{second.name}", f"uid-{second.name}"
        assert (await node.plugin.add("c2", second.path, name, uid, ips)).code == 0
        node.world.remove(first)
        [(cookie, state)] = agent._datapath.pods().items()
        assert cookie in cookies(second)
        assert set(state.addresses) == set(first.addresses)


async def test_check_asks_the_kernel(node: Node) -> None:
    pod, other = node.pod(), node.pod("none")
    async with node.world.agent() as agent:
        for one in (pod, other):
            assert (await node.add(one)).code == 0
            assert (await node.check(one)).code == 0
        [cookie] = cookies(pod)
        agent._datapath.release(cookie)
        assert "is not captured: what leaves it is not captured" in (await node.check(pod)).error["msg"]
        agent._datapath.forget(cookie)
        assert "the kernel does not know it" in (await node.check(pod)).error["msg"]


async def test_garbage_is_what_the_runtime_does_not_know(node: Node) -> None:
    pod, gone = node.pod(), node.pod()
    node.plugin.version = "1.1.0"
    async with node.world.agent() as agent:
        assert (await node.add(pod)).code == 0
        assert (await node.add(gone)).code == 0
        assert (await node.plugin.garbage(f"c-{pod.name}")).code == 0
        await eventually(lambda: node.world.captured(agent) == cookies(pod))


async def test_an_agent_that_comes_back_has_its_pods(node: Node) -> None:
    stays, gone, replaced = node.pod(), node.pod(), node.pod()
    async with node.world.agent():
        for pod in (stays, gone, replaced):
            assert (await node.add(pod)).code == 0
    assert (await node.delete(gone)).code == 0, "no agent is there"
    remove(gone)
    remove(replaced)
    make(replaced)
    async with node.world.agent() as agent:
        assert node.world.captured(agent) >= cookies(stays)
        await eventually(lambda: node.world.captured(agent) == cookies(stays))
        records = (node.world.settings.run_dir / "sandboxes").iterdir()
        assert [path.stem for path in records] == [f"c-{stays.name}"], "the others are not true any more"
