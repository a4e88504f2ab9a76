"""Whether the parts of Warren on a node do their work, and what to do where one does not.

`inspect` asks agent and tunnel, `diagnose` judges what they said.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from agent.cli.admin_client import Unanswered, fetch
from agent.cli.generations import draining
from agent.node.report import Report
from protocols.report import Report as TunnelReport
from protocols.version import version

T = TypeVar("T")
_WITHIN = 2.0  # seconds; the tunnel needs one of them where the authority is silent
_STALE = 30.0  # seconds without the API server that are worth a word


@dataclass(frozen=True)
class Parts:
    """What agent and tunnel answered, or why they did not, at their URLs."""

    agent_url: str
    agent: Report | Unanswered
    tunnel_url: str
    tunnel: TunnelReport | Unanswered


@dataclass(frozen=True)
class Health:
    """problems: what has to be put right. remarks: what should be known. parts: what answers, in short."""

    problems: list[str]
    remarks: list[str]
    parts: dict[str, str]


def inspect(agent_url: str, tunnel_url: str) -> Parts:
    """Ask both at once; takes `_WITHIN` seconds at most."""
    with ThreadPoolExecutor(2) as pool:
        agent = pool.submit(_asked, agent_url, Report)
        tunnel = pool.submit(_asked, tunnel_url, TunnelReport)
        return Parts(agent_url, agent.result(), tunnel_url, tunnel.result())


def _asked(url: str, kind: type[T]) -> T | Unanswered:
    try:
        return fetch(f"{url}/check", kind, _WITHIN)
    except Unanswered as error:
        return error


def diagnose(parts: Parts) -> Health:
    """What follows from the answers, the causes before their consequences."""
    agent, tunnel = parts.agent, parts.tunnel
    health = Health([], [], {})
    if isinstance(agent, Report):
        pods = f"{len(agent.wanted)} pods of this node in the mesh"
        health.parts["agent"] = f"{agent.version}, {agent.objects} objects, {pods}"
        health.problems.extend(_of_agent(agent))
        health.remarks.extend(f"in force in part: {line}" for line in agent.partial)
    else:
        health.problems.append(_no_agent(parts.agent_url, agent))
    if isinstance(tunnel, TunnelReport):
        health.parts["tunnel"] = f"{tunnel.version}, {tunnel.pods.served} pods served"
        health.parts.update(draining(tunnel))
        health.parts["CA"] = f"{tunnel.authority.url}, {_certified(tunnel)}"
        health.problems.extend(_of_tunnel(tunnel))
    elif tunnel.stranger:
        health.remarks.append(f"tunnel: what answers at {parts.tunnel_url} is not Warren's ({tunnel})")
    else:
        health.problems.append(_no_tunnel(parts.tunnel_url, tunnel))
    if isinstance(agent, Report):
        health.problems.extend(f"refused: {line}" for line in agent.refused)
        health.problems.extend(f"rejected by the tunnel: {line}" for line in agent.rejected)
    health.problems.extend(_versions(parts))
    return health


def _no_agent(url: str, error: Unanswered) -> str:
    return (
        f"agent: no answer at {url} ({error}): new pods wait, and no change is applied; start it, "
        "its log says why it ended"
    )


def _no_tunnel(url: str, error: Unanswered) -> str:
    return (
        f"tunnel: no answer at {url} ({error}): connections of captured pods are refused; start it, "
        "its log says why it ended"
    )


def _of_agent(agent: Report) -> Iterator[str]:
    for reason in agent.unready:
        yield f"agent: not ready: {reason}"
    if agent.stale > _STALE:
        yield f"agent: has not heard the source for {agent.stale:.0f} s; what it knew stays in force"


def _of_tunnel(tunnel: TunnelReport) -> Iterator[str]:
    if tunnel.draining:
        yield "tunnel: draining: it ends when its connections do, or at --drain-deadline"
    if not tunnel.agent.pods:
        yield "tunnel: not connected to the agent, hears of no new pods: start the agent"
    if not tunnel.agent.configuration:
        yield "tunnel: receives no configuration (xDS), what it knew stays in force: start the agent"
    for name in tunnel.agent.configuration_lacks:
        yield f"tunnel: waits for configuration ({name}): see the agent's log"
    for problem in (*tunnel.pods.pending.values(), *tunnel.problems):
        yield f"tunnel: {problem}"
    authority = tunnel.authority
    if authority.problem:
        until = f"; certificates last until {_time(end)}" if (end := _first_end(tunnel)) else ""
        yield f"CA: {authority.url}: {authority.problem}: start it{until}"
    for one in tunnel.certificates:
        because = f": {one.problem}" if one.problem else ""
        if one.until is None or one.until <= time.time():
            lacks = f"expired at {_time(one.until)}" if one.until else "has none"
            yield f"certificate: {one.identity} {lacks}, its pods cannot connect or be reached{because}"
        elif one.problem:
            yield f"certificate: {one.identity} ends {_time(one.until)} and is not renewed{because}"


def _versions(parts: Parts) -> Iterator[str]:
    found = {"warren check": version()}
    for name, part in (("agent", parts.agent), ("tunnel", parts.tunnel)):
        if isinstance(part, Report | TunnelReport):
            found[name] = part.version
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name} {number}" for name, number in found.items())
        yield f"versions differ ({said}): complete the upgrade of this node"


def _certified(tunnel: TunnelReport) -> str:
    valid = sum(one.until is not None for one in tunnel.certificates)
    until = f", the first ends {_time(end)}" if (end := _first_end(tunnel)) else ""
    return f"{valid} of {len(tunnel.certificates)} certificates{until}"


def _first_end(tunnel: TunnelReport) -> int | None:
    return min((one.until for one in tunnel.certificates if one.until), default=None)


def _time(moment: int) -> str:
    return time.strftime("%FT%TZ", time.gmtime(moment))
