"""Checks of the cluster, through the API server, with the credentials of whoever asks (--kubeconfig)."""

import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from agent.cli.checks.check import Answer, Check, Seen

HBONE = 15008
LABEL = "istio.io/dataplane-mode"
_SYSTEM = "warren-system"
_SKEW = 5.0  # seconds between this machine's clock and the server's
_OLDEST = (1, 28)
_LISTS = {
    "nodes": "/api/v1/nodes",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
    "daemonsets": f"/apis/apps/v1/namespaces/{_SYSTEM}/daemonsets",
    "deployments": f"/apis/apps/v1/namespaces/{_SYSTEM}/deployments",
    "roots": "/api/v1/configmaps?fieldSelector=metadata.name%3Distio-ca-root-cert",
    "definitions": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}
Body = Mapping[str, Any]


def gather(read: Callable[[str], Any], date: Callable[[], str]) -> dict[str, Any]:
    """What the checks look at. read: gives a path's object; what raises OSError is left out."""
    found: dict[str, Any] = {}
    for name, path in {"version": "/version", **_LISTS}.items():
        try:
            found[name] = read(path)
        except OSError as error:
            found.setdefault("refused", {})[name] = str(error)
    found["skew"] = abs(parsedate_to_datetime(date()).timestamp() - time.time())
    return found


def blocks(policy: Body, port: int = HBONE) -> str:
    """In which direction a NetworkPolicy keeps HBONE from the pods that it selects; empty: in none.

    networking.k8s.io/v1: a rule without ports allows all; no pod declares 15008, so that no name is it.
    """
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    for direction in types:
        rules = spec.get(direction.lower()) or []
        if not any(_allows(rule.get("ports") or [], port) for rule in rules):
            return str(direction)
    return ""


def _allows(ports: list[Body], port: int) -> bool:
    return not ports or any(
        one.get("protocol", "TCP") == "TCP" and ("port" not in one or _covers(one, port)) for one in ports
    )


def _covers(one: Body, port: int) -> bool:
    first = one["port"]
    return isinstance(first, int) and first <= port <= one.get("endPort", first)


def _items(seen: Seen, name: str) -> Iterator[Body]:
    """Raises KeyError where they could not be read."""
    assert seen.cluster is not None
    yield from seen.cluster[name].get("items") or ()


def _cluster(probe: Callable[[Seen], Answer]) -> Callable[[Seen], Answer]:
    """None where no API server was asked."""
    return lambda seen: None if seen.cluster is None else probe(seen)


def _named(body: Body) -> str:
    metadata = body["metadata"]
    return "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)


def _first(names: list[str], text: str) -> Answer:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return not names or f"{text}: {', '.join(names[:3])}{more}"


def _policies(seen: Seen) -> Answer:
    inside = {_named(one) for one in _items(seen, "namespaces") if _in_mesh(one)}
    found = [
        f"{_named(one)} ({direction})"
        for one in _items(seen, "policies")
        if one["metadata"]["namespace"] in inside and (direction := blocks(one))
    ]
    return _first(found, f"port {HBONE} is blocked by NetworkPolicy")


def _in_mesh(namespace: Body) -> bool:
    return bool((namespace["metadata"].get("labels") or {}).get(LABEL) == "ambient")


def _reads(seen: Seen) -> Answer:
    refused = (seen.cluster or {}).get("refused") or {}
    return not refused or f"not to be read: {', '.join(refused)}"


def _version(seen: Seen) -> Answer:
    assert seen.cluster is not None
    said = seen.cluster["version"]
    number = int(said["major"]), int("".join(filter(str.isdigit, said["minor"])))
    return number >= _OLDEST or f"the API server is {said['gitVersion']}"


def _clock(seen: Seen) -> Answer:
    skew = float((seen.cluster or {})["skew"])
    return skew <= _SKEW or f"this clock and the API server's are {skew:.0f} s apart"


def _info(node: Body) -> Body:
    info: Body = node["status"]["nodeInfo"]
    return info


def _node_kernels(seen: Seen) -> Answer:
    old = [
        f"{_named(node)} ({kernel})"
        for node in _items(seen, "nodes")
        if tuple(map(int, (kernel := _info(node)["kernelVersion"]).split(".")[:2])) < (5, 10)
    ]
    return _first(old, "older than Linux 5.10")


def _node_systems(seen: Seen) -> Answer:
    others = [
        _named(node)
        for node in _items(seen, "nodes")
        if node["status"]["nodeInfo"]["operatingSystem"] != "linux"
    ]
    return _first(others, "no Linux, which the mesh does not reach")


