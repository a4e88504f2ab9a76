"""What a runtime says of its sandboxes, understood or refused by name."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.node.cri import Cri, CriError
from tests.support.cri import Runtime, serving

PODS = {("default", "a"), ("default", "b")}


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[tuple[Runtime, Cri]]:
    runtime, client = Runtime(), Cri(tmp_path / "cri.sock")
    async with serving(runtime, tmp_path / "cri.sock"):
        yield runtime, client
    await client.close()


async def test_sandboxes_of_the_pods_that_are_asked_for(asked: tuple[Runtime, Cri]) -> None:
    runtime, client = asked
    here = Path("/proc/self/ns/net")
    runtime.add("a", here, "u1", ("10.0.0.1", "fd00::1"))
    runtime.add("gone", here)
    runtime.add("b", Path("/run/netns/absent"))
    [found] = await client.sandboxes(PODS)
    assert (found.container, found.namespace, found.name, found.uid) == ("a-0", "default", "a", "u1")
    assert (found.netns, found.ips, found.created) == (here, ("10.0.0.1", "fd00::1"), 1)
    assert runtime.asked == ["a-0", "b-0"], "of the others nothing is asked"
    runtime.hidden.add("a-0")
    assert await client.sandboxes(PODS) == []


@pytest.mark.parametrize("info", ["{", '{"pid": "one"}', '{"runtimeSpec": []}'])
async def test_what_is_not_understood(asked: tuple[Runtime, Cri], info: str) -> None:
    runtime, client = asked
    runtime.add("a", Path("/proc/self/ns/net"))
    runtime.info = info
    with pytest.raises(CriError, match=r"cri\.sock: the status of sandbox a-0: "):
        await client.sandboxes(PODS)


async def test_nobody_there(tmp_path: Path) -> None:
    client = Cri(tmp_path / "absent.sock")
    with pytest.raises(CriError, match=r"--cri-socket .*absent\.sock: "):
        await client.sandboxes(PODS)
    await client.close()
