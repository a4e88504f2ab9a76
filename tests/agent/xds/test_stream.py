"""A client's stream: in what order its types are answered."""

from agent.model.resources import ADDRESS, AUTHORIZATION, TRAFFIC, Delta, traffic_resource
from agent.xds.cache import Cache
from agent.xds.stream import Stream
from protocols.discovery_pb2 import DeltaDiscoveryRequest
from tests.agent.model.objects import model_of, pod, resources


def test_what_is_asked_for_first_is_answered_first() -> None:
    """A tunnel relies on it: it must not serve a workload before it knows what that may."""
    workloads = resources(model_of(pod("a")), ADDRESS)
    cache, types = Cache(), [TRAFFIC, AUTHORIZATION, ADDRESS]
    cache.apply(Delta(changed=(*workloads, traffic_resource("", "REGISTRY_ONLY"))), "1")
    stream = Stream("peer", cache)
    for type_url in types:
        stream.receive(DeltaDiscoveryRequest(type_url=type_url))
    answers = [answer for _ in types if (answer := stream.next_response())]
    assert [answer.type_url for answer in answers] == types
    assert [len(answer.resources) for answer in answers] == [1, 0, 1]
