"""Whose token it is: reviewed by an API server, each refusal by its reason."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.ca.authorizer import Authorizer
from agent.ca.clock import system_time
from agent.ca.errors import Reason, Refusal
from agent.ca.placement import Change
from agent.ca.reviews import Reviews
from agent.ca.tokens import Caller
from agent.kube.client import Client
from agent.model.mesh import GATEWAY, MODE
from agent.model.schema.kubernetes import Pod, PodSpec
from agent.model.schema.objects import Key, Metadata
from tests.support import apiserver
from tests.support.cluster import Cluster
from tests.support.wait import PATIENCE


class Counting(Client):
    """Counts the requests that it sends."""

    sent = 0

    def request(self, *what: Any, **how: Any) -> bytes:
        self.sent += 1
        return super().request(*what, **how)


class Reviewed:
    """Reviews by what the server has at this moment; tunnels are those of account `warren`."""

    def __init__(self, cluster: Cluster) -> None:
        client = Counting.load(cluster.kubeconfig)
        assert isinstance(client, Counting)
        self.client = client
        self.placement = cluster.placement()
        self.reviews = Reviews(client, self.placement, {f"{cluster.namespace}/warren"}, system_time)

    async def node(self, token: str, address: str = "ipv4:10.0.0.1") -> str:
        caller = await self.reviews.caller(token, address)
        assert caller.gateway is None
        return caller.node

    async def refused(self, token: str, address: str = "ipv4:10.0.0.1") -> Reason:
        with pytest.raises(Refusal) as caught:
            await self.node(token, address)
        assert "\n" not in str(caught.value)
        return caught.value.reason


def forged(token: str, number: int = 0) -> str:
    """Another one with the same claims, which nobody has signed."""
    head, claims, _ = token.split(".")
    return f"{head}.{claims}.{number:086d}"


@pytest.fixture
def tunnel(cluster: Cluster) -> Cluster:
    """A tunnel's pod on node1, and another account beside it."""
    cluster.account("warren")
    cluster.account("other")
    cluster.pod("tunnel", "node1", "warren")
    return cluster


@pytest.fixture
def review(tunnel: Cluster) -> Iterator[Callable[[], Reviewed]]:
    made = []

    def make() -> Reviewed:
        made.append(Reviewed(tunnel))
        return made[-1]

    yield make
    for one in made:
        one.client.close()


def is_at(cluster: Cluster, node: str | None, uid: str) -> list[Change]:
    """The change that the tunnel's pod is on another node, or another one, or gone."""
    key = Key("Pod", cluster.namespace, "tunnel")
    metadata = Metadata(name="tunnel", namespace=cluster.namespace, uid=uid)
    spec = PodSpec(node_name=node, service_account_name="warren") if node else None
    return [(key, Pod(metadata, spec) if spec else None)]


Make = Callable[[], Reviewed]


async def test_a_tunnels_token_stands_for_the_node_of_its_pod(tunnel: Cluster, review: Make) -> None:
    assert await review().node(tunnel.token("warren", "tunnel")) == "node1"


async def test_a_gateways_token_stands_for_itself_alone(tunnel: Cluster, review: Make) -> None:
    """Whatever else runs on its node; without the label it is as any other pod."""
    tunnel.pod("door", "node1", "other", labels={GATEWAY: "true"})
    tunnel.pod("web", "node1", "warren", labels={MODE: "ambient"})
    seen = review()
    caller = await seen.reviews.caller(tunnel.token("other", "door"), "ipv4:10.0.0.1")
    assert caller == Caller("node1", (tunnel.namespace, "other", "door"))
    authorizer = Authorizer(seen.reviews, seen.placement, "cluster.local")
    own, others = (f"spiffe://cluster.local/ns/{tunnel.namespace}/sa/{name}" for name in ("other", "warren"))
    assert str(authorizer.identity(caller, own)) == own
    assert str(authorizer.identity(Caller("node1"), others)) == others
    with pytest.raises(Refusal) as caught:
        authorizer.identity(caller, others)
    assert caught.value.reason is Reason.NOT_ON_NODE


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "\u00e4"])
async def test_what_is_no_token(review: Make, token: str) -> None:
    assert await review().refused(token) is Reason.UNKNOWN_TOKEN


async def test_a_token_for_another_audience(tunnel: Cluster, review: Make) -> None:
    token = tunnel.token("warren", "tunnel", audience="vault")
    assert await review().refused(token) is Reason.UNKNOWN_TOKEN


async def test_a_token_of_another_account(tunnel: Cluster, review: Make) -> None:
    tunnel.pod("stranger", "node1", "other")
    assert await review().refused(tunnel.token("other", "stranger")) is Reason.OTHER_ACCOUNT


async def test_the_same_account_of_another_namespace(tunnel: Cluster, review: Make) -> None:
    elsewhere = tunnel.new_namespace("elsewhere")
    tunnel.account("warren", elsewhere)
    tunnel.pod("tunnel", "node1", "warren", elsewhere)
    token = tunnel.token("warren", "tunnel", namespace=elsewhere)
    assert await review().refused(token) is Reason.OTHER_ACCOUNT


