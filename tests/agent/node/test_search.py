"""Pods that no CNI call told of are looked for at the runtime, by the whole agent."""

import shutil
import subprocess
from os import mknod
from pathlib import Path
from stat import S_IFSOCK

import pytest

from agent.node import search
from tests.support.cri import Runtime, serving
from tests.support.eventually import eventually
from tests.support.world import World, cookies


@pytest.fixture
def socket(world: World, tmp_path: Path) -> Path:
    path = tmp_path / "cri.sock"
    world.configure(cri_socket=path)
    return path


async def test_found_as_soon_as_the_runtime_answers(
    world: World, socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pod, runtime = world.node.pod(), Runtime()
    world.write(pod, stated=False)
    runtime.add(pod.name, pod.path)
    async with world.agent() as agent:
        await eventually(lambda: "cannot find the running pods: --cri-socket" in caplog.text)
        assert world.captured(agent) == set()
        async with serving(runtime, socket):
            await eventually(lambda: world.captured(agent) == cookies(pod))


async def test_what_is_captured_stays_so_until_the_runtime_has_answered(world: World, socket: Path) -> None:
    """The agent's records are lost, and the runtime is away: nobody knows whose the captured pods are."""
    pod, gone, runtime = world.node.pod(), world.node.pod(), Runtime()
    for one in (pod, gone):
        world.write(one, stated=False)
        runtime.add(one.name, one.path)
    async with serving(runtime, socket), world.agent() as agent:
        await eventually(lambda: world.captured(agent) == cookies(pod, gone))
    shutil.rmtree(world.settings.run_dir / "sandboxes")
    world.remove(gone)
    async with world.agent() as agent:
        for _ in range(5):
            await agent._search.once()
            await agent._enrolment.in_kernel(lambda: None)  # whatever was to be done is done before this
            assert world.captured(agent) == cookies(pod, gone)
        async with serving(runtime, socket):
            await eventually(lambda: world.captured(agent) == cookies(pod))


async def test_one_that_cannot_be_looked_at_is_not_taken_for_gone(
    world: World, socket: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are captured; that one's trouble is named, and nothing is concluded from it."""
    unseen, pod, runtime = world.node.pod(), world.node.pod(), Runtime()
    place = tmp_path / "place"
    mknod(place, S_IFSOCK)  # there, and cannot be opened
    for one, path in ((unseen, place), (pod, pod.path)):
        world.write(one, stated=False)
        runtime.add(one.name, path)
    async with serving(runtime, socket), world.agent() as agent:
        await eventually(lambda: world.captured(agent) == cookies(pod))
        await eventually(lambda: f"{place}: No such device or address" in caplog.text)
        assert not agent._search.concluded.is_set() and "knows no sandbox" not in caplog.text
        place.unlink()
        place.symlink_to(unseen.path)
        await eventually(lambda: world.captured(agent) == cookies(pod, unseen))


async def test_a_sandbox_made_anew_without_a_call(
    world: World, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_LOOK", 0.05)
    pod, second, runtime = world.node.pod(), world.node.pod(), Runtime()
    world.write(pod, stated=False)
    runtime.add(pod.name, pod.path)
    async with serving(runtime, socket), world.agent() as agent:
        await eventually(lambda: world.captured(agent) == cookies(pod))
        runtime.sandboxes.clear()
        subprocess.run(["ip", "netns", "del", pod.name], check=True)  # noqa: ASYNC221
        await eventually(lambda: agent._pods.nowhere)
        assert world.captured(agent) == cookies(pod), "nothing is let loose before it is known where it is"
        runtime.add(pod.name, second.path, attempt=1)
        await eventually(lambda: world.captured(agent) == cookies(second))


async def test_what_the_runtime_does_not_know_is_named_once(
    world: World, socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown, ending, later, runtime = world.node.pod(), world.node.pod(), world.node.pod(), Runtime()
    world.write(unknown, stated=False)
    world.write(ending, stated=False, ending=True)
    text = f"pod default/{unknown.name} cannot be captured: its network namespace is unknown"
    async with serving(runtime, socket), world.agent() as agent:
        await eventually(lambda: text in caplog.text)
        runtime.add(later.name, later.path)
        world.write(later, stated=False)
        await eventually(lambda: world.captured(agent) == cookies(later))
        assert "warren_agent_pods_not_found 1.0" in await world.page("/metrics")
    assert caplog.text.count(text) == 1
    assert f"default/{ending.name}" not in caplog.text, "its sandbox goes before its object does"
