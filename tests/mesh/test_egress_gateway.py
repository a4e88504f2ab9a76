"""What leaves the mesh does so through a gateway: Istio's egress task as it stands, and nothing past it."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from agent.ca import directory
from agent.lab import Lab
from agent.model.schema.objects import Key
from tests.mesh.conftest import Manifest, Mesh, in_force
from tests.support import asking, hbone, sockets
from tests.support.certificates import Authority, Certificate
from tests.support.resident import Resident
from tests.support.wait import until

MANIFESTS = Path(__file__).with_name("egress_gateway.yaml")
HOST, ADDRESS = "outside.example", "240.240.0.80"
TLS_PORT, GATEWAY_API_PORT = 7443, 8081
CLIENT = "cluster.local/ns/default/sa/client"
ONLY_CLIENT = {"rules": [{"from": [{"source": {"principals": [CLIENT]}}]}]}
PORT = 7200  # of a server that nobody in the mesh knows, on a node itself


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([MANIFESTS], name=f"wt-egress-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        mesh.inside("outside").call(sockets.serve, TLS_PORT)
        lab.cluster.put([entry(mesh)])
        yield mesh


def entry(mesh: Mesh) -> Manifest:
    spec = {
        "hosts": [HOST],
        "addresses": [ADDRESS],
        "ports": [
            {"number": 80, "name": "http", "protocol": "HTTP"},
            {"number": 443, "name": "tls", "protocol": "TLS"},
        ],
        "resolution": "STATIC",
        "endpoints": [{"address": mesh.address("outside", 4), "ports": {"http": 8080, "tls": TLS_PORT}}],
    }
    kind = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry"}
    return {**kind, "metadata": {"name": "outside", "namespace": "default"}, "spec": spec}


def ask(mesh: Mesh, source: str = "client", path: str = "/") -> asking.Answer | None:
    """None: the connection is refused or cut."""
    try:
        return mesh.inside(source).call(asking.ask, (ADDRESS, 80), HOST, path)
    except OSError:
        return None


def leaves_by(mesh: Mesh) -> str:
    """From where the server sees a request of the client's; empty if it does not."""
    answer = ask(mesh)
    ours = answer is not None and answer.version == "outside"
    return str(answer.facts["request"]["from"]).rpartition(":")[0] if answer and ours else ""


def gateway_is_the_way(mesh: Mesh) -> None:
    own = mesh.address("istio-egressgateway", 4)
    until(lambda: leaves_by(mesh) == own, what="requests leave by the gateway")


SELECTED: Manifest = {"selector": {"matchLabels": {"istio": "egressgateway"}}}


def policy(**spec: Any) -> Manifest:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "leaving", "namespace": "istio-system"},
        "spec": spec,
    }


def leaving_by(mesh: Mesh, one: Manifest) -> AbstractContextManager[None]:
    """With this policy; afterwards everybody leaves by the gateway."""

    def is_over() -> bool:
        return all(status(mesh, "other", port) == 200 for port in (80, GATEWAY_API_PORT))

    return in_force(mesh, [one], is_over, "everybody leaves by the gateway")


def status(mesh: Mesh, source: str, port: int = 80) -> int:
    """Of an answer from the gateway itself."""
    to = (mesh.address("istio-egressgateway", 4), port)
    forged = {"x-forwarded-client-cert": f"URI=spiffe://{CLIENT}"}
    return mesh.inside(source).call(asking.ask, to, HOST, "/", headers=forged).status


def test_requests_leave_by_the_gateway(mesh: Mesh) -> None:
    """Whoever asks, by the name that it has outside."""
    gateway_is_the_way(mesh)
    answer, own = ask(mesh, "other"), mesh.address("istio-egressgateway", 4)
    assert answer and answer.seen["host"] == HOST
    assert answer.facts["request"]["from"].startswith(f"{own}:")


def test_the_gateway_judges_who_leaves(mesh: Mesh) -> None:
    """By its own policies."""
    gateway_is_the_way(mesh)
    rules = [{"to": [{"operation": {"paths": ["/allowed"]}}]}]
    with leaving_by(mesh, policy(**SELECTED, rules=rules)):
        until(lambda: (one := ask(mesh)) is not None and one.status == 403, what="the policy holds")
        allowed = ask(mesh, path="/allowed")
        assert allowed and allowed.version == "outside"


