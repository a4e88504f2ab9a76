"""Names as in a cluster: one dnsmasq per node answers from a folder of hosts files, one per Service.

dnsmasq watches the folder. There is no upstream: outside of `cluster.local` only those names resolve that a
Pod stands in for, by its annotation `warren.dev/hostnames`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.lab import addresses
from agent.lab.cluster import Cluster
from agent.lab.controllers import Body
from agent.lab.state import write_atomically
from agent.model.schema.objects import Key

_DOMAIN = "svc.cluster.local"
HOSTNAMES = "warren.dev/hostnames"  # annotation of a Pod: names, with commas between them, that lead to it


def server(hosts: Path) -> list[str]:
    """The DNS server's command line.

    It runs in a node's network namespace, where its addresses are on `lo`.
    """
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--log-facility=-",
        "--no-hosts",
        "--no-resolv",
        "--local=/cluster.local/",
        f"--hostsdir={hosts}",
        "--bind-interfaces",
        f"--listen-address={addresses.DNS_V4}",
        f"--listen-address={addresses.DNS_V6}",
    ]


def write_hosts(folder: Path, cluster: Cluster) -> None:
    """Bring the folder of hosts files up to date with the cluster's Services and Pods."""
    folder.mkdir(parents=True, exist_ok=True)
    stale = {file.name for file in folder.iterdir()}
    entries = {_file(service): _entries(cluster, service) for service in cluster.of_kind("Service")}
    entries |= {f"{_file(pod)}_pod": _outside(pod) for pod in cluster.of_kind("Pod") if _names(pod)}
    for file, those in entries.items():
        text = "".join(f"{address} {name}\n" for address, name in sorted(set(those)))
        if not (folder / file).exists() or (folder / file).read_text() != text:
            write_atomically(folder / file, text)
        stale.discard(file)
    for name in stale:
        (folder / name).unlink()


def _file(item: Body) -> str:
    return f"{item['metadata']['namespace']}_{item['metadata']['name']}"


def _names(pod: Body) -> list[str]:
    text = pod["metadata"].get("annotations", {}).get(HOSTNAMES, "")
    return [name.strip() for name in text.split(",") if name.strip()]


def _outside(pod: Body) -> Iterator[tuple[str, str]]:
    """Addresses and names of a Pod that stands in for servers of the world."""
    for entry in pod.get("status", {}).get("podIPs", ()):
        yield from ((entry["ip"], name) for name in _names(pod))


def _entries(cluster: Cluster, service: Body) -> Iterator[tuple[str, str]]:
    """Addresses and names of one Service (Kubernetes DNS-Based Service Discovery, version 1.1.0)."""
    meta, spec = service["metadata"], service["spec"]
    name = f"{meta['name']}.{meta['namespace']}.{_DOMAIN}"
    for address in _addresses(cluster, service):
        yield address, name
    if spec.get("clusterIP") == "None":
        for pod in endpoints(cluster, service):
            own = pod["spec"]
            if own.get("hostname") and own.get("subdomain") == meta["name"]:
                yield from ((address, f"{own['hostname']}.{name}") for address in _of_families(pod, service))


def _addresses(cluster: Cluster, service: Body) -> Iterable[str]:
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        # Without an upstream only a name of the cluster has addresses.
        target = str(spec.get("externalName", "")).removesuffix(".").removesuffix(f".{_DOMAIN}")
        name, _, namespace = target.partition(".")
        other = cluster.objects.get(Key("Service", namespace, name))
        return _addresses(cluster, other) if other and other["spec"].get("type") != "ExternalName" else ()
    if spec["clusterIP"] != "None":
        own: list[str] = spec["clusterIPs"]
        return own
    return [address for pod in endpoints(cluster, service) for address in _of_families(pod, service)]


def endpoints(cluster: Cluster, service: Body) -> list[Body]:
    selector, namespace = service["spec"].get("selector", {}), service["metadata"]["namespace"]
    return [
        pod
        for pod in cluster.of_kind("Pod")
        if selector
        and pod["metadata"]["namespace"] == namespace
        and selector.items() <= pod["metadata"]["labels"].items()
    ]


def _of_families(pod: Body, service: Body) -> list[str]:
    wanted = {":" if family == "IPv6" else "." for family in service["spec"]["ipFamilies"]}
    own = pod.get("status", {}).get("podIPs", ())  # none before the pod is started
    return [entry["ip"] for entry in own if any(mark in entry["ip"] for mark in wanted)]