def _ready(name: str, have: str, want: str) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        lacking = [
            f"{_named(one)} ({one.get('status', {}).get(have, 0)} of {wanted})"
            for one in _items(seen, name)
            if one.get("status", {}).get(have, 0) < (wanted := one.get("status", {}).get(want, 0))
        ]
        return _first(lacking, "not all are ready")

    return probe


def _installed(seen: Seen) -> Answer:
    names = {one["metadata"]["name"] for one in _items(seen, "daemonsets")}
    return "warren-node" in names or f"no DaemonSet warren-node in {_SYSTEM}"


def _kinds(group: str) -> Callable[[Seen], Answer]:
    def probe(seen: Seen) -> Answer:
        return (
            any(one["spec"]["group"].endswith(group) for one in _items(seen, "definitions"))
            or f"no kinds of {group}"
        )

    return probe


def _roots(seen: Seen) -> Answer:
    have = {one["metadata"]["namespace"] for one in _items(seen, "roots")}
    lacking = [_named(one) for one in _items(seen, "namespaces") if _in_mesh(one) and _named(one) not in have]
    return _first(lacking, "without istio-ca-root-cert")


def _any_mesh(seen: Seen) -> Answer:
    return any(map(_in_mesh, _items(seen, "namespaces"))) or "no namespace is in the mesh"


def _injected(seen: Seen) -> Answer:
    both = [
        _named(one)
        for one in _items(seen, "namespaces")
        if _in_mesh(one) and (one["metadata"].get("labels") or {}).get("istio-injection") == "enabled"
    ]
    return _first(both, "sidecars are injected, too, in")


CHECKS = (
    Check(
        "cluster.reads",
        "you may read what the checks look at",
        "ask for the rights; the checks are left out",
        _cluster(_reads),
        "note",
        before=True,
    ),
    Check(
        "cluster.version",
        "Kubernetes is 1.28 or newer",
        "upgrade it",
        _cluster(_version),
        "note",
        before=True,
    ),
    Check(
        "cluster.clock",
        "this clock agrees with the API server's within 5 s",
        "run chrony: certificates are dated",
        _cluster(_clock),
        before=True,
    ),
    Check(
        "cluster.kernels",
        "every node has Linux 5.10 or newer",
        "upgrade them, or keep the agent off them",
        _cluster(_node_kernels),
        before=True,
    ),
    Check(
        "cluster.systems",
        "every node runs Linux",
        "keep pods of the mesh off the others",
        _cluster(_node_systems),
        "note",
        before=True,
    ),
    Check(
        "cluster.network-policies",
        "no NetworkPolicy blocks HBONE, port 15008, of pods in the mesh",
        "allow TCP 15008 from and to pods of the mesh: their policies see the tunnel's port",
        _cluster(_policies),
        before=True,
    ),
    Check(
        "cluster.gateway-api",
        "the Gateway API's kinds are installed",
        "kubectl apply its standard-install.yaml, if you want them",
        _cluster(_kinds("gateway.networking.k8s.io")),
        "note",
        before=True,
    ),
    Check(
        "cluster.istio-kinds",
        "Istio's kinds are installed",
        "warren crds | kubectl apply -f -",
        _cluster(_kinds("istio.io")),
        "note",
        before=True,
    ),
    Check(
        "cluster.installed",
        "the agents' DaemonSet is there",
        "kubectl apply -k deploy/daemonset",
        _cluster(_installed),
    ),
    Check(
        "cluster.agents",
        "an agent is ready on each node",
        "kubectl -n warren-system get pods -o wide",
        _cluster(_ready("daemonsets", "numberReady", "desiredNumberScheduled")),
    ),
    Check(
        "cluster.controllers",
        "CA and reporter are ready",
        "kubectl -n warren-system get pods",
        _cluster(_ready("deployments", "readyReplicas", "replicas")),
    ),
    Check(
        "cluster.roots",
        "namespaces of the mesh have the root certificate",
        "the CA writes it: see its log",
        _cluster(_roots),
        "note",
    ),
    Check(
        "cluster.in-use",
        "a namespace is in the mesh",
        f"kubectl label namespace NAME {LABEL}=ambient",
        _cluster(_any_mesh),
        "note",
    ),
    Check(
        "cluster.sidecars",
        "no namespace has sidecars and the mesh at once",
        "take one of the two labels away",
        _cluster(_injected),
        "note",
        before=True,
    ),
)
