"""`warren check` beside a running agent: what is wanted against what is there."""

import asyncio
import json
from typing import Any

import pytest

from agent.cli import main
from agent.cli.admin_client import Unanswered, fetch
from agent.node.audit import Fault
from agent.node.report import Report
from agent.node.view import NodeView, look
from bpf.pins import Pins
from protocols.web import JSON, PROMETHEUS, TEXT
from tests.support.world import World

NOWHERE = "http://127.0.0.1:1"


def url(world: World) -> str:
    return f"http://127.0.0.1:{world.settings.metrics_port}"


async def looked(world: World) -> NodeView:
    """As the agent itself sees it, and tells."""
    told = await asyncio.to_thread(fetch, f"{url(world)}/check", Report, 10)
    assert told.view and not told.unready
    return told.view


async def test_pages_have_their_content_types(world: World) -> None:
    async with world.agent():
        for path, type_ in (("/check", JSON), ("/metrics", PROMETHEUS), ("/healthz/ready", TEXT)):
            assert f"\r\nContent-Type: {type_}\r\n" in await world.page(path)


async def test_pods_have_their_names(world: World) -> None:
    pod = world.node.pod()
    world.write(pod)
    async with world.agent():
        view = await looked(world)
    (shown,) = view.pods.values()
    assert (shown.name, shown.wanted, shown.captured, shown.routing) == (
        f"default/{pod.name}",
        True,
        True,
        True,
    )
    assert (shown.listening, {one.fault for one in shown.problems}) == (False, {Fault.LISTENER})


async def test_pod_that_the_kernel_has_lost(world: World) -> None:
    world.write(pod := world.node.pod())
    async with world.agent():
        Pins(world.settings.bpffs).unpin_pod(pod.netns.cookie())
        view = await looked(world)
    assert any(line.startswith(f"pod default/{pod.name}: what arrives") for line in view.problems)


async def test_pod_that_cannot_be_captured(world: World) -> None:
    world.write(pod := world.node.pod())
    world.node.delete(pod)
    async with world.agent():
        view = await looked(world)
    assert any(pod.name in line and "No such file" in line for line in view.problems)


async def test_pod_that_nobody_wants(world: World) -> None:
    world.write(pod := world.node.pod())
    async with world.agent():
        view = look(world.settings.cgroup, world.settings.bpffs, [])
    line = f"pod with netns cookie {pod.netns.cookie()} is captured, but not enrolled: restart the agent"
    assert line in view.problems


async def test_another_version_is_named(world: World) -> None:
    async with world.agent():
        (build,) = (world.settings.bpffs / "build").iterdir()
        build.rename(build.with_name("another"))
        view = await looked(world)
    assert "the programs are of another version than this one: restart the agent" in view.problems


async def test_exit_code_and_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.write(pod := world.node.pod())
    async with world.agent():
        places = ("--cgroup", str(world.settings.cgroup), "--bpffs", str(world.settings.bpffs))
        arguments = ["check", *places, "--agent", url(world), "--tunnel", NOWHERE, "--json"]
        assert await asyncio.to_thread(main.run, arguments) == 1
    said: dict[str, Any] = json.loads(capsys.readouterr().out)["pods"][str(pod.netns.cookie())]
    assert said["name"] == f"default/{pod.name}"
    assert said["problems"][0]["fault"] == "no_listener"


async def test_a_refused_policy_is_a_problem(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    policy = (
        "apiVersion: security.istio.io/v1\n"
        "kind: AuthorizationPolicy\n"
        "metadata: {name: tomorrow}\n"
        "spec: {rules: [{when: [{key: source.tomorrow, values: [x]}]}]}\n"
    )
    (world.source / "policy.yaml").write_text(policy)
    async with world.agent():
        places = ("--cgroup", str(world.settings.cgroup), "--bpffs", str(world.settings.bpffs))
        arguments = ["check", *places, "--agent", url(world), "--tunnel", NOWHERE, "--json"]
        assert await asyncio.to_thread(main.run, arguments) == 1
    said = json.loads(capsys.readouterr().out)["problems"]
    (problem,) = [line for line in said if not line.startswith("tunnel: no answer")]
    assert problem.startswith(f"refused: {world.source / 'policy.yaml'}:4: ")
    assert "AuthorizationPolicy default/tomorrow" in problem and "source.tomorrow" in problem


@pytest.mark.parametrize("url", [NOWHERE, "nowhere"])
def test_no_agent_answers(url: str) -> None:
    with pytest.raises(Unanswered) as error:
        fetch(f"{url}/check", Report, 1)
    assert not error.value.stranger
