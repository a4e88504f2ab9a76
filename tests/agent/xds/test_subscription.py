"""The delta protocol, played against one subscription without a network."""

from typing import Any

import pytest

from agent.model.resources import ADDRESS, Delta, Resource
from agent.model.schema.objects import Key
from agent.model.unread import NOTHING_UNREAD, Unread
from agent.xds.cache import Cache
from agent.xds.subscription import ALIASES, PART_BYTES, PARTS, Subscription
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status

WEB = Resource(ADDRESS, "ns/web", "w1", b"web", ("/10.96.0.1",))
A = Resource(ADDRESS, "uid/a", "a1", b"a", ("/10.0.0.1",), ("ns/web",))
B = Resource(ADDRESS, "uid/b", "b1", b"b", ("/10.0.0.2",))


class Play:
    """A client and what the server answers it: `ask` and `change`, then look at what was `told`."""

    def __init__(self, *resources: Resource, features: frozenset[str] = frozenset()) -> None:
        self.cache = Cache()
        self.cache.apply(Delta(resources), "v1")
        self.subscription = Subscription(ADDRESS, self.cache, features)
        self.last: DeltaDiscoveryResponse | None = None

    def ask(self, *subscribe: str, drop: tuple[str, ...] = (), **fields: Any) -> None:
        names: dict[str, Any] = {"resource_names_subscribe": subscribe, "resource_names_unsubscribe": drop}
        self.subscription.receive(DeltaDiscoveryRequest(type_url=ADDRESS, **names, **fields))

    def change(self, *changed: Resource, gone: tuple[Resource, ...] = ()) -> None:
        self.cache.apply(Delta(changed, tuple((r.type_url, r.name) for r in gone)), "v2")

    def told(self) -> tuple[list[str], list[str]] | None:
        """Names sent and names removed by the next response; None when there is none."""
        self.last = self.subscription.next_response()
        if self.last is None:
            return None
        return [entry.name for entry in self.last.resources], list(self.last.removed_resources)

    def acknowledge(self, refuse: str = "") -> None:
        assert self.last
        detail = Status(message=refuse) if refuse else None
        nonce = self.last.nonce
        self.subscription.receive(
            DeltaDiscoveryRequest(type_url=ADDRESS, response_nonce=nonce, error_detail=detail)
        )

    def settled(self) -> tuple[list[str], list[str]] | None:
        """`told`, acknowledged at once."""
        if told := self.told():
            self.acknowledge()
        return told


def newer(resource: Resource, **fields: Any) -> Resource:
    values = {field: getattr(resource, field) for field in Resource.__struct_fields__}
    return Resource(**{**values, "version": resource.version + "+", **fields})


def test_nothing_before_the_first_request() -> None:
    play = Play(WEB)
    play.change(A)
    assert play.told() is None


@pytest.mark.parametrize("names", [(), ("*",)], ids=["legacy", "explicit"])
def test_everything_then_what_changes(names: tuple[str, ...]) -> None:
    play = Play(A, WEB, B)
    play.ask(*names)
    assert play.settled() == (["ns/web", "uid/b", "uid/a"], [])
    assert play.last
    entry = play.last.resources[2]
    assert (entry.version, entry.resource.type_url, entry.resource.value) == ("a1", ADDRESS, b"a")
    assert list(entry.aliases) == ["/10.0.0.1"]
    assert play.last.system_version_info == "v1"
    assert play.settled() is None
    play.change(newer(A), gone=(B,))
    assert play.settled() == (["uid/a"], ["uid/b"])
    assert play.settled() is None


def test_an_empty_type_is_answered_once_so_that_the_client_becomes_ready() -> None:
    play = Play()
    play.ask()
    assert play.settled() == ([], [])
    assert play.settled() is None


def test_resume_skips_what_is_the_same_and_removes_what_vanished() -> None:
    play = Play(A, WEB)
    play.ask(initial_resource_versions={"uid/a": "a1", "ns/web": "w0", "uid/b": "b1"})
    assert play.settled() == (["ns/web"], ["uid/b"])


@pytest.mark.parametrize("names", [(), ("uid/a", "uid/b")], ids=["everything", "on demand"])
def test_resume_removes_nothing_while_something_could_not_be_read(names: tuple[str, ...]) -> None:
    play = Play(A)
    play.cache.unread = Unread(keys=frozenset({None}))
    play.ask(*names, initial_resource_versions={"uid/a": "a1", "uid/b": "b0", "ns/web": "w1"})
    assert play.settled() == ([], [])
    play.change(B)
    assert play.settled() == (["uid/b"], [])
    play.change(gone=(B,))
    assert play.settled() == ([], ["uid/b"]), "this one is known to be gone"
    play.cache.unread = NOTHING_UNREAD
    play.change()
    assert play.settled() == ([], ["ns/web"])


