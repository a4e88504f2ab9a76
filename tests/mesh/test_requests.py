"""Policies that ask for requests: real ones, by every way to a pod, and on connections that are open."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.lab import Lab
from agent.model.schema.objects import Key
from tests.mesh.conftest import Manifest, Mesh
from tests.support import asking, sockets
from tests.support.samples import SAMPLES
from tests.support.wait import until

PODS = Path(__file__).with_name("requests.yaml")
CLIENT = "cluster.local/ns/default/sa/client"
WAYS = pytest.mark.parametrize("routed", [False, True], ids=["L4", "routed"])
ROUTE: Manifest = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "shop", "namespace": "default"},
    "spec": {"hosts": ["shop"], "http": [{"route": [{"destination": {"host": "shop"}}], "timeout": "10s"}]},
}


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([PODS], name=f"wt-requests-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        yield mesh


def policy(name: str, **spec: Any) -> Manifest:
    of_shop = {"selector": {"matchLabels": {"app": "shop"}}}
    metadata = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata,
        "spec": {**of_shop, **spec},
    }


def rule(principals: list[str] | None = None, **operation: list[str]) -> Manifest:
    sources = {"from": [{"source": {"principals": principals}}]} if principals else {}
    return {**sources, "to": [{"operation": operation}]}


@contextmanager
def applied(mesh: Mesh, *manifests: Manifest) -> Iterator[None]:
    mesh.lab.cluster.put(list(manifests))
    try:
        yield
    finally:
        for one in manifests:
            mesh.lab.cluster.delete(Key(one["kind"], "default", one["metadata"]["name"]))
        until(lambda: not _policies(mesh), what="no policy is in force")
        until(lambda: status(mesh, "far", "/") == 200, what="everybody may ask again")


def _policies(mesh: Mesh) -> list[Any]:
    """Those of the server's tunnel: as long as one asks for requests, connections are served as such."""
    dump: dict[str, list[Any]] = json.loads(mesh.lab.node("node1").fetch(15000, "/config_dump"))
    return dump["policies"]


def ask(mesh: Mesh, source: str, path: str, host: str = "shop", **details: Any) -> asking.Answer | None:
    """None: the connection was refused or cut."""
    to = (mesh.service("shop", 4), 80)
    try:
        return mesh.inside(source).call(asking.ask, to, host, path, **details)
    except OSError:
        return None


def status(mesh: Mesh, source: str, path: str, **details: Any) -> int | None:
    answer = ask(mesh, source, path, **details)
    return answer.status if answer else None


def gets(mesh: Mesh, source: str, path: str, expected: int) -> None:
    until(lambda: status(mesh, source, path) == expected, what=f"{source} gets {expected} for {path}")


@WAYS
def test_methods_and_paths(mesh: Mesh, routed: bool) -> None:
    """From both nodes, over connections that are carried and with requests that are routed."""
    allow = policy("allow", rules=[rule([CLIENT], methods=["GET"], paths=["/open/*", "/item/{*}"])])
    with applied(mesh, allow, *([ROUTE] if routed else [])):
        gets(mesh, "far", "/closed", 403)
        gets(mesh, "near", "/closed", 403)
        for source in ("near", "far"):
            refused = ask(mesh, source, "/closed")
            assert refused and refused.body == b"RBAC: access denied", source
            for path, expected in (
                ("/open/a?b", 200),
                ("/item/1", 200),
                ("/item/1/2", 403),
                ("/open/../closed", 403),
                ("/open/%2e%2e/closed", 403),
                ("/open/..%2fclosed", 403),
                ("/open/..;/closed", 403),
            ):
                assert status(mesh, source, path) == expected, (source, path)
            assert status(mesh, source, "/open/a", method="POST") == 403
            answer = ask(mesh, source, "/open/a")
            assert answer and answer.version == "v1"
        assert status(mesh, "other", "/open/a") == 403, "another identity"
        assert status(mesh, "outside", "/open/a") == 403, "and none"


def test_what_is_denied_is_so_in_every_form(mesh: Mesh) -> None:
    deny = policy("deny", action="DENY", rules=[rule(paths=["/admin"]), rule(hosts=["shop.example"])])
    with applied(mesh, deny):
        gets(mesh, "outside", "/admin", 403)
        for path in (
            "/admin",
            "//admin",
            "/./admin",
            "/%61dmin",
            "/x/%2e%2e/admin",
            "/x/..%2fadmin",
            "/admin;x",
        ):
            assert status(mesh, "outside", path) == 403, path
        for host in (
            "shop.example",
            "SHOP.example",
            "shop.example:80",
            "shop.example.",
            "Shop.Example.:8080",
        ):
            assert status(mesh, "outside", "/", host=host) == 403, host
        assert status(mesh, "outside", "/administration", host="other") == 200


