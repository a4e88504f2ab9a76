"""Policies that ask for requests: real ones, by every way to a pod, and on connections that are open."""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.lab import Lab
from agent.model.schema.objects import Key
from agent.sources import key_sets
from tests.mesh.conftest import Manifest, Mesh
from tests.support import asking, sockets, tokens
from tests.support.resident import Resident
from tests.support.samples import SAMPLES
from tests.support.tokens import Issuer, unsigned
from tests.support.wait import until

PODS = Path(__file__).with_name("requests.yaml")
KEYS = 8090  # where a pod serves key sets
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


PATHS = (
    *("/admin", "//admin", "/./admin", "/x/../admin", "/admin;x", "/admin;x=1?y=2", "/x/..;/admin"),
    *("/%61dmin", "/x/%2e%2e/admin", "/x/.%2e/admin", "/x/..%2fadmin", "/%2fadmin", "/x%2f..%2fadmin"),
    *("/x/..%5cadmin", "/%2561dmin", "/x/%252e%252e/admin", "/admin%3bx"),
)
HOSTS = ("shop.example", "SHOP.example", "shop.example:80", "shop.example.", "Shop.Example.:8080")
WRITTEN = {  # what no client's library writes
    403: (
        ("GET http://shop/admin HTTP/1.1", "Host: shop"),
        ("GET http://shop.example/ HTTP/1.1", "Host: shop.example"),
        ("GET / HTTP/1.1", "Host: shop", "X-Role: user", "x-role: admin"),
        ("GET / HTTP/1.1", "Host: shop", "x-role: admin", "X-ROLE: user"),
    ),
    400: (
        ("GET / HTTP/1.1", "Host: shop", "Host: shop.example"),
        ("GET http://shop.example/ HTTP/1.1", "Host: shop"),
        ("GET http://shop/ HTTP/1.1", "Host: shop.example"),
        ("GET / HTTP/1.1", "Host: shop", "x-role : admin"),
        ("GET / HTTP/1.1", "Host: shop", "x-role:", " admin"),
    ),
    200: (
        ("GET / HTTP/1.1", "Host: shop", "x-role: user"),
        ("GET http://shop/ HTTP/1.1", "Host: shop"),
    ),
}


@WAYS
def test_what_is_denied_is_so_in_every_form(mesh: Mesh, routed: bool) -> None:
    """Whether the client's node routes requests or carries bytes, or there is no tunnel at the client's."""
    role = {"key": "request.headers[x-role]", "values": ["admin"]}
    rules = [rule(paths=["/admin"]), rule(hosts=["shop.example"]), {"when": [role]}]
    deny = policy("deny", action="DENY", rules=rules)
    with applied(mesh, deny, *([ROUTE] if routed else [])):
        for source in ("near", "far", "outside"):
            gets(mesh, source, "/admin", 403)
            for path in PATHS:
                assert status(mesh, source, path) == 403, (source, path)
            for host in HOSTS:
                assert status(mesh, source, "/", host=host) == 403, (source, host)
            for expected, requests in WRITTEN.items():
                for lines in requests:
                    assert written(mesh, source, *lines) == expected, (source, lines)
        assert status(mesh, "outside", "/administration", host="other") == 200