@pytest.mark.parametrize("by_name", [False, True], ids=["everything", "on demand"])
def test_resume_keeps_only_what_an_unread_object_may_have_made(by_name: bool) -> None:
    names = [f"Kubernetes//Pod/ns/{name}" for name in "abc"]
    play = Play(Resource(ADDRESS, names[0], "1", b"a"))
    play.cache.unread = Unread(keys=frozenset({Key("Pod", "ns", "b"), Key("Pod", "other", "c")}))
    play.ask(*(names if by_name else ()), initial_resource_versions=dict.fromkeys(names, "1"))
    assert play.settled() == ([], [names[2]])
    play.cache.unread = Unread(keys=frozenset({Key("Pod", "other", "c")}))
    play.change()
    assert play.settled() == ([], [names[1]])


def test_resume_with_nothing_new_is_answered() -> None:
    play = Play(A)
    play.ask(initial_resource_versions={"uid/a": "a1"})
    assert play.settled() == ([], [])


def test_a_slow_client_gets_the_state_and_not_its_history() -> None:
    play = Play(A)
    play.ask()
    assert play.told() == (["uid/a"], [])
    last = play.last
    play.change(newer(A), B)
    play.change(WEB, gone=(B,))
    play.change(newer(newer(A)))
    assert play.told() is None, "the first response is not acknowledged yet"
    play.last = last
    play.acknowledge()
    assert play.told() == (["ns/web", "uid/a"], [])
    assert play.last
    assert play.last.resources[1].version == "a1++"


def test_an_old_nonce_acknowledges_nothing() -> None:
    play = Play(A)
    play.ask()
    play.told()
    play.ask(response_nonce="0")
    play.change(B)
    assert play.told() is None
    assert play.subscription.acks == 0


def test_a_refusal_is_kept_and_not_repeated() -> None:
    play = Play(A, B)
    play.ask()
    play.told()
    play.acknowledge(refuse="uid/a: no such tunnel protocol")
    assert play.subscription.rejection == (("uid/a",), "uid/a: no such tunnel protocol")
    assert (play.subscription.acks, play.subscription.nacks) == (0, 1)
    assert play.subscription.acked_version is None
    assert play.told() is None
    play.change(newer(A))
    assert play.settled() == (["uid/a"], [])
    assert play.subscription.rejection is None
    assert play.subscription.acked_version == "v2"


def test_what_was_dropped_while_all_was_wanted_is_owed_to_nobody_who_drops_that_too() -> None:
    play = Play(A)
    play.ask()
    play.settled()
    play.ask("uid/a")
    play.ask(drop=("uid/a",))
    play.ask(drop=("*",))
    assert play.told() is None


def test_on_demand_by_every_kind_of_name() -> None:
    play = Play(A, B, WEB)
    play.ask("*", drop=("*",))
    assert play.settled() == ([], []), "everything asked for and dropped at once: nothing, but answered"
    play.ask("/10.0.0.2")
    assert play.settled() == (["/10.0.0.2"], [])
    play.ask("uid/b")
    assert play.settled() == (["uid/b"], [])
    play.ask("/10.9.9.9", "ns/absent")
    assert play.settled() == ([], ["/10.9.9.9", "ns/absent"])
    play.ask("uid/b")
    assert play.settled() == (["uid/b"], []), "asked for again, sent again"


def test_on_demand_a_service_brings_its_endpoints() -> None:
    play = Play(A, B, WEB)
    play.ask("/10.96.0.1")
    assert play.settled() == (["/10.96.0.1", "uid/a"], [])
    play.change(newer(B, endpoint_of=("ns/web",)))
    assert play.settled() == (["uid/b"], [])
    play.change(newer(A, endpoint_of=()))
    assert play.settled() == ([], ["uid/a"])
    play.change(gone=(WEB,))
    assert play.settled() == ([], ["/10.96.0.1", "uid/b"])


def test_on_demand_hears_nothing_of_others() -> None:
    play = Play(A, B)
    play.ask("uid/a")
    play.settled()
    play.change(newer(B), WEB)
    assert play.settled() is None


def test_an_absent_name_is_sent_when_it_appears_and_an_alias_follows_its_owner() -> None:
    play = Play()
    play.ask("/10.0.0.1")
    assert play.settled() == ([], ["/10.0.0.1"])
    play.change(A)
    assert play.settled() == (["/10.0.0.1"], [])
    play.change(newer(B, aliases=("/10.0.0.1",)))
    assert play.settled() == (["/10.0.0.1"], [])
    assert play.last
    assert play.last.resources[0].resource.value == b"b", "the newest has the address"
    play.change(gone=(B,))
    play.settled()
    assert play.last
    assert play.last.resources[0].resource.value == b"a"
    play.change(gone=(A,))
    assert play.settled() == ([], ["/10.0.0.1"])


