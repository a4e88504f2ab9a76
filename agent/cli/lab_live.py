"""`warren lab` on a lab that is up: change what is in it, end and start its parts, look at what they say."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click

from agent.cli.command import Command, option
from agent.lab import Lab, manifests, mesh
from agent.lab import upgrade as lab_upgrade
from agent.lab.errors import LabError
from agent.lab.members import Node
from agent.lab.state import locked
from agent.model.schema.objects import Key

_KINDS = {
    short: kind
    for kind, shorts in {
        "Deployment": ("deploy", "deployment", "deployments"),
        "StatefulSet": ("sts", "statefulset", "statefulsets"),
        "DaemonSet": ("ds", "daemonset", "daemonsets"),
        "ReplicaSet": ("rs", "replicaset", "replicasets"),
        "Job": ("job", "jobs"),
        "Pod": ("po", "pod", "pods"),
        "Service": ("svc", "service", "services"),
        "ServiceAccount": ("sa", "serviceaccount", "serviceaccounts"),
        "Namespace": ("ns", "namespace", "namespaces"),
    }.items()
    for short in shorts
}
_ROLES = ("agent", "tunnel", "ca", "dns", "kubelet", "watch")
_OTHERS = 120.0  # seconds for another command, or the lab's own processes
_METRICS = {"agent": 15014, "tunnel": 15020, "ca": mesh.CA_METRICS_PORT}
_files = option(
    "-f", "--filename", "paths", type=click.Path(path_type=Path), multiple=True, envvar=None,
    help="YAML file or folder",
)  # fmt: skip
_namespace = option("-n", "--namespace", default="default", envvar=None, help="of the object")
_role = click.argument("role", type=click.Choice(_ROLES))
_node = click.argument("node", default="node1")


@contextlib.contextmanager
def opened(name: str) -> Iterator[Lab]:
    """The lab, with nobody else changing it."""
    with locked(name, within=_OTHERS):
        yield Lab.open(name)


@click.command(cls=Command)
@_files
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH...]")
@click.pass_obj
def apply(name: str, paths: tuple[Path, ...], more: tuple[Path, ...]) -> None:
    """Apply YAML files or folders, as kubectl apply; a workload that has changed gets new pods."""
    if not (given := [*paths, *more]):
        raise click.UsageError("apply what? name files or folders: warren lab apply PATH")
    read, others = manifests.read(given)
    with opened(name) as lab:
        pods = lab.put(read)
    for kind, count in sorted(others.items()):
        click.echo(f"left out {count} of kind {kind}, which is nothing to the lab")
    click.echo(f"applied {len(read)} objects, {len(pods)} new pods")


@click.command(cls=Command)
@_files
@_namespace
@click.argument("objects", nargs=-1, metavar="[KIND/NAME...]")
@click.pass_obj
def delete(name: str, paths: tuple[Path, ...], namespace: str, objects: tuple[str, ...]) -> None:
    """Take objects away: those of files, or KIND/NAME; workloads with their pods."""
    wanted = [one.key for one in manifests.read(paths)[0]] if paths else []
    wanted += [_key(text, namespace) for text in objects]
    if not wanted:
        raise click.UsageError("delete what? name KIND/NAME, or files by -f")
    with opened(name) as lab:
        gone = lab.withdraw(wanted)
    for key in gone:
        click.echo(f"deleted {key}")
    if missing := [str(key) for key in wanted if key not in gone]:
        raise LabError(f"not there: {', '.join(missing)}")


@click.command(cls=Command)
@_namespace
@click.argument("workload", metavar="KIND/NAME")
@click.argument("replicas", type=click.IntRange(0, 200))
@click.pass_obj
def scale(name: str, namespace: str, workload: str, replicas: int) -> None:
    """Have so many pods of a Deployment, StatefulSet or ReplicaSet."""
    key = _key(workload, namespace)
    with opened(name) as lab:
        pods = lab.scale(key, replicas)
    click.echo(f"{workload} has {replicas} pods, {len(pods)} of them new")


@click.command(cls=Command)
@_namespace
@click.argument("workload", metavar="KIND/NAME")
@click.pass_obj
def restart(name: str, namespace: str, workload: str) -> None:
    """Replace all pods of a workload, as kubectl rollout restart."""
    key = _key(workload, namespace)
    with opened(name) as lab:
        pods = lab.restart(key)
    click.echo(f"{workload} has {len(pods)} new pods")


@click.command(cls=Command)
@_role
@_node
@click.pass_obj
def start(name: str, role: str, node: str) -> None:
    """Start a role (agent, tunnel, ca, dns, ...) on a node (default: node1), and wait until it is ready."""
    _on(name, node, role).start(role)


@click.command(cls=Command)
@_role
@_node
@option("--kill", is_flag=True, envvar=None, help="at once, without a chance to drain")
@click.pass_obj
def stop(name: str, role: str, node: str, kill: bool) -> None:
    """End a role (agent, tunnel, ca, dns, ...) on a node (default: node1): what happens without it?"""
    found = _on(name, node, role)
    if not found.pids(role):
        raise LabError(f"the {role} of {node} does not run")
    found.stop(role, within=0) if kill else found.stop(role)


@click.command(cls=Command)
@click.argument("node", default="")
@option(
    "--checkout",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    envvar=None,
    help="of another version, built there: to it [default: to what is installed]",
)
@click.pass_obj
def upgrade(name: str, node: str, checkout: Path | None) -> None:
    """Replace a node's agent and tunnel, or each node's, by what is installed: no connection ends."""
    lab = Lab.open(name)
    for found in [lab.node(node)] if node else lab.nodes:
        lab_upgrade.upgrade(found, checkout)
        for one in lab_upgrade.generations(found):
            click.echo("{}: tunnel {number} is {stage}, {connections} connections".format(found.name, **one))


@click.command(cls=Command)
@click.argument("what", metavar="POD|ROLE")
@_node
@option("-f", "--follow", is_flag=True, envvar=None, help="go on as more is written")
@option("--lines", type=click.IntRange(0), default=1000, envvar=None, help="of the end")
@click.pass_obj
def logs(name: str, what: str, node: str, follow: bool, lines: int) -> None:
    """Show the log of a pod, or of a role on a node (default: node1); the tunnel's has the access log."""
    lab = Lab.open(name)
    log = _role_of(lab, node, what).log(what) if what in _ROLES else lab.pod(what).log
    if not log.exists():
        raise LabError(f"{what} has written nothing")
    argv = ["tail", f"--lines={lines}", *(["--follow=name"] if follow else []), str(log)]
    os.execvp(argv[0], argv)