def test_a_connection_that_is_open_is_closed_when_requests_are_to_be_judged(mesh: Mesh) -> None:
    far, to = mesh.inside("far"), (mesh.service("shop", 4), 80)
    number = far.call(sockets.connect, to)
    far.call(sockets.send, number, b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
    assert far.call(sockets.receive, number, 12) == b"HTTP/1.1 200"
    with applied(mesh, policy("deny", action="DENY", rules=[rule(methods=["DELETE"])])):
        gets(mesh, "far", "/", 200)
        until(lambda: _is_closed(mesh, number), what="it is closed")
        assert status(mesh, "far", "/", method="DELETE") == 403
    far.call(sockets.forget, number)


def _is_closed(mesh: Mesh, number: int) -> bool:
    try:
        mesh.inside("far").call(sockets.send, number, b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
    except OSError:
        return True
    return False


def test_on_a_connection_that_stays_open_a_change_holds_for_the_next_request(mesh: Mesh) -> None:
    get, put = (
        b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n",
    )
    with applied(mesh, policy("one", action="DENY", rules=[rule(methods=["PUT"])])):
        gets(mesh, "far", "/", 200)
        until(lambda: status(mesh, "far", "/", method="PUT") == 403, what="it is in force")
        far, to = mesh.inside("far"), (mesh.service("shop", 4), 80)
        number = far.call(sockets.connect, to)
        far.call(sockets.send, number, put)
        assert _refused(mesh, number).startswith(b"HTTP/1.1 403")
        mesh.lab.cluster.put([policy("two", action="DENY", rules=[rule(methods=["GET"])])])
        try:
            until(lambda: status(mesh, "far", "/") == 403, what="the second one is in force")
            far.call(sockets.send, number, get)
            assert _refused(mesh, number).startswith(b"HTTP/1.1 403"), "over the same connection"
        finally:
            mesh.lab.cluster.delete(Key("AuthorizationPolicy", "default", "two"))
            far.call(sockets.forget, number)


def _refused(mesh: Mesh, number: int) -> bytes:
    """The whole answer."""
    answer = b""
    while not answer.endswith(b"RBAC: access denied"):
        answer += mesh.inside("far").call(sockets.receive, number, 1)
    return answer


SAMPLES_OF_TOKENS = SAMPLES.parent / "security" / "tools" / "jwt" / "samples"


def authentication(**rule: Any) -> Manifest:
    """Istio's demo issuer, with its own keys unless others are given."""
    keys = {"jwks": (SAMPLES_OF_TOKENS / "jwks.json").read_text()}
    rules = [{"issuer": "testing@secure.istio.io", **keys, **rule}]
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "jwt", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "shop"}}, "jwtRules": rules},
    }


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_istios_demo_tokens(mesh: Mesh) -> None:
    demo, groups = (
        (SAMPLES_OF_TOKENS / f"{name}.jwt").read_text().strip() for name in ("demo", "groups-scope")
    )
    principal, group = (
        {"source": {"requestPrincipals": ["testing@secure.istio.io/testing@secure.istio.io"]}},
        {"key": "request.auth.claims[groups]", "values": ["group1"]},
    )
    rules = [
        {"from": [{"source": {"namespaces": ["nowhere"]}}]},
        {"from": [principal], "to": [{"operation": {"paths": ["/any"]}}]},
        {"from": [principal], "when": [group], "to": [{"operation": {"paths": ["/group"]}}]},
    ]
    claims = [{"header": "x-sub", "claim": "sub"}]
    manifests = (authentication(outputClaimToHeaders=claims), policy("tokens", rules=rules))
    with applied(mesh, *manifests):
        gets(mesh, "far", "/any", 403)
        until(lambda: status(mesh, "far", "/any", headers=bearer("x")) == 401, what="tokens are verified")
        for source in ("near", "far", "outside"):
            answer = ask(mesh, source, "/any", headers=bearer(demo) | {"x-sub": "spoofed"})
            assert answer and answer.status == 200, source
            seen = {name.lower(): value for name, value in answer.seen.items()}
            assert (seen.get("authorization"), seen["x-sub"]) == (None, "testing@secure.istio.io")
            assert status(mesh, source, f"/any?access_token={demo}") == 200
            assert status(mesh, source, "/group", headers=bearer(demo)) == 403
            assert status(mesh, source, "/group", headers=bearer(groups)) == 200
            assert status(mesh, source, "/any") == 403, "without a token"
        refused = ask(mesh, "far", "/any", headers=bearer(f"{demo[:-4]}AAAA"))
        assert refused and (refused.status, refused.body) == (401, b"Jwt verification fails")
        assert refused.headers["www-authenticate"] == 'Bearer realm="http://shop/any", error="invalid_token"'


def test_tokens_whose_keys_are_not_to_be_had_are_refused(mesh: Mesh) -> None:
    demo = (SAMPLES_OF_TOKENS / "demo.jwt").read_text().strip()
    nowhere = authentication(jwks="", jwksUri="http://10.255.255.1:1/keys")
    with applied(mesh, nowhere):
        until(lambda: status(mesh, "far", "/", headers=bearer(demo)) == 401, what="no key fits")
        assert status(mesh, "far", "/") == 200, "without a token"