def test_the_gateway_knows_who_leaves_by_what_it_has_proven(mesh: Mesh, tmp_path: Path) -> None:
    """By the client's certificate: a header, plain text, another root or trust domain prove nothing."""
    gateway_is_the_way(mesh)
    own, signer = mesh.address("istio-egressgateway", 4), directory.read_root(mesh.lab.state.run / "ca")
    assert isinstance(signer.key, EllipticCurvePrivateKey)
    ours = Authority(tmp_path / "ours", stolen=(signer.certificate.subject, signer.key))
    stranger = Authority(tmp_path / "stranger")

    def through_a_tunnel(me: Certificate | None) -> str:
        return mesh.inside("outside").call(hbone.ask, own, 80, me, HOST)

    with leaving_by(mesh, policy(**SELECTED, **ONLY_CLIENT)):
        until(lambda: status(mesh, "other") == 403, what="the policy holds")
        assert leaves_by(mesh) == own
        assert status(mesh, "outside") == 403, "in plain text it is nobody"
        assert through_a_tunnel(ours.issue(f"spiffe://{CLIENT}")) == "HTTP/1.1 200 OK"
        assert (
            through_a_tunnel(ours.issue("spiffe://cluster.local/ns/default/sa/other"))
            == "HTTP/1.1 403 Forbidden"
        )
        elsewhere = ours.issue(f"spiffe://{CLIENT.replace('cluster.local', 'elsewhere')}")
        for nobody in (None, stranger.issue(f"spiffe://{CLIENT}"), elsewhere):
            assert through_a_tunnel(nobody) == ""


def test_what_is_attached_to_a_gateway_judges_who_leaves_by_it(mesh: Mesh) -> None:
    """A policy with targetRefs, for what comes through tunnels and plainly, at that Gateway alone."""
    gateway_is_the_way(mesh)
    target = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "egress"}]
    with leaving_by(mesh, policy(targetRefs=target, **ONLY_CLIENT)):
        until(lambda: status(mesh, "other", GATEWAY_API_PORT) == 403, what="the policy holds")
        assert status(mesh, "client", GATEWAY_API_PORT) == 200
        assert status(mesh, "outside", GATEWAY_API_PORT) == 403
        assert status(mesh, "other") == status(mesh, "outside") == 200


def test_connections_leave_by_the_name_in_their_tls(mesh: Mesh) -> None:
    """Passed through, judged by the client's identity as well."""
    gateway_is_the_way(mesh)

    def greeted(source: str) -> bool:
        return mesh.inside(source).call(sockets.greeted_over_tls, (ADDRESS, 443), HOST)

    until(lambda: greeted("client") and greeted("other"), what="connections leave")
    with leaving_by(mesh, policy(**SELECTED, **ONLY_CLIENT)):
        until(lambda: not greeted("other"), what="the policy holds")
        assert greeted("client")


def test_nothing_goes_past_it(mesh: Mesh) -> None:
    """Neither to an address that nobody knows, nor without the gateway."""
    gateway_is_the_way(mesh)
    node = mesh.lab.node("node2")
    unknown = Resident(mesh.lab.pod("outside").cgroup, node.netns)
    try:
        unknown.call(sockets.serve, PORT)
        assert mesh.inside("client").call(sockets.is_turned_away, (str(node.ipv4), PORT))
    finally:
        unknown.close()
    gateway = mesh.lab.cluster.objects[Key("Gateway", "default", "istio-egressgateway")]
    mesh.lab.cluster.delete(Key("Gateway", "default", "istio-egressgateway"))
    try:
        until(lambda: leaves_by(mesh) == "", what="there is no way any more")
    finally:
        mesh.lab.cluster.put([gateway])
    gateway_is_the_way(mesh)


NAME = "api.wild.example"


def wild() -> list[Manifest]:
    """The same task for a name under a wildcard that is resolved by whoever needs it."""
    meta = {"name": "wild", "namespace": "default"}
    api = "networking.istio.io/v1"
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]
    entry = {"hosts": ["*.wild.example"], "ports": ports, "resolution": "DYNAMIC_DNS"}
    gateway = {"host": "istio-egressgateway.istio-system.svc.cluster.local", "port": {"number": 80}}
    rules = [
        {"match": [{"gateways": [by]}], "route": [{"destination": to}]}
        for by, to in (("mesh", gateway), ("istio-egressgateway", {"host": NAME}))
    ]
    spec = {"hosts": [NAME], "gateways": ["istio-egressgateway", "mesh"], "http": rules}
    return [
        {"apiVersion": api, "kind": "ServiceEntry", "metadata": meta, "spec": entry},
        {"apiVersion": api, "kind": "VirtualService", "metadata": meta, "spec": spec},
    ]


def test_names_under_a_wildcard_leave_by_the_gateway(mesh: Mesh) -> None:
    """Which asks DNS for the name of each request; the client has an address of the mesh for it."""
    client, own = mesh.lab.pod("client"), mesh.address("istio-egressgateway", 4)

    def address() -> str:
        said = client.run(["getent", "ahostsv4", NAME], check=False).stdout
        return next((line.split()[0] for line in said.splitlines() if line.startswith("240.240.")), "")

    def comes_from() -> str:
        answer = mesh.inside("client").call(asking.ask, (address(), 80), NAME)
        ours = answer.version == "outside"
        return str(answer.facts["request"]["from"]).rpartition(":")[0] if ours else str(answer.status)

    with in_force(mesh, wild(), lambda: not address(), "nobody knows the name"):
        until(address, what="the client's name server knows the name")
        until(lambda: comes_from() == own, what="requests leave by the gateway")
