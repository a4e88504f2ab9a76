"""A node's kubelet, as far as probes go: they say whether a pod is ready, and whether it is to be restarted.

    python -m agent.lab.prober LAB NODE

A process of a lab that was made with `--manifests`, on the node's network and in the cgroup that its agent
takes for the kubelet's: probes reach pods in the mesh under any policy. A gRPC probe is TCP only.
"""

import http.client
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from agent import logs
from agent.lab import kubelet
from agent.lab.lab import Lab
from agent.lab.members import Pod
from agent.lab.state import load, locked
from agent.model.schema.objects import Key

log = logging.getLogger("warren.kubelet")

_OTHERS = 120.0  # seconds for another command
_LOOK = 0.5  # seconds between two looks for pods that have come or gone


@dataclass
class Probe:
    """One probe of one container (v1.Probe), and how it went lately."""

    kind: str  # readiness, liveness or startup
    spec: Mapping[str, Any]
    ports: Mapping[str, int]  # of the container, by name
    good: int = 0
    bad: int = 0

    def setting(self, name: str, default: int) -> int:
        return int(self.spec.get(name, default))

    def verdict(self, answered: bool) -> bool | None:
        """What it says once it has said so often enough; None: no news."""
        self.good, self.bad = (self.good + 1, 0) if answered else (0, self.bad + 1)
        if self.good == self.setting("successThreshold", 1):
            return True
        if self.bad == self.setting("failureThreshold", 3):
            self.bad = 0
            return False
        return None

    def ask(self, pod: Pod) -> bool:
        """Whether the pod answers as it should."""
        within = self.setting("timeoutSeconds", 1)
        try:
            if target := self.spec.get("httpGet"):
                return _http(str(pod.ipv4), self._port(target["port"]), target.get("path", "/"), within)
            if command := self.spec.get("exec"):
                return pod.run(command["command"], timeout=within, check=False).returncode == 0
            target = self.spec.get("tcpSocket") or self.spec["grpc"]
            socket.create_connection((str(pod.ipv4), self._port(target["port"])), timeout=within).close()
        except (OSError, http.client.HTTPException, subprocess.TimeoutExpired):
            return False
        return True

    def _port(self, port: int | str) -> int:
        return port if isinstance(port, int) else self.ports.get(port) or int(port)


def probes(pod: Pod) -> Iterator[Probe]:
    """Of all of its containers."""
    for container in pod.body["spec"]["containers"]:
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ()) if "name" in port}
        for kind in ("readiness", "liveness", "startup"):
            if spec := container.get(f"{kind}Probe"):
                yield Probe(kind, spec, ports)


def follow(name: str, node: str) -> None:
    """Probe the node's pods until the lab is gone."""
    followed: dict[str, threading.Event] = {}
    while load(name):
        with locked(name, within=_OTHERS):
            there = {pod.body["metadata"]["uid"]: pod for pod in Lab.open(name).pods if pod.node == node}
        for uid in followed.keys() - there.keys():
            followed.pop(uid).set()
        for uid in there.keys() - followed.keys():
            followed[uid] = gone = threading.Event()
            for probe in probes(there[uid]):
                argument = (name, there[uid], probe, gone)
                threading.Thread(target=_keep_asking, args=argument, daemon=True).start()
        time.sleep(_LOOK)


def _keep_asking(name: str, pod: Pod, probe: Probe, gone: threading.Event) -> None:
    gone.wait(probe.setting("initialDelaySeconds", 0))
    while not gone.is_set():
        verdict = probe.verdict(probe.ask(pod))
        if verdict is not None and probe.kind == "readiness":
            _change(name, pod, lambda lab, body: kubelet.set_ready(lab.state, lab.cluster, body, verdict))  # noqa: B023
        elif verdict is False:
            log.warning("pod %s/%s fails its %s probe: restarting it", pod.namespace, pod.name, probe.kind)
            _change(name, pod, lambda *_: kubelet.restart(pod))
        if verdict is True and probe.kind == "startup":
            return
        gone.wait(probe.setting("periodSeconds", 10))


def _change(name: str, pod: Pod, change: Callable[[Lab, dict[str, Any]], None]) -> None:
    """Do it if the pod is still there."""
    with locked(name, within=_OTHERS):
        lab = Lab.open(name)
        body = lab.cluster.objects.get(Key("Pod", pod.namespace, pod.name))
        if body and body["metadata"]["uid"] == pod.body["metadata"]["uid"]:
            change(lab, body)


def _http(host: str, port: int, path: str, within: int) -> bool:
    with closing(http.client.HTTPConnection(host, port, timeout=within)) as connection:
        connection.request("GET", path)
        return 200 <= connection.getresponse().status < 400


if __name__ == "__main__":
    logs.configure("info", "text")
    follow(*sys.argv[1:])
