"""The objects of a large cluster."""

import msgspec

from agent.model.schema.kubernetes import Pod, Service
from bench.scale import cluster
from bench.scale.cluster import Size
from bench.scale.loader import kinds

SIZE = Size(services=20, pods=200, nodes=10)


def test_there_are_as_many_as_said_each_with_a_name_of_its_own() -> None:
    for count, make in kinds(SIZE).values():
        made = [(one["metadata"].get("namespace"), one["metadata"]["name"]) for one in make(SIZE)]
        assert len(made) == len(set(made)) == count


def test_pods_are_what_the_agent_reads_and_spread_over_services_and_nodes() -> None:
    pods = msgspec.convert(list(cluster.pods(SIZE)), list[Pod])
    services = msgspec.convert(list(cluster.services(SIZE)), list[Service])
    assert len({pod.addresses for pod in pods}) == SIZE.pods
    assert all(pod.ready for pod in pods)
    assert {pod.spec.node_name for pod in pods} == {one["metadata"]["name"] for one in cluster.nodes(SIZE)}
    for service in services:
        selected = [pod for pod in pods if service.selector.items() <= pod.metadata.labels.items()]
        assert len(selected) == SIZE.pods // SIZE.services
        assert {pod.metadata.namespace for pod in selected} == {service.metadata.namespace}


def test_pods_come_in_the_order_in_which_a_server_lists_them() -> None:
    names = [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in cluster.pods(SIZE)]
    assert names == sorted(names)
