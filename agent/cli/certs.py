"""`warren certs`: the certificates of this node's pods. Private keys never leave the tunnel's process."""

import time

import click
from msgspec import Struct

from agent.cli.command import Command
from agent.cli.node import Node, need, of_tunnel
from agent.cli.output import Cell, Form, bad, console, data, good, output, table
from agent.cli.units import short, span
from protocols.admin import CertificateFacts, HeldCertificate
from protocols.report import Certificate

_SOON = 3600.0  # seconds


class Row(Struct, frozen=True):
    """An identity of this node. state: valid, expired or missing. problem: why the last request failed."""

    identity: str
    state: str
    problem: str
    chain: list[CertificateFacts]
    roots: list[CertificateFacts]


@click.command(cls=Command)
@click.argument("identity", required=False)
@of_tunnel
@output
def certs(identity: str | None, tunnel: str, form: Form) -> int:
    """List the certificates of this node's identities; with IDENTITY (or a part of it) also their chains.

    Exit code 1 if one is missing or has expired.

    \b
    Example: warren certs sa/web
    """
    node = Node(tunnel)
    held, report = need(node.dump(), node).certificates, need(node.report(), node)
    now = time.time()
    rows = [row for row in _rows(held, report.certificates, now) if (identity or "") in row.identity]
    if form != "text":
        data(rows, form)
    else:
        columns = ("IDENTITY", "STATE", "ENDS IN", "SERIAL", "PROBLEM")
        table(columns, [_cells(row, now) for row in rows], "no identities")
        for row in rows if identity else ():
            _show_chain(row)
    return 0 if all(row.state == "valid" for row in rows) else 1


def _rows(held: list[HeldCertificate], wanted: list[Certificate], now: float) -> list[Row]:
    found = {one.identity: one for one in held}
    problems = {one.identity: one.problem for one in wanted}
    rows = []
    for identity in sorted(found.keys() | problems.keys()):
        one = found.get(identity)
        state = "missing" if one is None else "valid" if one.not_after > now else "expired"
        chain, roots = (one.chain, one.roots) if one else ([], [])
        rows.append(Row(identity, state, problems.get(identity, ""), chain, roots))
    return rows


def _cells(row: Row, now: float) -> tuple[Cell, ...]:
    state = good(row.state) if row.state == "valid" else bad(row.state)
    if not row.chain:
        return short(row.identity), state, "", "", row.problem
    leaf = row.chain[0]
    left = leaf.not_after - now
    ends = span(left) if left > 0 else f"ended {span(-left)} ago"
    return (
        short(row.identity),
        state,
        ends if left > _SOON else bad(ends),
        leaf.serial.replace(":", ""),
        row.problem,
    )


def _show_chain(row: Row) -> None:
    out = console()
    out.print(f"\n{row.identity}", markup=False)
    for place, one in [*(("chain", one) for one in row.chain), *(("root", one) for one in row.roots)]:
        until = time.strftime("%FT%TZ", time.gmtime(one.not_after))
        since = time.strftime("%FT%TZ", time.gmtime(one.not_before))
        out.print(f"  {place:5}  {one.subject}", markup=False)
        out.print(f"         issued by {one.issuer}", markup=False)
        out.print(f"         serial {one.serial.replace(':', '')}", markup=False)
        out.print(f"         valid from {since} to {until}", markup=False)
