"""`warren --node NODE COMMAND`: in that node's agent, through the API server, with one's own kubeconfig.

warren --node worker-1 status
warren -n shop why deploy/web svc/cart      # on the node of a pod of that Deployment
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.errors import SettingsError
from agent.kube import exec as pod_exec
from agent.kube.client import Client, path_of

AGENTS = "app.kubernetes.io/name=warren-node"
_CONTAINER = "agent"
_KINDS = {
    "deploy": ("apis/apps/v1", "deployments"), "deployment": ("apis/apps/v1", "deployments"),
    "sts": ("apis/apps/v1", "statefulsets"), "statefulset": ("apis/apps/v1", "statefulsets"),
    "ds": ("apis/apps/v1", "daemonsets"), "daemonset": ("apis/apps/v1", "daemonsets"),
    "rs": ("apis/apps/v1", "replicasets"), "replicaset": ("apis/apps/v1", "replicasets"),
}  # fmt: skip
_PODS, _SERVICES = {"po", "pod"}, {"svc", "service"}


def remote(
    arguments: Sequence[str], node: str | None, namespace: str, system: str, kubeconfig: Path | None
) -> int:
    """Its exit code. node: None for that of the first workload that is named. Raises WarrenError."""
    client = Client.load(kubeconfig)
    try:
        argv = list(arguments)
        if node is None:
            argv, node = on_its_node(client, argv, namespace)
        tty = sys.stdout.isatty()
        words = ["env", f"COLUMNS={shutil.get_terminal_size().columns}"] if tty else []
        where = system, agent_of(client, system, node), _CONTAINER
        return pod_exec.run(
            client, where, [*words, "warren", *argv], _to(sys.stdout), _to(sys.stderr), tty=tty
        )
    finally:
        client.close()


def agents(client: Client, system: str) -> dict[str, str]:
    """The agents' pods, by their nodes. Raises ApiError."""
    return {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in _running(client, system, AGENTS)}


def agent_of(client: Client, system: str, node: str) -> str:
    """The agent's pod on a node. Raises ApiError, SettingsError."""
    found = agents(client, system)
    if node not in found:
        there = f"they run on {', '.join(sorted(found))}" if found else "none runs there"
        raise SettingsError(f"no agent runs on node {node} in namespace {system}: {there}")
    return found[node]


def on_its_node(client: Client, argv: list[str], namespace: str) -> tuple[list[str], str]:
    """The words as they are said on the node of the first workload among them, and that node.

    Raises ApiError, SettingsError.
    """
    node, said = "", []
    for word in argv:
        kind, _, name = word.partition("/")
        if kind in _SERVICES and name:
            host, colon, port = name.partition(":")
            said.append(f"{host}.{namespace}{colon}{port}")
        elif (kind in _KINDS or kind in _PODS) and name:
            pod = _pod(client, kind, name, namespace)
            node = node or pod["spec"]["nodeName"]
            said.append(f"{namespace}/{pod['metadata']['name']}")
        else:
            said.append(word)
    if not node:
        raise SettingsError(
            f"which node? name it with --node, or a workload of {namespace}, such as deploy/web"
        )
    return said, node


def _pod(client: Client, kind: str, name: str, namespace: str) -> dict[str, Any]:
    """A pod that runs. Raises ApiError, SettingsError."""
    if kind in _PODS:
        pod: dict[str, Any] = client.read(path_of("api", "v1", "namespaces", namespace, "pods", name))
        return pod
    group, plural = _KINDS[kind]
    workload = client.read(f"/{group}{path_of('namespaces', namespace, plural, name)}")
    found = next(_running(client, namespace, selector(workload["spec"]["selector"])), None)
    if found is None:
        raise SettingsError(f"no pod of {kind}/{name} runs in namespace {namespace}")
    return found


def selector(labels: dict[str, Any]) -> str:
    """A LabelSelector of meta/v1 as the text that a query has."""
    parts = [f"{name}={value}" for name, value in labels.get("matchLabels", {}).items()]
    words = {"In": "{0} in ({1})", "NotIn": "{0} notin ({1})", "Exists": "{0}", "DoesNotExist": "!{0}"}
    for one in labels.get("matchExpressions", ()):
        parts.append(words[one["operator"]].format(one["key"], ",".join(one.get("values", ()))))
    return ",".join(parts)


def _running(client: Client, namespace: str, labels: str) -> Iterator[dict[str, Any]]:
    path = path_of("api", "v1", "namespaces", namespace, "pods")
    for pod in client.read(path, query={"labelSelector": labels}).get("items", ()):
        if pod.get("status", {}).get("phase") == "Running" and pod["spec"].get("nodeName"):
            yield pod


def _to(stream: Any) -> Any:
    def write(data: bytes) -> None:
        stream.buffer.write(data)
        stream.flush()

    return write
