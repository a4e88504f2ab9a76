"""A client's stream: in what order its types are answered."""

from agent.model.resources import (
    ADDRESS,
    AUTHORIZATION,
    CREDENTIAL,
    LISTENERS,
    TRAFFIC,
    Delta,
    credential_resource,
    listeners_resource,
    traffic_resource,
)
from agent.xds.cache import Cache
from agent.xds.stream import Stream
from protocols.discovery_pb2 import DeltaDiscoveryRequest
from protocols.routes_pb2 import Credential, GatewayListeners
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


def test_private_keys_are_given_to_whom_they_are_for() -> None:
    """By name, within this host; who asks for everything, or over the network, gets none."""
    cache, name = Cache(), "edge/ingress"
    listeners = listeners_resource(GatewayListeners(namespace="edge", pod="ingress"))
    cache.apply(Delta(changed=(listeners,)), "1")

    def given(peer: str, *names: str) -> list[str]:
        stream = Stream(peer, cache)
        stream.receive(DeltaDiscoveryRequest(type_url=LISTENERS, resource_names_subscribe=names))
        answer = stream.next_response()
        return [one.name for one in answer.resources] if answer else []

    assert given("unix:", name) == [name]
    assert given("unix:") == given("unix:", "*") == given("unix:", "edge/other") == []
    assert given("ipv4:127.0.0.1:5000", name) == []


def test_credentials_are_told_over_the_unix_socket_alone() -> None:
    """Anybody may connect over TLS."""
    cache = Cache()
    secret = credential_resource(Credential(name="Secret/a/b", private_key=b"key"))
    told = {}
    for peer in ("unix:", "ipv4:127.0.0.1:4711", "ipv6:[::1]:4711", ""):
        stream = Stream(peer, cache)
        stream.receive(DeltaDiscoveryRequest(type_url=CREDENTIAL))
        first = stream.next_response()
        assert first
        stream.receive(DeltaDiscoveryRequest(type_url=CREDENTIAL, response_nonce=first.nonce))
        cache.apply(Delta(changed=(secret,)), "1")
        later = stream.next_response()
        told[peer] = [one.name for answer in (first, later) if answer for one in answer.resources]
        cache = Cache()
    assert told == {"unix:": ["Secret/a/b"], "ipv4:127.0.0.1:4711": [], "ipv6:[::1]:4711": [], "": []}


def test_there_is_news_of_what_was_asked_for_until_the_client_is_gone() -> None:
    a, b = resources(model_of(pod("a"), pod("b", "10.0.0.9")), ADDRESS)
    cache = Cache()
    stream = Stream("peer", cache)
    stream.receive(DeltaDiscoveryRequest(node={"client_features": ["warren.aliases"]}))
    stream.receive(DeltaDiscoveryRequest(type_url=ADDRESS, resource_names_subscribe=[a.name]))
    while stream.next_response():
        pass
    news = []
    for delta in (Delta((b,)), Delta((a,))):
        stream.news.clear()
        cache.apply(delta, "1")
        news.append(stream.news.is_set())
    assert news == [False, True]
    stream.close()
    stream.news.clear()
    cache.apply(Delta(removed=(a.id,)), "2")
    assert not stream.news.is_set()