def test_on_demand_by_own_name_for_whom_knows_aliases() -> None:
    play = Play(A, B, WEB, features=frozenset({ALIASES}))
    play.ask("/10.0.0.2", "/10.9.9.9")
    assert play.settled() == (["uid/b"], ["/10.9.9.9"])
    play.ask("/10.96.0.1")
    assert play.settled() == (["ns/web", "uid/a"], []), "a service brings its endpoints"
    play.change(newer(B, endpoint_of=("ns/web",)))
    assert play.settled() == (["uid/b"], [])
    play.ask(drop=("/10.0.0.2",))
    assert play.settled() is None, "still an endpoint"
    play.ask(drop=("/10.96.0.1",))
    assert play.settled() == ([], ["ns/web", "uid/a", "uid/b"])
    play.ask("/10.0.0.1")
    assert play.settled() == (["uid/a"], [])
    play.change(newer(B, aliases=("/10.0.0.1",)))
    assert play.settled() == (["uid/b"], []), "of two at an address the client prefers one"
    play.change(newer(A, aliases=()))
    assert play.settled() == ([], ["uid/a"]), "an alias follows its owner"


def test_on_demand_what_appears_is_told_to_whom_knows_aliases() -> None:
    play = Play(WEB, features=frozenset({ALIASES}))
    play.ask("/10.0.0.1", "/10.96.0.1")
    assert play.settled() == (["ns/web"], ["/10.0.0.1"])
    play.change(B)
    assert not play.subscription._recheck, "what concerns nobody costs nothing"
    play.change(newer(A, endpoint_of=()))
    assert play.settled() == (["uid/a"], [])
    play.change(newer(B, endpoint_of=("ns/web",)))
    assert play.settled() == (["uid/b"], [])


def test_a_large_state_comes_in_parts_to_whom_takes_them() -> None:
    body = bytes(PART_BYTES // 4)
    many = [Resource(ADDRESS, f"uid/{number}", "1", body) for number in range(9)]
    whole = Play(*many)
    whole.ask()
    assert whole.told() == ([one.name for one in many], [])
    play = Play(*many, features=frozenset({PARTS}))
    play.ask(initial_resource_versions={"uid/gone": "1"})
    assert play.settled() == (["uid/0", "uid/1", "uid/2", "uid/3"], [])
    assert play.last
    assert play.last.partial
    assert not play.subscription.current
    play.change(newer(many[0]), newer(many[8]), gone=(many[7],))
    told = [(play.settled(), play.last.partial) for _ in range(3)]
    assert told[0] == ((["uid/4", "uid/5", "uid/6", "uid/7"], []), True)
    assert told[1] == ((["uid/8"], ["uid/gone"]), False)
    assert told[2] == ((["uid/0", "uid/8"], ["uid/7"]), False), "then what has changed meanwhile"
    assert play.subscription.current


def test_on_demand_resume() -> None:
    play = Play(A, WEB)
    play.ask("uid/a", "ns/web", "uid/b", initial_resource_versions={"uid/a": "a1", "uid/b": "b1"})
    assert play.settled() == (["ns/web"], ["uid/b"])


def test_unsubscribing() -> None:
    play = Play(A, B)
    play.ask("uid/a", "uid/b")
    play.settled()
    play.ask(drop=("uid/a",))
    assert play.settled() is None, "the client drops it without being told"
    play.change(newer(A), newer(B))
    assert play.settled() == (["uid/b"], [])


def test_everything_and_a_name_beside_it() -> None:
    play = Play(A)
    play.ask()
    play.settled()
    play.ask("/10.0.0.1", "uid/b")
    assert play.settled() == (["/10.0.0.1"], ["uid/b"])
    play.change(B)
    assert play.settled() == (["uid/b"], []), "still everything"
    play.ask(drop=("uid/b",))
    assert play.settled() == (["uid/b"], []), "dropped by name, but still part of everything"
    play.ask(drop=("*",))
    play.change(newer(A), newer(B))
    assert play.settled() == (["/10.0.0.1"], [])


def test_who_owns_the_address_of_an_endpoint_is_told_with_it() -> None:
    """An EndpointSlice may name an address that is a pod's: then the pod is what is reached."""
    bare = Resource(ADDRESS, "uid/slice", "s1", b"s", (), ("ns/web",), ("/10.0.0.2",))
    play = Play(WEB, bare, B, features=frozenset({ALIASES}))
    play.ask("ns/web")
    assert play.settled() == (["ns/web", "uid/b", "uid/slice"], [])
    play.change(gone=(B,))
    assert play.settled() == ([], ["uid/b"])
    play.change(newer(B))
    assert play.settled() == (["uid/b"], [])