@click.command(cls=Command)
@click.argument("role", type=click.Choice([*_METRICS]))
@_node
@click.pass_obj
def metrics(name: str, role: Literal["agent", "tunnel", "ca"], node: str) -> None:
    """Show the metrics of agent, tunnel or ca on a node (default: node1), as Prometheus gets them."""
    click.echo(_on(name, node, role).fetch(_METRICS[role], "/metrics"), nl=False)


COMMANDS = (apply, delete, scale, restart, start, stop, upgrade, logs, metrics)


def _key(text: str, namespace: str) -> Key:
    """Of KIND/NAME, as kubectl takes it; kinds beside the usual ones by their full name."""
    kind, _, own = text.partition("/")
    if not own:
        raise click.UsageError(f"{text!r} is not KIND/NAME, such as deploy/web")
    kind = _KINDS.get(kind.lower(), kind)
    return Key(kind, "" if kind == "Namespace" else namespace, own)


def _on(name: str, node: str, role: str) -> Node:
    return _role_of(Lab.open(name), node, role)


def _role_of(lab: Lab, node: str, role: str) -> Node:
    """Raises LabError for a node that has no such role."""
    found = lab.node(node)
    if role not in (roles := mesh.roles(lab.state, found.place)):
        raise LabError(f"{node} runs no {role}: it runs {', '.join(roles)}")
    return found
