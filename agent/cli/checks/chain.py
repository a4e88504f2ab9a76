"""Checks of the container network: our plugin in the chain, and others that redirect as well."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.cli.checks.check import Answer, Check, Seen

OURS = "warren-cni"
_READ = (".conf", ".conflist", ".json")
_OTHERS = {
    "istio-cni": "Istio",
    "linkerd-cni": "Linkerd",
    "kuma-cni": "Kuma",
    "consul-cni": "Consul",
    "osm-cni": "OSM",
}


def _files(seen: Seen) -> list[Path]:
    """By which the runtime goes, the first one first. Raises OSError."""
    return sorted(path for path in seen.cni[0].iterdir() if path.suffix in _READ)


def _plugins(path: Path) -> list[dict[str, Any]]:
    """Raises OSError, ValueError."""
    content = json.loads(path.read_text())
    plugins: list[dict[str, Any]] = content.get("plugins", [content])
    return plugins


def _all_plugins(seen: Seen) -> Iterator[dict[str, Any]]:
    for path in _files(seen):
        yield from _plugins(path)


def _there(seen: Seen) -> Answer:
    return bool(_files(seen)) or f"{seen.cni[0]} has no configuration: no network plugin is installed"


def _readable(seen: Seen) -> Answer:
    for path in _files(seen):
        try:
            _plugins(path)
        except ValueError as error:
            return f"{path} is no JSON: {error}"
    return True


def _in_first(seen: Seen) -> Answer:
    files = _files(seen)
    if not files:
        return None
    return any(one.get("type") == OURS for one in _plugins(files[0])) or f"{files[0]} does not call {OURS}"


def _last(seen: Seen) -> Answer:
    files = _files(seen)
    types = [one.get("type") for one in _plugins(files[0])] if files else []
    return None if OURS not in types else types[-1] == OURS or f"{types[-1]} comes after {OURS}"


def _binary(seen: Seen) -> Answer:
    if not any(one.get("type") == OURS for one in _all_plugins(seen)):
        return None
    path = seen.cni[1] / OURS
    if not path.exists():
        return f"{path} is not there"
    return os.access(path, os.X_OK) or f"{path} cannot be executed"


def _socket(seen: Seen) -> Answer:
    ours = [one for one in _all_plugins(seen) if one.get("type") == OURS]
    if not ours:
        return None
    socket = Path(ours[0].get("socket", ""))
    return socket.exists() or f"its socket {socket} is not there: pods are held"


def _no_other(seen: Seen) -> Answer:
    found = {_OTHERS[one["type"]] for one in _all_plugins(seen) if one.get("type") in _OTHERS}
    return not found or f"{', '.join(sorted(found))} redirects pods of this node, too"


def _cilium(seen: Seen) -> Answer:
    types = {one.get("type") for one in _all_plugins(seen)}
    if "cilium-cni" not in types:
        return True
    return OURS in types or f"Cilium is there and {OURS} is not in its chain: it may keep others out"


CHECKS = (
    Check(
        "cni.present",
        "a network plugin is installed",
        "install one: Warren is chained to it",
        _there,
        "note",
        before=True,
    ),
    Check("cni.readable", "its configurations can be read", "mend the file", _readable, before=True),
    Check(
        "cni.chained",
        "the first of them calls our plugin",
        "the agent puts it there: see its log",
        _in_first,
        "note",
    ),
    Check(
        "cni.last",
        "our plugin is the last of its chain: it needs the pod's addresses",
        "restart the agent",
        _last,
    ),
    Check(
        "cni.binary",
        "our plugin can be executed",
        "the agent copies it: name its --cni-bin-dir",
        _binary,
        "note",
    ),
    Check("cni.socket", "the agent's socket is where our plugin looks for it", "start the agent", _socket),
    Check(
        "cni.conflict",
        "no other mesh redirects pods of this node",
        "take one of them out of the chain: istio.io/dataplane-mode on a namespace says which mesh has it",
        _no_other,
        "note",
        before=True,
    ),
    Check(
        "cni.cilium",
        "Cilium lets others into its chain",
        "install Cilium with cni.exclusive=false",
        _cilium,
        before=True,
    ),
)
