"""What `warren why` shows to people."""

import textwrap
import time
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from agent.cli import routing, verdicts
from agent.cli.attempted import Attempted
from agent.cli.output import console
from agent.cli.units import short, span
from protocols.admin import Policy, Port, Rule, Why, WhyEndpoint, WhyPort
from protocols.agent import PodState
from protocols.policies import origin

_MARKS = {"yes": ("✓", "green"), "no": ("✗", "bold red"), "maybe": ("?", "yellow"), "": (" ", "")}
_SHOWN = 8  # endpoints
_INDENT = 14  # columns


def code(said: Why) -> int:
    """0: allowed at every port; 1: refused at one; 2: it depends, or the other end is not known here."""
    verdicts = {one.verdict for one in said.ports}
    if verdicts - {"allowed", "depends"}:
        return 1
    return 2 if "depends" in verdicts else 0


def show(said: Why, state: PodState | None, tried: Attempted | None) -> None:
    """The steps, then the verdict, for each port."""
    out = console()
    _source(out, said, state)
    _destination(out, said)
    for one in said.ports:
        _port(out, said, one)
    if tried is not None:
        _tried(out, tried)


def _line(out: Console, mark: str, what: str, text: str) -> None:
    sign, style = _MARKS[mark]
    [first, *rest] = textwrap.wrap(text, max(20, out.width - _INDENT)) or [""]
    out.print(Text.assemble((f"{sign} ", style), (f"{what:<{_INDENT - 2}}", "dim"), first))
    for line in rest:
        out.print(Text(" " * _INDENT + line))


def _source(out: Console, said: Why, state: PodState | None) -> None:
    source = said.source
    _line(out, "", "from", f"{source.name} ({', '.join(source.addresses)})")
    if state and state.failing:
        _line(out, "no", "captured", f"no: {state.failing}")
    elif not source.served:
        reason = state.excluded if state else "the tunnel does not serve it"
        _line(out, "no", "captured", f"no: {reason}; its connections are plain text")
        return
    elif state and not state.captured:
        _line(out, "no", "captured", "the agent has not captured it; see warren check")
    else:
        _line(out, "yes", "captured", f"yes, as {short(source.identity)}")
    until = source.certificate_until
    if until is None:
        _line(out, "no", "certificate", "none yet: it cannot use the tunnel; see warren certs")
    elif until <= time.time():
        _line(out, "no", "certificate", f"ended {span(time.time() - until)} ago; see warren certs")
    else:
        _line(out, "yes", "certificate", f"valid for {span(until - time.time())}")


def _destination(out: Console, said: Why) -> None:
    to = said.destination
    addresses = f" ({', '.join(to.addresses)})" if to.addresses and to.addresses != [to.name] else ""
    match to.kind:
        case "service":
            text = f"{to.asked} is the service {to.name}{addresses or ' (no address of its own)'}"
        case "pod":
            text = f"{to.asked} is the pod {to.name}{addresses}"
        case "address":
            text = f"{to.asked} is an address of no pod"
        case _:
            text = f"{to.asked} is unknown to the mesh: taken for a host outside of it"
    _line(out, "maybe" if to.kind == "outside" else "", "resolved", text)


def _port(out: Console, said: Why, one: WhyPort) -> None:
    out.print()
    allowed = one.verdict == "allowed"
    out.print(Text(f"port {one.port}: {one.text}", "green" if allowed else "bold red"))
    if one.routes:
        routing.show_decision(out, one.routes)
    if one.path:
        _line(out, "", "path", _path(one))
    shown = [one for one in one.endpoints if one.used][:_SHOWN]
    for endpoint in shown:
        _endpoint(out, endpoint)
    if left := len(one.endpoints) - len(shown):
        _line(out, "", "", f"and {left} more endpoints: -o json lists all")
    if not allowed:
        _line(out, "", "next", _remedy(said, one))


def _path(one: WhyPort) -> str:
    why = f": {one.not_direct}" if one.not_direct else ""
    match one.path:
        case "direct":
            return "direct: both pods are on this node; the kernel carries it once the tunnel has let one in"
        case "tunnel":
            return f"tunnel (mutual TLS){' to a waypoint' if one.waypoint else ''}; not direct{why}"
        case "requests":
            return "each request is routed on its own, through the tunnel where its endpoint is captured"
        case _:
            return "plain text: the mesh does not encrypt it"


def _endpoint(out: Console, one: WhyEndpoint) -> None:
    mark = "yes" if one.verdict == "allowed" else "no"
    place = f" on {one.node}" if one.node else ""
    _line(out, mark, "endpoint", f"{one.name or 'unknown'} {one.address}{place}, {one.path}")
    if one.policy is None:
        _line(out, "", "policy", "none is enforced there: it is not captured")
        return
    text = verdicts.verdict(one.policy) if one.policy.policies else "allowed: no policy selects it"
    if mark == "no" and one.policy.verdict == "allowed":
        text = f"{text}; refused before: {one.text}"
    _line(out, mark, "policy", text + ("" if one.policies_known else f" (decided on {one.node})"))
    for beside in verdicts.consulted(one.policy):
        _line(out, "", "", beside)
    if one.policy.verdict != "allowed":
        for policy, number, rule in _unmatched(one.policy):
            _line(out, "", "", f"{origin(policy.name)} rules[{number}]: {verdicts.reason(rule)}")


def _unmatched(port: Port) -> Iterator[tuple[Policy, int, Rule]]:
    """The first rules that would have allowed it."""
    allowing = [policy for policy in port.policies if policy.action == "ALLOW" and not policy.dry_run]
    rules = [(policy, *pair) for policy in allowing for pair in enumerate(policy.rules)]
    yield from (one for one in rules[:_SHOWN] if not one[2].matches)


def _remedy(said: Why, one: WhyPort) -> str:
    """What to look at next."""
    remedies = {
        "no_endpoint": "no pod is ready behind it: look at the Service's selector and the pods' readiness",
        "unknown_port": f"the Service has no port {one.port}: warren services",
        "not_in_registry": "a ServiceEntry for the host, or outboundTrafficPolicy ALLOW_ANY in a Sidecar",
        "no_identity": "warren certs; warren check says why the CA gives none",
        "no_route": "warren routes explain says which rules were tried",
        "policy_unknown": "the agent's log: a policy has not arrived or was refused; warren policies",
        "depends": "endpoints or shares differ, see above",
    }
    if one.verdict in remedies:
        return remedies[one.verdict]
    if one.verdict.startswith("policy_"):
        target = next((end.name for end in one.endpoints if end.used), said.destination.name)
        return f"warren authz explain {said.source.name} {target}"
    return "warren check"


def _tried(out: Console, tried: Attempted) -> None:
    out.print()
    for phase in tried.phases:
        mark = "no" if phase.error else "yes"
        text = f"{phase.milliseconds:8.1f} ms  {phase.error or phase.result}"
        _line(out, mark, phase.name, text)
    for line in _verdict(tried):
        out.print(line)


def _verdict(tried: Attempted) -> Iterator[Text]:
    failed = next((phase for phase in tried.phases if phase.error), None)
    if failed is None:
        yield Text("tried: it works", "green")
        return
    yield Text(f"tried: failed at {failed.name}: {failed.error}", "bold red")
    if tried.reason:
        yield Text(f"the tunnel says: {tried.reason}", "bold")
