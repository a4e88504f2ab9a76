"""The status of the Gateway API's classes, Gateways and ListenerSets, as an API server has it in the end."""

from typing import Any

from tests.agent.sources.test_reporter import cluster, following_model
from tests.support.bookinfo import collection
from tests.support.cluster import Cluster
from tests.support.custom import post
from tests.support.eventually import eventually

__all__ = ["cluster"]
_TIME = 30.0  # seconds
API = "gateway.networking.k8s.io/v1"
CLASS = {
    "apiVersion": API,
    "kind": "GatewayClass",
    "metadata": {"name": "warren"},
    "spec": {"controllerName": "warren.dev/gateway-controller"},
}


def gateway(protocol: str = "HTTP", class_name: str = "warren") -> Any:
    spec = {
        "gatewayClassName": class_name,
        "listeners": [{"name": "one", "port": 80, "protocol": protocol}],
    }
    return {
        "apiVersion": API,
        "kind": "Gateway",
        "metadata": {"name": "door", "namespace": "default"},
        "spec": spec,
    }


def status(cluster: Cluster, item: Any) -> Any:
    return cluster.get(*collection(item), item["metadata"]["name"]).get("status") or {}


def said(cluster: Cluster, item: Any, type_: str) -> tuple[str, str, int]:
    for one in status(cluster, item).get("conditions", []):
        if one["type"] == type_:
            return one["status"], one["reason"], one.get("observedGeneration", 0)
    return "", "", 0


async def test_all_that_is_ours_has_a_status(cluster: Cluster) -> None:
    for item in (CLASS, gateway()):
        post(cluster, item)
    async with following_model(cluster):
        await eventually(lambda: said(cluster, CLASS, "Accepted")[0] == "True", _TIME)
        await eventually(lambda: said(cluster, gateway(), "Programmed")[:2] == ("False", "Pending"), _TIME)
        [one] = status(cluster, gateway())["listeners"]
        assert (one["name"], one["attachedRoutes"]) == ("one", 0)
        assert [kind["kind"] for kind in one["supportedKinds"]] == ["HTTPRoute", "GRPCRoute"]


async def test_another_version_has_a_status_of_its_own(cluster: Cluster) -> None:
    """With its generation; what has not changed keeps its time."""
    for item in (CLASS, gateway()):
        post(cluster, item)
    async with following_model(cluster):
        await eventually(lambda: said(cluster, gateway(), "Accepted") == ("True", "Accepted", 1), _TIME)
        cluster.patch({"spec": gateway("UDP")["spec"]}, *collection(gateway()), "door")
        await eventually(
            lambda: said(cluster, gateway(), "Accepted") == ("False", "ListenersNotValid", 2), _TIME
        )
        await eventually(lambda: said(cluster, CLASS, "Accepted") == ("True", "Accepted", 1), _TIME)
        cluster.patch({"spec": {"description": "ours"}}, *collection(CLASS), "warren")
        await eventually(lambda: said(cluster, CLASS, "Accepted") == ("True", "Accepted", 2), _TIME)


async def test_others_are_left_alone(cluster: Cluster) -> None:
    others = gateway(class_name="else")
    for item in (CLASS, others):
        post(cluster, item)
    async with following_model(cluster):
        await eventually(lambda: said(cluster, CLASS, "Accepted")[0] == "True", _TIME)
        assert "True" not in {one["status"] for one in status(cluster, others).get("conditions", [])}
