"""The measurement: one agent and its tunnel, from nothing to the whole cluster, then while pods change."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.node.netns import NetnsFd
from bench.errors import BenchError
from bench.scale import node, pods
from bench.scale.acks import Acks
from bench.scale.api import Api
from bench.scale.churn import Change, churn
from bench.scale.cluster import Size
from bench.scale.node import Place, Process
from tests.support.ports import free_port

_SYNCED_WITHIN = 300.0  # seconds
_CALM = 2.0  # seconds: what went before is over
_MET = 10  # one of so many services is met by this node's pods, where the tunnel is on demand

Figures = dict[str, float]
Say = Callable[[str], None]


class Plan(NamedTuple):
    """rate: pod changes per second, for `seconds`."""

    size: Size
    rate: float
    seconds: float


async def round_(plan: Plan, at: Place, api: Api, spaces: Sequence[NetnsFd], say: Say) -> Figures:
    """One of each figure. Raises BenchError."""
    zds = at.run / "pods.sock"
    async with pods.announced(zds, plan.size, spaces):
        say("first state")
        began = time.time()
        agent = node.agent(at, (free_port(), free_port()))
        tunnel = node.tunnel(at, zds, on_demand=False)
        try:
            acks = Acks(agent)
            synced = await acks.until(plan.size.services + plan.size.pods, _SYNCED_WITHIN)
            await asyncio.sleep(_CALM)
            spent = {"agent_synced_cpu_s": agent.cpu(), "tunnel_synced_cpu_s": tunnel.cpu()}
            figures = (
                {"synced_s": synced - began} | spent | _memory(agent, "agent") | _memory(tunnel, "tunnel")
            )
            say(f"{plan.rate:g} changes per second")
            figures |= await _changing(plan, api, acks, agent, tunnel)
            figures |= _memory(agent, "agent_after") | _memory(tunnel, "tunnel_after")
            tunnel.stop()
            say("on demand")
            tunnel = node.tunnel(at, zds, on_demand=True)
            return figures | await _on_demand(plan.size, api, agent, tunnel, spaces)
        finally:
            tunnel.stop()
            agent.stop()


async def _changing(plan: Plan, api: Api, acks: Acks, agent: Process, tunnel: Process) -> Figures:
    """CPU as parts of one core, and how long changes take, half of them away and half back again."""
    began, before = time.monotonic(), (agent.cpu(), tunnel.cpu())
    changes: list[Change] = []
    for ready in (False, True):
        changes += await churn(api, plan.size, plan.rate, plan.seconds / 2, ready)
    took, after = time.monotonic() - began, (agent.cpu(), tunnel.cpu())
    await asyncio.sleep(1)  # for the last ones to be acknowledged
    acks.look()
    times = [(change, acks.after(change.uid, change.answered)) for change in changes]
    delays = sorted(max(0.0, time - change.answered) for change, time in times if time is not None)
    if not delays:
        raise BenchError("no change was acknowledged")
    return {
        "changes_per_s": len(changes) / took,
        "agent_cpu": (after[0] - before[0]) / took,
        "tunnel_cpu": (after[1] - before[1]) / took,
        "change_p50_ms": 1000 * delays[len(delays) // 2],
        "change_p99_ms": 1000 * delays[min(len(delays) - 1, len(delays) * 99 // 100)],
        "change_max_ms": 1000 * delays[-1],
        "unacknowledged": float(len(times) - len(delays)),
    }


async def _on_demand(
    size: Size, api: Api, agent: Process, tunnel: Process, spaces: Sequence[NetnsFd]
) -> Figures:
    await node.until_ready(tunnel, f"{pods.PODS} pods", 30)
    await asyncio.sleep(_CALM)
    alone = _memory(tunnel, "on_demand_alone")
    addresses = (await api.cluster_ips())[: size.services // _MET]
    await pods.meet(spaces, addresses)
    await asyncio.sleep(_CALM)
    agent.check()
    return alone | _memory(tunnel, "on_demand")


def _memory(process: Process, name: str) -> Figures:
    memory = process.memory()
    return {f"{name}_mb": memory["resident"], f"{name}_peak_mb": memory["peak"]}