async def test_a_token_that_is_bound_to_no_pod(tunnel: Cluster, review: Make) -> None:
    assert await review().refused(tunnel.token("warren", None)) is Reason.NOT_BOUND


async def test_a_pod_that_went_takes_its_token_along(tunnel: Cluster, review: Make) -> None:
    token, seen = tunnel.token("warren", "tunnel"), review()
    assert await seen.node(token) == "node1"
    tunnel.delete_pod("tunnel")
    seen.placement.apply(is_at(tunnel, None, ""))
    assert await seen.refused(token) is Reason.POD_GONE
    assert seen.client.sent == 1  # whatever the server said of it a moment ago
    assert await review().refused(token) in (Reason.UNKNOWN_TOKEN, Reason.POD_GONE)


async def test_another_pod_by_the_same_name(tunnel: Cluster, review: Make) -> None:
    token, seen = tunnel.token("warren", "tunnel"), review()
    assert await seen.node(token) == "node1"
    seen.placement.apply(is_at(tunnel, "node1", "another"))
    assert await seen.refused(token) is Reason.POD_GONE


async def test_a_pod_that_is_on_another_node_than_its_token_says(tunnel: Cluster, review: Make) -> None:
    token = tunnel.token("warren", "tunnel")
    pod = tunnel.get("api", "v1", "namespaces", tunnel.namespace, "pods", "tunnel")
    seen = review()
    seen.placement.apply(is_at(tunnel, "node2", pod["metadata"]["uid"]))
    assert await seen.refused(token) is Reason.OTHER_NODE


async def test_a_node_that_starts_costs_one_review(tunnel: Cluster, review: Make) -> None:
    seen, token = review(), tunnel.token("warren", "tunnel")
    assert set(await asyncio.gather(*(seen.node(token) for _ in range(110)))) == {"node1"}
    assert seen.client.sent == 1
    assert await seen.refused(forged(token)) is Reason.UNKNOWN_TOKEN
    assert await seen.refused(forged(token)) is Reason.UNKNOWN_TOKEN
    assert seen.client.sent == 2


async def test_an_answer_is_believed_no_longer_than_the_token_lasts(tunnel: Cluster, review: Make) -> None:
    seen, token = review(), tunnel.token("warren", "tunnel", seconds=4)
    assert await seen.node(token) == "node1"
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Refusal) as caught:
            while True:
                await seen.node(token)
    assert caught.value.reason is Reason.UNKNOWN_TOKEN


async def test_bad_answers_push_out_no_good_ones(
    tunnel: Cluster, review: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.ca.reviews._MOST", 3)
    seen, token = review(), tunnel.token("warren", "tunnel")
    await seen.node(token)
    for number, sent in ((1, 2), (2, 3), (3, 4), (3, 4), (4, 5), (1, 6)):
        await seen.refused(forged(token, number))
        assert seen.client.sent == sent
    await seen.node(token)
    assert seen.client.sent == 6


async def test_what_cannot_be_a_tunnels_costs_no_review(tunnel: Cluster, review: Make) -> None:
    tunnel.pod("other", "node1", "other")
    gone = tunnel.token("warren", "tunnel")
    tunnel.delete_pod("tunnel")
    seen, other, unbound = review(), tunnel.token("other", "other"), tunnel.token("warren", None)
    for token in ("nonsense", "a.b.c", "a.e30.c", f"a.{'W' * 9999}.c", other, unbound, gone):
        await seen.refused(token)
        await seen.refused(forged(token) if token.count(".") == 2 else token)
    assert seen.client.sent == 0


async def test_forged_tokens_of_a_tunnels_pod_hold_up_no_good_one(
    tunnel: Cluster, review: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an address of their own; at the tunnel's own, they wait in one line with it."""
    monkeypatch.setattr("agent.ca.reviews._WAITING", 100)
    seen, token = review(), tunnel.token("warren", "tunnel")
    flood = [
        asyncio.create_task(seen.refused(forged(token, number), "ipv4:10.0.0.66")) for number in range(300)
    ]
    await asyncio.sleep(0)
    assert await seen.node(token) == "node1"
    assert not all(one.done() for one in flood), "it did not wait for all of them"
    reasons = await asyncio.gather(*flood)
    assert (reasons.count(Reason.TOO_MANY), reasons.count(Reason.UNKNOWN_TOKEN)) == (200, 100)
    assert seen.client.sent == 101


async def test_while_the_server_is_away_those_it_vouched_for_are_admitted(tmp_path: Path) -> None:
    with apiserver.fake(tmp_path) as server:
        cluster = Cluster(server.kubeconfig)
        cluster.account("warren")
        cluster.pod("tunnel", "node1", "warren")
        seen, token = Reviewed(cluster), cluster.token("warren", "tunnel")
        another = cluster.token("warren", "tunnel", seconds=7200)
        assert await seen.node(token) == "node1"
        await asyncio.to_thread(server.stop)
        assert await seen.node(token) == "node1"
        assert await seen.refused(another) is Reason.TOKENS_UNUSABLE
        await asyncio.to_thread(server.start)
        assert await seen.node(another) == "node1"
        seen.client.close()
        cluster.close()
