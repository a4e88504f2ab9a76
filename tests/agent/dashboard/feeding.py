"""Looks for tests: a mesh that does not exist, through the door by which real nodes tell of theirs."""

import random
from itertools import pairwise

from agent.dashboard.look import Edge, Event, Look, Workload


def workload(name: str, namespace: str = "shop", captured: bool = True) -> Workload:
    identity = f"spiffe://cluster.local/ns/{namespace}/sa/{name}" if captured else ""
    pods = ((f"{name}-5d8-x1", "10.0.0.1", "node1"),)
    service = f"{namespace}/{name}.{namespace}.svc.cluster.local"
    return Workload(
        f"workload/{namespace}/{name}", namespace, name, identity, captured, True, (service,), pods
    )


def edge(source: str, destination: str, **counts: object) -> Edge:
    return Edge(source, destination, **counts)  # type: ignore[arg-type]


def denial(source: str, destination: str, at: float = 0) -> Event:
    return Event(at, source, destination, "shop/a", "shop/b:80", "connection", "refused", "denied by policy")


def large(count: int, seed: int = 1) -> Look:
    """A mesh of so many workloads in tens of namespaces, in ranks, each of which calls some of the next."""
    chance = random.Random(seed)
    each = [workload(f"app-{number}", f"team-{number % 23}") for number in range(count)]
    ranks = [each[number::8] for number in range(8)]
    edges = [
        edge(one.id, other.id, requests=chance.uniform(1, 90), paths={"tunnel": 1.0}, durations={20: 1.0})
        for rank, after in pairwise(ranks)
        for one in rank
        for other in chance.sample(after, min(3, len(after)))
    ]
    return Look("node1", 1.0, tuple(edges), workloads=tuple(each))
