"""`warren trace`: what the kernel does with a pod's TCP connections, without asking the tunnel."""

import json
import math
import time
from pathlib import Path

import click
import msgspec
from rich.text import Text

from agent.cli.command import Command, option
from agent.cli.node import Node, of_node
from agent.cli.output import Form, console, notes, output
from agent.cli.probe import Event, watch
from agent.errors import SettingsError
from protocols.agent import PodState

_LOOPBACK = {"127.0.0.1", "::1"}
_PORTS = {15001: "outbound", 15003: "connect", 15006: "plain", 15008: "HBONE"}
_STYLES = {"retransmit": "yellow", "reset sent": "red", "reset received": "red", "dropped": "bold red"}
_SHOWN = {"SYN_SENT", "SYN_RECV", "ESTABLISHED", "CLOSE"}


@click.command(cls=Command)
@click.argument("pod")
@click.argument("destination", required=False)
@option("--for", "seconds", type=click.FloatRange(0), envvar=None, help="how long [default: until Ctrl-C]")
@option("--all", "everything", is_flag=True, envvar=None, help="every state of a connection, too")
@of_node
@output
def trace(
    pod: str,
    destination: str | None,
    *,
    seconds: float | None,
    everything: bool,
    run_dir: Path,
    tunnel: str,
    form: Form,
) -> None:
    """Show connects, retransmits, resets and drops of POD as the kernel sees them, with its own reasons.

    DESTINATION is an address or a port of either end, or a part of a name. Needs root and BCC
    (python3-bpfcc), and neither the tunnel nor kernel headers. What the pod's applications connect to is the
    tunnel: what they meant is what warren flows says.

    \b
    Example: warren trace client --for 10
    """
    node = Node(tunnel, run_dir)
    found = find_pod(node, pod)
    names = _names(node)
    out = console()
    zero = time.time() - time.monotonic()

    def heard(event: Event) -> None:
        if not everything and event.kind == "state" and event.detail not in _SHOWN:
            return
        text = _line(event, names, zero)
        if destination and destination not in text.plain:
            return
        if form == "text":
            out.print(text, soft_wrap=True)
        else:
            click.echo(json.dumps(msgspec.to_builtins(event)))

    end = math.inf

    def ready() -> None:
        nonlocal end
        notes([f"tracing {found}; Ctrl-C ends it"])
        end = math.inf if seconds is None else time.monotonic() + seconds

    for _ in watch(Path(found.netns).stat().st_ino, heard, ready):
        if time.monotonic() >= end:
            return


def find_pod(node: Node, wanted: str) -> PodState:
    """A captured pod of this node, by its name, or that of its Deployment. Raises SettingsError."""
    pods = node.pods()
    if pods is None:
        raise SettingsError("; ".join(node.notes))
    space, _, name = wanted.rpartition("/")
    fitting = [pod for pod in pods if pod.namespace == (space or "default") and pod.netns]
    fits = [pod for pod in fitting if pod.name == name]
    fits = fits or [pod for pod in fitting if pod.name.startswith(f"{name}-")]
    if not fits:
        known = ", ".join(str(pod) for pod in pods if pod.netns)
        raise SettingsError(f"{wanted} is no captured pod of this node: pods are {known or 'none'}")
    return fits[0]


def _names(node: Node) -> dict[str, str]:
    """Of the mesh's addresses; none while the tunnel is down."""
    dump = node.dump()
    if dump is None:
        return {}
    workloads = {address: str(one) for one in dump.workloads for address in one.addresses}
    services = {address: one.key.partition("/")[2] for one in dump.services for address in one.addresses}
    return {**services, **workloads}


def _line(event: Event, names: dict[str, str], zero: float) -> Text:
    at = zero + event.at
    text = Text(time.strftime("%T", time.localtime(at)) + f".{int(at * 1000) % 1000:03} ", "dim")
    text.append(f"{_end(event.source, event.source_port, names)} -> ")
    text.append(f"{_end(event.destination, event.destination_port, names)} ")
    what = f"{event.former or 'CLOSE'} -> {event.detail}" if event.kind == "state" else event.kind
    text.append(what, _STYLES.get(event.kind, "cyan"))
    if event.kind == "dropped":
        text.append(f": {event.detail}")
    if event.process:
        text.append(f" {event.process}", "dim")
    return text


def _end(address: str, port: int, names: dict[str, str]) -> str:
    if address in _LOOPBACK and port in _PORTS:
        return f"tunnel ({_PORTS[port]})"
    return f"{names.get(address, address)}:{port}"
