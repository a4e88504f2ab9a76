"""A client that asks, answers and comes back in any order has in the end what it asked for."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.resources import ADDRESS, Delta, Resource
from agent.xds.cache import Cache
from agent.xds.subscription import ALIASES, EVERYTHING, Subscription
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status

NAMES = st.sampled_from(["a", "b", "c", "d", "absent"])
VERSIONS = st.integers(1, 4)
STEP = st.one_of(
    st.tuples(st.just("put"), NAMES.filter(lambda name: name != "absent"), VERSIONS),
    st.tuples(st.just("remove"), NAMES, VERSIONS),
    st.tuples(st.just("subscribe"), NAMES | st.just(EVERYTHING), VERSIONS),
    st.tuples(st.just("unsubscribe"), NAMES | st.just(EVERYTHING), VERSIONS),
    st.tuples(st.just("answer"), st.sampled_from(["ack", "nack", "old"]), VERSIONS),
    st.tuples(st.just("reconnect"), NAMES, VERSIONS),
)


@dataclass
class Client:
    """What a client of the delta protocol keeps, by the protocol's own rules."""

    cache: Cache = field(default_factory=Cache)
    has: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    everything: bool = False
    pending: DeltaDiscoveryResponse | None = None

    def __post_init__(self) -> None:
        self.subscription = Subscription(ADDRESS, self.cache)

    def begin(self) -> None:
        """A new stream, to which it tells what it has."""
        self.subscription, self.pending = Subscription(ADDRESS, self.cache), None
        wanted = [*self.names, *([EVERYTHING] if self.everything and self.names else [])]
        request = DeltaDiscoveryRequest(type_url=ADDRESS, resource_names_subscribe=wanted)
        request.initial_resource_versions.update(self.has)
        self.everything = self.everything or not wanted
        self.subscription.receive(request)

    def change(self, name: str, version: int | None) -> None:
        there = self.cache.get(ADDRESS, name)
        if version is None and there is None:
            return
        changed = (Resource(ADDRESS, name, f"{version}", b""),) if version else ()
        self.cache.apply(Delta(changed, () if version else ((ADDRESS, name),)), "v")

    def subscribe(self, name: str) -> None:
        if name == EVERYTHING:
            self.everything = True
        else:
            self.names.add(name)
        self.subscription.receive(DeltaDiscoveryRequest(resource_names_subscribe=[name]))

    def unsubscribe(self, name: str) -> None:
        if name == EVERYTHING:
            self.everything = False
            self.has = {one: version for one, version in self.has.items() if one in self.names}
        else:
            known = name in self.names
            self.names.discard(name)
            if known:
                self.has.pop(name, None)
        self.subscription.receive(DeltaDiscoveryRequest(resource_names_unsubscribe=[name]))

    def answer(self, how: str) -> None:
        """To what was received last, which is in force either way; `old`: an answer to something else."""
        self.hear()
        if self.pending is None:
            return
        request = DeltaDiscoveryRequest(response_nonce=self.pending.nonce if how != "old" else "old")
        if how == "nack":
            request.error_detail.CopyFrom(Status(message="no"))
        if how != "old":
            self.pending = None
        self.subscription.receive(request)

    def hear(self) -> bool:
        response = None if self.pending else self.subscription.next_response()
        if response is None:
            return False
        self.pending = response
        self.has |= {one.name: one.version for one in response.resources}
        for name in response.removed_resources:
            self.has.pop(name, None)
        return True


def play(steps: list[tuple[str, str, int]]) -> Client:
    client = Client()
    client.begin()
    for what, name, version in steps:
        match what:
            case "put":
                client.change(name, version)
            case "remove":
                client.change(name, None)
            case "subscribe":
                client.subscribe(name)
            case "unsubscribe":
                client.unsubscribe(name)
            case "answer":
                client.answer(name)
            case "reconnect":
                client.begin()
    for _ in range(50):
        client.hear()
        if client.pending is None:
            return client
        client.answer("ack")
    raise AssertionError("it never comes to rest")


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_a_client_that_does_anything_ends_with_what_it_asked_for(steps: list[tuple[str, str, int]]) -> None:
    client = play(steps)
    there = {name: one.version for name in "abcd" if (one := client.cache.get(ADDRESS, name))}
    wanted = {name: version for name, version in there.items() if client.everything or name in client.names}
    assert client.has == wanted


LINKED = st.builds(
    lambda name, version, addresses, services, shares: Resource(
        ADDRESS, name, f"{version}", b"", addresses, services, shares
    ),
    st.sampled_from("abcd"),
    VERSIONS,
    ADDRESSES := st.lists(st.sampled_from(["/1", "/2"]), unique=True, max_size=2).map(tuple),
    st.sampled_from([(), ("s",), ("t",), ("s", "t")]),
    ADDRESSES,
)
SERVICE = st.builds(
    lambda name, version, addresses: Resource(ADDRESS, name, f"{version}", b"", addresses),
    st.sampled_from("st"),
    VERSIONS,
    st.sampled_from([(), ("/8",), ("/9",)]),
)
WISHES = st.sampled_from([*"abcdst", "/1", "/2", "/8", "/9", "/7"])


class OnDemand(Client):
    """One that knows aliases."""

    def __post_init__(self) -> None:
        self.subscription = Subscription(ADDRESS, self.cache, frozenset({ALIASES}))
        request = DeltaDiscoveryRequest(resource_names_subscribe=[EVERYTHING, *sorted(self.names)])
        request.resource_names_unsubscribe.append(EVERYTHING)
        self.subscription.receive(request)
        self.rest()

    def rest(self) -> None:
        while self.hear() or self.pending:
            self.answer("ack")

    def put(self, resource: Resource) -> None:
        self.cache.apply(Delta((resource,)), "v")

    def drop(self, name: str) -> None:
        if name in self.names:
            self.names.discard(name)
            self.has.pop(name, None)
            self.subscription.receive(DeltaDiscoveryRequest(resource_names_unsubscribe=[name]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(LINKED, SERVICE, WISHES, st.tuples(st.sampled_from("-!"), WISHES)), max_size=20))
def test_who_asked_for_a_part_has_after_each_change_what_one_who_comes_anew_is_given(
    steps: list[Resource | str | tuple[str, str]],
) -> None:
    client = OnDemand()
    for step in steps:
        match step:
            case Resource():
                client.put(step)
            case ("!", name) if not name.startswith("/"):
                client.change(name, None)
            case ("-", name):
                client.drop(name)
            case str():
                client.subscribe(step)
        client.rest()
        assert client.has == OnDemand(client.cache, names=client.names).has
