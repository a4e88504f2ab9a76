"""Checks of agent, tunnel, CA, certificates and objects: what they say of themselves."""

import time
from collections.abc import Callable

from agent.cli.checks.check import Answer, Check, Seen
from agent.cli.health import diagnose
from agent.node.report import Report
from protocols.report import Report as TunnelReport

_SOON = 3600.0  # seconds before its end at which a certificate has long been renewed


def _agent(probe: Callable[[Report], Answer]) -> Callable[[Seen], Answer]:
    """None without an agent that answers."""

    def of_agent(seen: Seen) -> Answer:
        return probe(seen.parts.agent) if seen.parts and isinstance(seen.parts.agent, Report) else None

    return of_agent


def _tunnel(probe: Callable[[TunnelReport], Answer]) -> Callable[[Seen], Answer]:
    """None without a tunnel that answers."""

    def of_tunnel(seen: Seen) -> Answer:
        tunnel = seen.parts.tunnel if seen.parts else None
        return probe(tunnel) if isinstance(tunnel, TunnelReport) else None

    return of_tunnel


def _answers(name: str, kind: type) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        if seen.parts is None:
            return None
        said = getattr(seen.parts, name)
        return isinstance(said, kind) or f"no answer: {said}"

    return probe


def _versions(seen: Seen) -> Answer:
    if seen.parts is None:
        return None
    return next((line for line in diagnose(seen.parts).problems if line.startswith("versions differ")), True)


def _none(lines: object, text: str) -> Answer:
    found = [*lines]  # type: ignore[misc]
    return not found or f"{text}: {found[0]}"


def _lacking(report: TunnelReport) -> Answer:
    now = time.time()
    ended = [one.identity for one in report.certificates if one.until is None or one.until <= now]
    return _none(ended, "no valid certificate")


def _ending(report: TunnelReport) -> Answer:
    now = time.time()
    soon = [one.identity for one in report.certificates if one.until and now < one.until < now + _SOON]
    return _none(soon, "ends within an hour")


def _renewing(report: TunnelReport) -> Answer:
    return _none(
        (f"{one.identity}: {one.problem}" for one in report.certificates if one.problem), "not renewed"
    )


CHECKS = (
    Check(
        "agent.answers",
        "the agent answers",
        "start it: its log says why it ended",
        _answers("agent", Report),
        told=True,
    ),
    Check(
        "agent.ready",
        "the agent is ready: pods may start",
        "its log says what it waits for",
        _agent(lambda agent: _none(agent.unready, "not ready")),
        told=True,
    ),
    Check(
        "agent.source",
        "the agent has heard the API server within 30 s",
        "see the API server; what is in force stays so",
        _agent(lambda agent: agent.stale <= 30 or f"silent for {agent.stale:.0f} s"),
        told=True,
    ),
    Check(
        "agent.objects",
        "there are objects in force",
        "see --source",
        _agent(lambda agent: agent.objects > 0 or "none"),
        "note",
    ),
    Check(
        "agent.pods",
        "each pod of the mesh is enrolled",
        "the text says why not",
        _agent(lambda agent: _none((pod.failing for pod in agent.wanted if pod.failing), "not enrolled")),
        told=True,
    ),
    Check(
        "objects.refused",
        "every object can be read",
        "mend it: warren analyze FILE",
        _agent(lambda agent: _none(agent.refused, "not in force")),
        told=True,
    ),
    Check(
        "objects.partial",
        "every object is in force as a whole",
        "warren analyze --live says what is left out",
        _agent(lambda agent: _none(agent.partial, "in force in part")),
        "note",
        told=True,
    ),
    Check(
        "objects.taken",
        "the tunnel has taken what the agent serves",
        "see the tunnel's log",
        _agent(lambda agent: _none(agent.rejected, "refused by the tunnel")),
        told=True,
    ),
    Check(
        "tunnel.answers",
        "the tunnel answers",
        "start it: its log says why it ended",
        _answers("tunnel", TunnelReport),
        told=True,
    ),
    Check(
        "tunnel.draining",
        "the tunnel is not about to end",
        "it ends with its connections, or at --drain-deadline",
        _tunnel(lambda tunnel: not tunnel.draining or "draining"),
        told=True,
    ),
    Check(
        "tunnel.pods-known",
        "the tunnel hears of new pods (ZDS)",
        "start the agent",
        _tunnel(lambda tunnel: tunnel.agent.pods or "not connected to the agent"),
        told=True,
    ),
    Check(
        "tunnel.configuration",
        "the tunnel is sent configuration (xDS)",
        "start the agent",
        _tunnel(lambda tunnel: tunnel.agent.configuration or "no configuration comes"),
        told=True,
    ),
    Check(
        "tunnel.complete",
        "it has received all of it",
        "see the agent's log",
        _tunnel(lambda tunnel: _none(tunnel.agent.configuration_lacks, "waits for")),
        told=True,
    ),
    Check(
        "tunnel.served",
        "it serves each pod that the agent gave it",
        "the text says why not",
        _tunnel(lambda tunnel: _none(tunnel.pods.pending.values(), "not served")),
        told=True,
    ),
    Check(
        "tunnel.problems",
        "it complains of nothing else",
        "as it says",
        _tunnel(lambda tunnel: _none(tunnel.problems, "it says")),
        told=True,
    ),
    Check(
        "ca.reachable",
        "the CA can be reached",
        "start it; certificates last for hours",
        _tunnel(lambda tunnel: not tunnel.authority.problem or tunnel.authority.problem),
        told=True,
    ),
    Check(
        "certificates.valid",
        "each identity has a valid certificate",
        "see the CA's log",
        _tunnel(_lacking),
        told=True,
    ),
    Check(
        "certificates.renewed", "each is renewed in time", "see the CA's log", _tunnel(_renewing), told=True
    ),
    Check(
        "certificates.lasting",
        "none ends within an hour",
        "see the CA's log and the clock",
        _tunnel(_ending),
        "note",
    ),
    Check(
        "versions.same",
        "agent, tunnel and this program are of one version",
        "complete the upgrade of this node",
        _versions,
        told=True,
    ),
)
