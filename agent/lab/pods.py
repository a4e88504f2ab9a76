"""A pod's processes and files: what a kubelet and a container runtime would set up."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from agent.lab import addresses, echo
from agent.lab.controllers import Body
from agent.lab.state import write_atomically

COMMAND = "warren.dev/command"
_RESOLV = """search {namespace}.svc.cluster.local svc.cluster.local cluster.local
nameserver {server}
options ndots:5
"""
_HOSTS = """127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
{own}
"""
_PAUSE = ["sleep", "infinity"]
_PASSED_ON = ("PATH", "TERM", "LANG", "LC_ALL", "COLORTERM")


def write_etc(folder: Path, pod: Body) -> None:
    """The files that a pod sees in place of the machine's in /etc."""
    folder.mkdir(parents=True, exist_ok=True)
    meta, spec = pod["metadata"], pod["spec"]
    hostname = spec.get("hostname") or meta["name"][:63]
    names = hostname
    if spec.get("hostname") and spec.get("subdomain"):
        names = f"{hostname}.{spec['subdomain']}.{meta['namespace']}.svc.cluster.local {hostname}"
    own = "\n".join(f"{entry['ip']} {names}" for entry in pod["status"]["podIPs"])
    files = {
        "resolv.conf": _RESOLV.format(namespace=meta["namespace"], server=addresses.DNS_V4),
        "hosts": _HOSTS.format(own=own),
        "hostname": f"{hostname}\n",
        "nsswitch.conf": "hosts: files dns\n",  # not by way of a resolver of the machine's own
    }
    for name, text in files.items():
        write_atomically(folder / name, text)


def environment(pod: Body) -> dict[str, str]:
    """The variables of a process in a pod: its containers' own that have a plain value, and a minimum."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    own = {
        entry["name"]: str(entry["value"])
        for container in pod["spec"]["containers"]
        for entry in container.get("env", [])
        if "value" in entry
    }
    return {"HOME": "/root", "HOSTNAME": pod["metadata"]["name"], **kept, **own}


def tcp_ports(pod: Body) -> list[int]:
    """The TCP ports that the pod's containers declare."""
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    return sorted({port["containerPort"] for port in ports if port.get("protocol", "TCP") == "TCP"})


def awaited_ports(pod: Body) -> set[int]:
    """The ports that are served before the pod counts as started; none for a command of the user's."""
    return set() if COMMAND in pod["metadata"]["annotations"] else set(tcp_ports(pod))


def command(pod: Body) -> list[str]:
    """What stands in for the containers: the annotation's command, an echo server, or a mere pause."""
    meta = pod["metadata"]
    if text := meta["annotations"].get(COMMAND):
        return ["sh", "-c", text]
    if not tcp_ports(pod):
        return _PAUSE
    facts: dict[str, Any] = {
        "pod": meta["name"],
        "namespace": meta["namespace"],
        "node": pod["spec"]["nodeName"],
        "labels": meta["labels"],
        "ports": tcp_ports(pod),
    }
    return [sys.executable, "-IS", str(Path(echo.__file__)), json.dumps(facts)]
