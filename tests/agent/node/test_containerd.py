"""A real containerd starts the pods: it calls the plugin that the agent installed, and says what runs."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import pytest

from agent.node import pods as node_pods
from agent.node.netns import NetnsFd
from agent.node.state import Cookie
from tests.support.containerd import Containerd
from tests.support.eventually import eventually
from tests.support.netns import Pod
from tests.support.world import World


def wanted(world: World, running: bool = False) -> Pod:
    """A pod that the API server knows; its network will be the runtime's, only its name is used."""
    pod = world.node.pod()
    world.write(pod, stated=False, running=running)
    return pod


async def cookie(runtime: Containerd, sandbox: str) -> Cookie:
    """Of the network namespace that the runtime made."""
    status = await runtime.status(sandbox)
    pid = msgspec.json.decode(status.info["info"])["pid"]
    netns = NetnsFd.open(Path(f"/proc/{pid}/ns/net"))
    try:
        return Cookie(netns.cookie())
    finally:
        netns.close()


@pytest.fixture
def runtime(world: World) -> Iterator[Containerd]:
    with tempfile.TemporaryDirectory(prefix="wt-containerd-") as directory:
        yield Containerd(world.node, Path(directory))


async def test_pods_start_captured(
    world: World, runtime: Containerd, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = wanted(world)
    world.configure(cni_conf_dir=runtime.conf, cni_bin_dir=runtime.bin)
    async with world.agent() as agent:
        await eventually((runtime.conf / "10-net-warren.conflist").exists)
        async with runtime.running():
            sandbox = await runtime.run(pod)
            assert world.captured(agent) == {await cookie(runtime, sandbox)}
            status = (await runtime.status(sandbox)).status.network
            [state] = agent._datapath.pods().values()
            assert [str(address) for address in state.addresses] == [status.ip, status.additional_ips[0].ip]

            monkeypatch.setattr(node_pods, "_KNOWN_WITHIN", 0.1)
            with pytest.raises(grpc.aio.AioRpcError, match="is not known after"):
                await runtime.run(world.node.pod())

            await runtime.stop(sandbox)
            assert world.captured(agent) == set()


async def test_pods_that_ran_before_are_found(world: World, runtime: Containerd) -> None:
    pod = wanted(world, running=True)
    world.configure(cri_socket=runtime.socket)
    async with runtime.running():
        sandbox = await runtime.run(pod)
        async with world.agent() as agent:
            assert world.captured(agent) == {await cookie(runtime, sandbox)}, "when it says that it is ready"
            later = wanted(world)
            second = await runtime.run(later)
            world.write(later, stated=False, running=True)
            expected = {await cookie(runtime, one) for one in (sandbox, second)}
            await eventually(lambda: world.captured(agent) == expected)
        world.configure(cri_socket=None)
        async with world.agent() as agent:
            assert world.captured(agent) == expected, "what was found once is kept"
