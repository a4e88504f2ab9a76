"""What was translated ahead comes to what is translated at once."""

from typing import Any

from agent.ahead import Ahead
from agent.model.mesh import Mesh
from agent.model.model import Model, apply
from agent.model.schema.objects import Key
from tests.agent.model.objects import changes, make, pod, service

WEB: Any = {"labels": {"app": "web"}}
DENY = make("AuthorizationPolicy", "deny", spec={"selector": {"matchLabels": {"app": "web"}}, "rules": []})


async def test_the_first_state_is_what_there_is_when_it_is_told() -> None:
    """A pod is another one by now, one is gone, one is new, and a policy concerns what was translated."""
    begun = changes(make("Namespace", "default"), service("web"), *(pod(name, **WEB) for name in "abc"))
    now = dict(begun) | dict(changes(pod("a", "10.0.0.9", **WEB), pod("d", "10.0.0.4", **WEB), DENY))
    told = [*(now | {Key("Pod", "default", "b"): None}).items()]
    ahead = Ahead(Mesh())
    ahead.begin(begun)
    model, delta = await ahead.apply(Model(), told)
    assert (model, {*delta.changed}) == ((expected := apply(Model(), told))[0], {*expected[1].changed})
    assert not delta.removed
    model, delta = await ahead.apply(model, [(Key("Pod", "default", "c"), None)])
    assert [name.rpartition("/")[2] for _, name in delta.removed] == ["c"]
    assert "default/deny" in {one.name for made in model.resources.values() for one in made}


async def test_of_two_with_one_address_the_later_one_is_told_later() -> None:
    told = changes(*(pod(name, "10.0.0.7") for name in "pzkaq"), service("web", clusterIP="10.0.0.7"))
    ahead = Ahead(Mesh())
    ahead.begin(told)
    _, delta = await ahead.apply(Model(), told)
    assert [one.name.rpartition("/")[2] for one in delta.changed if one.aliases] == [
        "web.default.svc.cluster.local", *"pzkaq",
    ]  # fmt: skip
