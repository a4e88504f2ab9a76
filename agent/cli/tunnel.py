"""`warren tunnel`: a node's tunnel."""

from pathlib import Path
from typing import Any

import click

from agent.cli.command import Command, option
from agent.cli.core_options import core_options, core_settings
from agent.cli.core_process import become
from tunnel.settings import TunnelSettings


@click.command(cls=Command)
@option(
    "--zds",
    type=click.Path(path_type=Path),
    required=True,
    help="socket at which the agent tells of its pods",
)
@core_options
@option(
    "--on-demand",
    is_flag=True,
    help="hold only the part of the mesh that is met here: less memory, a wait at each first meeting",
)
@option(
    "--bpffs",
    type=click.Path(path_type=Path),
    help="the agent's --bpffs: then an application's connect() waits for what the other end answers, and "
    "fails where that refuses [default: it succeeds at once, and the connection is reset]",
)
@option(
    "--direct",
    type=click.Path(path_type=Path),
    help="the agent's --bpffs: then the kernel carries allowed connections between pods of this node, in "
    "plain text, with both identities known [default: all go through the tunnel]",
)
@option(
    "--dns-capture/--no-dns-capture",
    default=True,
    help="answer pods' questions for ServiceEntries' hostnames as long as there are some with addresses; "
    "needs --bpffs",
)
@option(
    "--keep-listeners/--no-keep-listeners",
    default=False,
    help="have a small process keep the pods' listeners: a tunnel that is upgraded or killed refuses nobody, "
    "and its connections go on beside its successor; its files are beside the --zds socket",
)
@option(
    "--drain-age",
    type=click.FloatRange(0, 30 * 86400),
    default=86400.0,
    help="seconds that connections may go on in a tunnel that was replaced; needs --keep-listeners",
)
@option(
    "--cgroup",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="cgroup v2 directory below which tunnels run, so that they outlast their container; needs "
    "--keep-listeners [default: they stay in ours]",
)
def tunnel(
    *, zds: Path, on_demand: bool, bpffs: Path | None, direct: Path | None, dns_capture: bool, **given: Any
) -> None:
    """Run a node's tunnel: the bytes, inside mutual TLS."""
    own = {name: given.pop(name) for name in ("keep_listeners", "drain_age", "cgroup")}
    common = core_settings(given, on_demand=on_demand)
    settings = TunnelSettings(**common, **own, zds=zds, direct=direct, bpffs=bpffs, dns_capture=dns_capture)
    become(settings, given["log_level"], given["log_format"])
