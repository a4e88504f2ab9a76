"""`warren cni`: the CNI plugin on this node, put there and taken away without an agent."""

from pathlib import Path

import click

from agent.cli.command import Command, option
from agent.cli.types import FOLDER, daemon_set

CONF_DIR, BIN_DIR = Path("/etc/cni/net.d"), Path("/opt/cni/bin")


@click.group()
def cni() -> None:
    """Put the CNI plugin on this node, or take it away."""


@cni.command(cls=Command)
@option(
    "--cni-conf-dir", type=FOLDER, default=CONF_DIR, help="folder of the runtime's network configurations"
)
@option("--cni-bin-dir", type=FOLDER, default=BIN_DIR, help="folder of its plugins")
@option("--run-dir", type=FOLDER, required=True, help="the agent's folder for its sockets")
@option(
    "--daemon-set", type=daemon_set, default="", help="NAMESPACE/NAME of the agent's: its pods are not held"
)
def install(cni_conf_dir: Path, cni_bin_dir: Path, run_dir: Path, daemon_set: str) -> None:
    """Put it there; an agent with --cni-conf-dir does so itself, and keeps it."""
    from agent.node.conflist import Conflist, entry  # noqa: PLC0415

    Conflist(cni_conf_dir, cni_bin_dir, entry(run_dir, daemon_set)).install()


@cni.command(cls=Command)
@option(
    "--cni-conf-dir", type=FOLDER, default=CONF_DIR, help="folder of the runtime's network configurations"
)
@option("--cni-bin-dir", type=FOLDER, default=BIN_DIR, help="folder of its plugins")
@option("--keep-binary", is_flag=True, help="CRI-O calls it for pods from before, until they are removed")
def uninstall(cni_conf_dir: Path, cni_bin_dir: Path, keep_binary: bool) -> None:
    """Take it away: pods start without waiting for an agent. Stop the agent first, which would repair it."""
    from agent.node import conflist  # noqa: PLC0415

    for path in conflist.uninstall(cni_conf_dir, cni_bin_dir, keep_binary):
        click.echo(f"removed {path}")
