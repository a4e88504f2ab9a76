"""What `warren authz` shows to people."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from protocols.admin import Explanation, Judged, Outcome, Policy, Port, Rule, Unmet
from protocols.policies import origin
from protocols.proposal import Proposal

# Lists of a Proposal: what an entry is called, and its style.
REMARKS = {
    "invalid": ("invalid", "bold red"),
    "problems": ("problem", "yellow"),
    "left_out": ("left out", "dim"),
}
_IDENTITIES = ("principals", "serviceAccounts", "namespaces")
_RANGES = (
    "remoteIpBlocks",
    "notRemoteIpBlocks",
    "ipBlocks",
    "notIpBlocks",
    "destination.ip",
    "destination.ip (notValues)",
)
Objects = Mapping[str, str]  # which object has made a policy, by the policy's name


def show_explanation(console: Console, said: Explanation, objects: Objects) -> None:
    """Who asks whom, and for each port the verdict above the policies that hold."""
    source, destination = said.source, said.destination
    identity = source.identity or "plain text, no identity"
    console.print(Text(_joined("from ", source.name, identity, source.address)))
    console.print(Text(_joined("to   ", destination.name, destination.address)))
    for assumed in _assumed(said):
        console.print(Text(f"assumed: {assumed}", "yellow"))
    for one in said.ports:
        style = "green" if one.verdict == "allowed" else "bold red"
        tree = Tree(Text(f"port {one.port}: {verdict(one, objects)}", style))
        for policy in one.policies:
            _add_policy(tree, policy, objects[policy.name])
        for name in one.missing:
            tree.add(Text(f"{name}: has not been received, or is invalid", "red"))
        console.print(tree)
        if one.would_refuse:
            console.print(Text(f"{origin(one.would_refuse)}, in dry run, would refuse it", "yellow"))
        if one.audited:
            console.print(Text(f"{origin(one.audited)} audits it", "yellow"))
        for line in consulted(one):
            console.print(Text(line, "yellow"))


def consulted(port: Port) -> Iterator[str]:
    """Who else has a say about requests that policies let in."""
    if port.verdict not in ("allowed", "needs_request"):
        return
    for policy in port.policies:
        numbers = [
            number for number, rule in enumerate(policy.rules) if rule.matches or rule.depends_on_request
        ]
        if policy.action == "CUSTOM" and numbers:
            yield f"{origin(policy.name)} has its provider asked before"
        elif policy.action == "LIMIT" and numbers:
            yield f"{origin(policy.name)} counts it: {', '.join(f'rules[{number}]' for number in numbers)}"


def show_check(console: Console, proposal: Proposal, outcomes: list[Judged]) -> None:
    """What is wrong with the policies, then the connections by what becomes of them."""
    for name, (word, style) in REMARKS.items():
        for remark in getattr(proposal, name):
            console.print(Text(f"{word}: {remark.place}: {remark.object}: {remark.text}", style))
    closed = [one for one in outcomes if one.closed]
    kept = [one for one in outcomes if not one.closed]
    if closed:
        console.print(_connections("Would be closed", closed))
    if kept:
        console.print(_connections("Would stay", kept))
    style = "bold red" if closed else "green"
    console.print(Text(f"{len(closed)} of {len(outcomes)} open connections would be closed", style))


def show_trial(console: Console, policies: list[dict[str, Any]]) -> None:
    """Policies that are counted and not enforced."""
    if not policies:
        console.print("No policy is in dry run, and none has the action AUDIT.")
        return
    title = "Connections that policies in dry run would have refused, or AUDIT policies have audited"
    rows = [(one["name"], one["action"], str(one["times"])) for one in policies]
    console.print(_table(title, ("policy", "action", "connections"), rows))
    console.print("Since the tunnel was started. Its access log names each: policy.dry_run, policy.audit.")


def verdict(outcome: Outcome, objects: Objects | None = None) -> str:  # noqa: PLR0911
    """A verdict with its reason."""
    name = outcome.policy or ""
    policy = (objects or {}).get(name) or origin(name)
    match outcome.verdict:
        case "allowed" if outcome.policy:
            return f"allowed by {policy}, rules[{outcome.rule}]"
        case "allowed":
            return "allowed: no policy denies it, and none has the action ALLOW"
        case "needs_request":
            return "it depends on the request: give --method, --path or -H"
        case "policy_denied" if _is_authentication(policy):
            return f"denied by {policy}: it is plain text"
        case "policy_denied":
            return f"denied by {policy}, rules[{outcome.rule}]"
        case "policy_not_allowed":
            return "not allowed: none of the policies with the action ALLOW matches"
        case _:
            return f"undecided: {outcome.text}"


def reason(rule: Rule) -> str:
    """Why a rule does not match."""
    if rule.unmet:
        return " or ".join(map(_unmet, rule.unmet))
    what = rule.unjudged or "what it asks for"
    return f"it never matches: {what} cannot be judged at L4{'' if rule.unjudged else ', or is invalid'}"


def _unmet(one: Unmet) -> str:
    values = ", ".join(one.values) + (f", and {one.more} more" if one.more else "")
    if one.found is None and one.field not in _IDENTITIES:
        return f"{one.field}: there is none, which would have to be {values}"
    if one.found is None:
        return f"{one.field}: plain text has no identity, which would have to be {values}"
    within, several = "in " if one.field in _RANGES else "", len(one.values) > 1
    if one.negated:
        how = f"is {within}{'one of ' if several else ''}"
    else:
        how = f"is {within}none of " if several else f"is not {within}"
    return f"{one.field}: {one.found} {how}{values}"


def _assumed(said: Explanation) -> Iterator[str]:
    assumed = said.assumed
    yield from (f"namespace default for {name}" for name in assumed.default_namespace)
    if assumed.service:
        yield f"Service {assumed.service} leads to pod {said.destination.name}"
    if assumed.no_address:
        yield "source address unknown; pass --address to evaluate rules with ipBlocks"


def _joined(start: str, *texts: str | None) -> str:
    return start + ", ".join(text for text in texts if text)


def _add_policy(tree: Tree, policy: Policy, made_by: str) -> None:
    if policy.refused:
        tree.add(Text(f"{made_by} was {policy.refused}", "bold red"))
    authentication = _is_authentication(made_by)
    how = "plain text is refused" if authentication else policy.action
    branch = tree.add(Text(f"{made_by}: {how}{', in dry run' if policy.dry_run else ''}"))
    for number, rule in enumerate(policy.rules):
        text = _authentication(rule) if authentication else _rule(number, rule)
        branch.add(Text(text, "bold" if rule.matches else "dim"))
    if not policy.rules:
        branch.add(Text("no rules: matches nothing", "dim"))


def _rule(number: int, rule: Rule) -> str:
    if rule.depends_on_request:
        return f"rules[{number}] depends on the request"
    if not rule.matches:
        return f"rules[{number}] does not match: {reason(rule)}"
    beyond = f" ({rule.unjudged} cannot be judged at L4)" if rule.unjudged else ""
    return f"rules[{number}] matches{beyond}"


def _authentication(rule: Rule) -> str:
    """The rule of a PeerAuthentication denies whoever has no identity, or asks for a port as well."""
    if rule.matches:
        return "it is plain text"
    identities = [one.found for one in rule.unmet if one.field == "notPrincipals"]
    return f"it comes by mutual TLS, as {identities[0]}" if identities else reason(rule)


def _is_authentication(origin: str) -> bool:
    """Whether a policy comes of a PeerAuthentication: then it denies those without an identity."""
    return origin.startswith("PeerAuthentication ")


def _connections(title: str, outcomes: Iterable[Judged]) -> Table:
    """Those that have all in common are one row."""
    counts = Counter(map(_described, outcomes))
    rows = [(*row, str(count)) for row, count in sorted(counts.items())]
    return _table(title, ("from", "to", "because", "connections"), rows)


def _described(outcome: Judged) -> tuple[str, str, str]:
    record = outcome.connection
    address = record["src.addr"].rpartition(":")[0]
    source = f"{record.get('src.identity', 'plain text')} {address}"
    target = f"{record.get('dst.workload', '')} {record.get('dst.hbone_addr', record['dst.addr'])}"
    because = verdict(outcome)
    if outcome.would_refuse:
        because += f"; {origin(outcome.would_refuse)}, in dry run, would refuse it"
    return source, target.strip(), because


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
