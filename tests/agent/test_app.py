"""The whole agent on a node of network namespaces: from a folder to the kernel and to the tunnels."""

import asyncio
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.app import Agent
from agent.errors import SettingsError
from agent.model.resources import ADDRESS
from agent.node.errors import DatapathError
from protocols.workload_pb2 import Address, TunnelProtocol
from tests.agent.xds.client import Client as XdsClient
from tests.agent.zds.client import Client as ZdsClient
from tests.agent.zds.client import snapshot
from tests.support.eventually import eventually
from tests.support.resident import Resident
from tests.support.wait import PATIENCE
from tests.support.world import World, cookies


async def test_from_the_folder_to_the_kernel_and_to_the_tunnels(world: World) -> None:
    pod, other = world.node.pod(), world.node.pod()
    world.write(pod)
    async with world.agent() as agent:
        assert world.captured(agent) == cookies(pod), "ready when what is there is captured"
        tunnel = Resident(world.node.make_cgroup("tunnel"))
        told = await asyncio.to_thread(tunnel.call, snapshot, world.settings.run_dir / "ztunnel.sock")
        assert told == [f"add uid-{pod.name}"]
        tunnel.close()

        async with XdsClient(f"unix:{world.settings.run_dir}/xds.sock") as client:
            await client.ask(ADDRESS)
            first = await client.hear()
            await client.acknowledge(first)
            [service, workload] = (Address.FromString(e.resource.value) for e in first.resources)
            assert service.service.name == "web"
            assert workload.workload.tunnel_protocol == TunnelProtocol.HBONE
            world.write(other)
            second = await client.hear()
            assert [e.name for e in second.resources] == [f"Kubernetes//Pod/default/{other.name}"]
        await eventually(lambda: world.captured(agent) == cookies(pod, other))

        world.remove(pod)
        await eventually(lambda: world.captured(agent) == cookies(other))
        world.write(other, mode="none")
        await eventually(lambda: world.captured(agent) == set())


async def test_an_agent_that_comes_back(world: World) -> None:
    stays, goes = world.node.pod(), world.node.pod()
    world.write(stays)
    world.write(goes)
    async with world.agent() as agent:
        assert world.captured(agent) == cookies(stays, goes)
    world.remove(goes)
    broken = world.source / "broken.yaml"
    broken.write_text("a: [")
    async with world.agent() as agent:
        assert world.captured(agent) == cookies(stays, goes), "what cannot be read may have wanted it"
        assert "warren_agent_rejected_objects 1.0" in await world.page("/metrics")
        broken.write_text("")
        await eventually(lambda: world.captured(agent) == cookies(stays))


async def test_a_bad_object_of_another_kind_keeps_no_pod_captured(world: World) -> None:
    goes = world.node.pod()
    world.write(goes)
    async with world.agent() as agent:
        assert world.captured(agent) == cookies(goes)
    world.remove(goes)
    (world.source / "bad.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: 1}"
    )
    async with world.agent() as agent:
        assert "warren_agent_rejected_objects 1.0" in await world.page("/metrics")
        await eventually(lambda: not world.captured(agent))


async def test_who_is_no_tunnel_hears_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.node.pod())
    async with world.agent():
        with ZdsClient(world.settings.run_dir / "ztunnel.sock") as client:
            assert await client.told() == "closed"
        assert "closed ZDS connection from tunnel pid" in caplog.text


async def test_what_of_an_object_does_not_work(world: World, caplog: pytest.LogCaptureFixture) -> None:
    head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n"
    (world.source / "a.yaml").write_text(
        f"{head}spec: {{rules: [{{when: [{{key: connection.sni, values: [a]}}]}}]}}"
    )
    async with world.agent():
        assert "AuthorizationPolicy default/a: rules[0]: connection.sni cannot be judged" in caplog.text
        assert "warren_agent_problem_objects 1.0" in await world.page("/metrics")


async def test_a_pod_whose_namespace_nobody_names(world: World, caplog: pytest.LogCaptureFixture) -> None:
    manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {nodeName: n1}\n"
    (world.source / "a.yaml").write_text(manifest)
    async with world.agent():
        assert "cannot be captured" not in caplog.text, "it has no network yet"
        (world.source / "a.yaml").write_text(manifest + "status: {podIP: 10.0.0.1}\n")
        await eventually(lambda: "cannot be captured: its network namespace is unknown" in caplog.text)


async def test_metrics(world: World) -> None:
    world.write(world.node.pod())
    async with world.agent(), XdsClient(f"unix:{world.settings.run_dir}/xds.sock") as client:
        await client.ask(ADDRESS)
        await client.acknowledge(await client.hear(), refuse="no")
        rejected = f'warren_agent_xds_subscriptions{{state="rejected",type="{ADDRESS}"}} 1.0'
        text = ""
        async with asyncio.timeout(PATIENCE):
            while rejected not in text:
                text = await world.page("/metrics")
    assert f'warren_agent_xds_answers_total{{answer="nack",type="{ADDRESS}"}} 1.0' in text
    assert 'warren_agent_objects{kind="Pod"} 1.0' in text
    assert f'warren_agent_resources{{type="{ADDRESS}"}} 2.0' in text
    assert "warren_agent_pods_enrolled 1.0" in text
    assert 'warren_xds_convergence_seconds_bucket{le="+Inf"} 0.0' in text
    assert 'warren_verdicts_total{verdict="connect_captured"} 0.0' in text
    assert "process_resident_memory_bytes" in text
    assert 'istio_build{component="warren-agent",tag="' in text


async def test_two_agents_on_one_node(world: World) -> None:
    async with world.agent():
        sockets = {path: path.stat().st_ino for path in world.settings.run_dir.glob("*.sock")}
        with pytest.raises(SettingsError, match=rf"--run-dir: .*/run is in use by .* \(pid {os.getpid()}\)"):
            Agent(world.settings)
        assert {path: path.stat().st_ino for path in world.settings.run_dir.glob("*.sock")} == sockets
        elsewhere = replace(world.settings, run_dir=world.settings.run_dir.with_name("other"))
        with pytest.raises(DatapathError, match="in use by another agent"):
            Agent(elsewhere)


async def test_a_port_that_is_taken_ends_it(world: World) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", world.settings.metrics_port)
    agent = Agent(world.settings)
    with pytest.raises(SettingsError, match="--metrics-port"):
        await agent.run()
    server.close()


async def test_a_run_folder_that_cannot_be(world: World, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(SettingsError, match="--run-dir"):
        Agent(world.settings)
