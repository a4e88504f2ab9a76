"""What `warren authz` shows to people."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agent.model.translation.peer_authentication import origin
from agent.sources.proposal import Proposal

# Lists of a Proposal: what an entry is called, and its style.
REMARKS = {
    "invalid": ("invalid", "bold red"),
    "problems": ("problem", "yellow"),
    "left_out": ("left out", "dim"),
}
Row = dict[str, Any]
_PROVEN = re.compile(r"notPrincipals: (\S+) is \*")


def show_explanation(console: Console, said: Row) -> None:
    """Who asks whom, and for each port the verdict above the policies that hold."""
    console.print(Text(f"from {_party(said['from'])}"))
    console.print(Text(f"to   {_party(said['to'], identified=False)}"))
    for assumed in said["assumed"]:
        console.print(Text(f"assumed: {assumed}", "yellow"))
    for one in said["ports"]:
        style = "green" if one["verdict"] == "allowed" else "bold red"
        tree = Tree(Text(f"port {one['port']}: {verdict(one)}", style))
        for policy in one["policies"]:
            _add_policy(tree, policy)
        for name in one["missing"]:
            tree.add(Text(f"{name}: has not been received, or is invalid", "red"))
        console.print(tree)
        if one["would_refuse"]:
            console.print(Text(f"{origin(one['would_refuse'])}, in dry run, would refuse it", "yellow"))
        if one["audited"]:
            console.print(Text(f"{origin(one['audited'])} audits it", "yellow"))


def show_check(console: Console, proposal: Proposal, outcomes: list[Row]) -> None:
    """What is wrong with the policies, then the connections by what becomes of them."""
    for name, (word, style) in REMARKS.items():
        for remark in getattr(proposal, name):
            console.print(Text(f"{word}: {remark.place}: {remark.object}: {remark.text}", style))
    closed = [one for one in outcomes if one["closed"]]
    kept = [one for one in outcomes if not one["closed"]]
    if closed:
        console.print(_connections("Would be closed", closed))
    if kept:
        console.print(_connections("Would stay", kept))
    style = "bold red" if closed else "green"
    console.print(Text(f"{len(closed)} of {len(outcomes)} open connections would be closed", style))


def show_trial(console: Console, policies: list[Row]) -> None:
    """Policies that are counted and not enforced."""
    if not policies:
        console.print("No policy is in dry run, and none has the action AUDIT.")
        return
    title = "Connections that policies in dry run would have refused, or AUDIT policies have audited"
    rows = [(one["name"], one["action"], str(one["times"])) for one in policies]
    console.print(_table(title, ("policy", "action", "connections"), rows))
    console.print("Since the tunnel was started. Its access log names each: policy.dry_run, policy.audit.")


def verdict(outcome: Row) -> str:
    """A verdict with its reason."""
    policy = outcome.get("object") or origin(outcome["policy"] or "")
    match outcome["verdict"]:
        case "allowed" if outcome["policy"]:
            return f"allowed by {policy}, rules[{outcome['rule']}]"
        case "allowed":
            return "allowed: no policy denies it, and none has the action ALLOW"
        case "policy_denied" if _is_authentication(policy):
            return f"denied by {policy}: it is plain text"
        case "policy_denied":
            return f"denied by {policy}, rules[{outcome['rule']}]"
        case "policy_not_allowed":
            return "not allowed: none of the policies with the action ALLOW matches"
        case _:
            return f"undecided: {outcome['text']}"


def _party(party: Row, identified: bool = True) -> str:
    identity = (party["identity"] or "plain text, no identity") if identified else None
    return ", ".join(text for text in (party["name"], identity, party["address"]) if text)


def _add_policy(tree: Tree, policy: Row) -> None:
    if refused := policy["refused"]:
        tree.add(Text(f"{policy['object']} was {refused}", "bold red"))
    authentication = _is_authentication(policy["object"])
    how = "plain text is refused" if authentication else policy["action"]
    branch = tree.add(Text(f"{policy['object']}: {how}{', in dry run' if policy['dry_run'] else ''}"))
    for number, rule in enumerate(policy["rules"]):
        if rule["matches"]:
            beyond = f" ({rule['unjudged']} cannot be judged at L4)" if rule["unjudged"] else ""
            text, style = (
                ("it is plain text" if authentication else f"rules[{number}] matches{beyond}"),
                "bold",
            )
        else:
            reasons = " or ".join(rule["unmet"])
            text, style = f"rules[{number}] does not match: {reasons}", "dim"
            text = _PROVEN.sub(r"it comes by mutual TLS, as \1", reasons) if authentication else text
        branch.add(Text(text, style))
    if not policy["rules"]:
        branch.add(Text("no rules: matches nothing", "dim"))


def _is_authentication(origin: str) -> bool:
    """Whether a policy comes of a PeerAuthentication: then it denies those without an identity."""
    return origin.startswith("PeerAuthentication ")


def _connections(title: str, outcomes: Iterable[Row]) -> Table:
    """Those that have all in common are one row."""
    counts = Counter(map(_described, outcomes))
    rows = [(*row, str(count)) for row, count in sorted(counts.items())]
    return _table(title, ("from", "to", "because", "connections"), rows)


def _described(outcome: Row) -> tuple[str, str, str]:
    record = outcome["connection"]
    address = record["src.addr"].rpartition(":")[0]
    source = f"{record.get('src.identity', 'plain text')} {address}"
    target = f"{record.get('dst.workload', '')} {record.get('dst.hbone_addr', record['dst.addr'])}"
    because = verdict(outcome)
    if outcome["would_refuse"]:
        because += f"; {origin(outcome['would_refuse'])}, in dry run, would refuse it"
    return source, target.strip(), because


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