def written(mesh: Mesh, source: str, *lines: str) -> int:
    """The status for a request that is written so."""
    client = mesh.inside(source)
    number = client.call(sockets.connect, (mesh.service("shop", 4), 80))
    try:
        client.call(sockets.send, number, "\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return int(client.call(sockets.receive, number, 12).split()[1])
    finally:
        client.call(sockets.forget, number)


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


def test_tokens_that_are_not_valid(mesh: Mesh) -> None:
    issuer, stranger = Issuer("https://issuer", "one"), Issuer("https://issuer", "one")
    now, no_key = int(time.time()), b"Jwks doesn't have key to match kid or alg from Jwt"
    refused = {
        "expired": (issuer.token(exp=now - 120), b"Jwt is expired"),
        "not yet valid": (issuer.token(nbf=now + 120), b"Jwt not yet valid"),
        "for somebody else": (issuer.token(aud="bank"), b"Audiences in Jwt are not allowed"),
        "of another issuer": (issuer.token(iss="https://other"), b"Jwt issuer is not configured"),
        "by a wrong key": (stranger.token(), b"Jwt verification fails"),
        "by an unknown key": (issuer.token({"kid": "two"}), no_key),
        "by nobody": (unsigned(issuer.token({"alg": "none"})), no_key),
        "by nobody, it says otherwise": (unsigned(issuer.token()), b"Jwt verification fails"),
        "by the public key as a secret": (issuer.token({"alg": "HS256"}, issuer.public), no_key),
        "with another algorithm": (issuer.token({"alg": "ES256"}), no_key),
    }
    rule = {"issuer": issuer.name, "jwks": issuer.key_set, "audiences": ["shop"]}
    with applied(mesh, authentication(**rule)):
        until(lambda: status(mesh, "far", "/", headers=bearer("x")) == 401, what="tokens are verified")
        for source in ("near", "far"):
            answers = {
                what: ask(mesh, source, "/", headers=bearer(token)) for what, (token, _) in refused.items()
            }
            said = {what: one and (one.status, one.body) for what, one in answers.items()}
            assert said == {what: (401, body) for what, (_, body) in refused.items()}, source
            for good in ({}, {"exp": now - 20}, {"nbf": now + 20}, {"aud": ["bank", "shop"]}):
                assert status(mesh, source, "/", headers=bearer(issuer.token(**good))) == 200, good


@contextmanager
def keys_served(mesh: Mesh, keys: str) -> Iterator[tuple[Resident, str]]:
    """By a pod; gives who serves them, and where."""
    server = mesh.inside("other")
    server.call(tokens.serve, KEYS, keys)
    try:
        yield server, f"http://{mesh.address('other', 4)}:{KEYS}/keys"
    finally:
        server.call(tokens.stop, KEYS)


def verified(mesh: Mesh, issuer: Issuer) -> int | None:
    return status(mesh, "far", "/", headers=bearer(issuer.token()))


def keys_are_there(mesh: Mesh, issuer: Issuer) -> None:
    until(lambda: status(mesh, "far", "/", headers=bearer("x")) == 401, what="tokens are verified")
    until(lambda: verified(mesh, issuer) == 200, what="the keys are there")


def test_a_key_that_is_not_known_has_the_key_set_fetched_again(mesh: Mesh) -> None:
    """At most every few seconds; and an agent that comes back keeps tokens valid."""
    former, newer = Issuer("https://issuer", "one"), Issuer("https://issuer", "two")
    with keys_served(mesh, former.key_set) as (server, uri):
        with applied(mesh, authentication(issuer="https://issuer", jwks="", jwksUri=uri)):
            keys_are_there(mesh, former)
            server.call(tokens.serve, KEYS, newer.key_set)
            until(lambda: verified(mesh, newer) == 200, what="the new key is there")
            assert verified(mesh, former) == 401, "it is in the set no more"
            before, began = server.call(tokens.fetches), time.monotonic()
            for _ in range(30):
                assert verified(mesh, former) == 401
            intervals = 1 + (time.monotonic() - began) / key_sets.AGAIN
            assert server.call(tokens.fetches) - before <= len(mesh.lab.nodes) * intervals
            server.call(tokens.serve, KEYS, newer.key_set, slow=1.0)
            with requests_of(mesh, bearer(newer.token())) as statuses:
                mesh.lab.node("node1").stop("agent", within=0)
                mesh.lab.node("node1").start("agent")
        assert set(statuses) == {200}, statuses


@contextmanager
def requests_of(mesh: Mesh, headers: dict[str, str]) -> Iterator[Counter[int | None]]:
    """Without a pause meanwhile; gives their statuses, which are complete in the end."""
    statuses, over = Counter[int | None](), threading.Event()

    def work() -> None:
        while not over.is_set():
            statuses[status(mesh, "far", "/", headers=headers)] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def test_without_the_server_of_keys_the_last_good_ones_hold(mesh: Mesh) -> None:
    """An agent that has had none lets no token pass."""
    issuer, stranger = Issuer("https://issuer", "one"), Issuer("https://issuer", "two")
    node = mesh.lab.node("node1")
    with ExitStack() as away:
        with keys_served(mesh, issuer.key_set) as (_, uri):
            away.enter_context(applied(mesh, authentication(issuer="https://issuer", jwks="", jwksUri=uri)))
            keys_are_there(mesh, issuer)
        log, stale = node.log("agent"), f"keys of {uri}: "
        until(
            lambda: verified(mesh, stranger) == 401 and stale in log.read_text(),
            what="the agent has asked in vain",
        )
        assert verified(mesh, issuer) == 200
        node.stop("agent", within=0)
        node.start("agent")
        until(lambda: verified(mesh, issuer) == 401, what="there are no keys")
        assert status(mesh, "far", "/") == 200, "without a token"


def test_what_of_tokens_is_not_understood_lets_no_request_in(mesh: Mesh) -> None:
    wrong = authentication(fromHeader=[{"name": "x-token"}])
    with applied(mesh, wrong):
        for source in ("near", "far", "outside"):
            gets(mesh, source, "/", 403)
        refused = ask(mesh, "far", "/", headers=bearer("x"))
        assert refused and refused.body == b"RBAC: access denied"
        mesh.lab.cluster.put([authentication(fromHeaders=[{"name": "x-token"}])])
        gets(mesh, "far", "/", 200)
        mesh.lab.cluster.put([wrong])
        rejected = "RequestAuthentication default/jwt: spec.jwtRules[0]"
        log = mesh.lab.node("node1").log("agent")
        until(lambda: "a good version stays in force" in log.read_text().rpartition(rejected)[2], what="told")
        assert status(mesh, "far", "/") == 200
