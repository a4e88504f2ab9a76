"""Services that move behind one of Istio's waypoints, played by Envoy, and back, beside our own L7."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.lab import Lab
from agent.model.schema.objects import Key
from protocols.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from tests.mesh.conftest import Manifest, Mesh
from tests.support import asking, traffic, waypoint
from tests.support.certificates import Certificate
from tests.support.resident import Resident
from tests.support.wait import until

PODS = Path(__file__).with_name("waypoint.yaml")
LABEL = "istio.io/use-waypoint"
IDENTITY = "spiffe://cluster.local/ns/default/sa/{}"
OUTSIDE = "240.240.0.81"  # of a ServiceEntry
ADMIN, CA_PORT = 15000, 15013


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("waypoint")


@pytest.fixture(scope="module")
def mesh(folder: Path) -> Iterator[Mesh]:
    """With the waypoint's process."""
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([PODS], name=f"wt-waypoint-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        behind = {(mesh.service(name, 4), 80): (mesh.address(name, 4), 8080) for name in ("web", "cart")}
        behind[(OUTSIDE, 80)] = (mesh.address("cart", 4), 8080)
        own = lab.pod("waypoint")
        me = certificate(lab, folder, IDENTITY.format("waypoint"))
        exits.enter_context(waypoint.start(own.place.netns, folder, str(own.ipv4), me, behind))
        yield mesh


def certificate(lab: Lab, folder: Path, identity: str) -> Certificate:
    """Of the lab's CA, against the token of the node."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, True)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    request = IstioCertificateRequest(csr=builder.sign(key, hashes.SHA256()).public_bytes(pem).decode())
    request.metadata.update({"ImpersonatedIdentity": identity})
    root, node = lab.state.run / "ca" / "root.pem", lab.node("node2")
    place = Resident(node.cgroup, node.netns)
    try:
        token = (node.run_dir / "ca-token").read_text().strip()
        authority = f"{lab.node('node1').ipv4}:{CA_PORT}"
        signed = place.call(_sign, authority, root.read_bytes(), token, request.SerializeToString())
    finally:
        place.close()
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_text(signed)
    secret.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return Certificate(chain, secret, root)


def _sign(authority: str, root: bytes, token: str, request: bytes) -> str:
    with grpc.secure_channel(authority, grpc.ssl_channel_credentials(root)) as channel:
        method: Any = channel.unary_unary(
            "/istio.v1.auth.IstioCertificateService/CreateCertificate",
            response_deserializer=IstioCertificateResponse.FromString,
        )
        answer = method(request, metadata=(("authorization", f"Bearer {token}"),), timeout=20)
        return "".join(answer.cert_chain)


def ask(mesh: Mesh, service: str = "web", to: str = "") -> asking.Answer | None:
    """What the client gets; None: the connection was refused or cut."""
    port = 8080 if to else 80
    try:
        return mesh.inside("client").call(asking.ask, (to or mesh.service(service, 4), port), service)
    except OSError:
        return None


def way(mesh: Mesh, service: str = "web") -> set[str]:
    """By what a request to a service has passed."""
    answer = ask(mesh, service)
    return {"refused"} if answer is None else {waypoint.MARK, "x-route"} & answer.seen.keys()


@contextmanager
def labelled(mesh: Mesh, service: str, name: str = "waypoint") -> Iterator[None]:
    """With a waypoint before a service."""
    before = mesh.lab.cluster.objects[Key("Service", "default", service)]
    mesh.lab.cluster.put([{**before, "metadata": {**before["metadata"], "labels": {LABEL: name}}}])
    try:
        yield
    finally:
        mesh.lab.cluster.put([before])


@contextmanager
def moved(mesh: Mesh) -> Iterator[None]:
    """`web` is behind the waypoint, and afterwards no more."""
    until(lambda: way(mesh) == {"x-route"}, what="our own L7 acts")
    with labelled(mesh, "web"):
        until(lambda: way(mesh) == {waypoint.MARK}, what="web is behind the waypoint")
        yield
    until(lambda: way(mesh) == {"x-route"}, what="our own L7 acts again")


def test_services_move_one_by_one_and_lose_nothing(mesh: Mesh, folder: Path) -> None:
    address = (mesh.service("web", 4), 80)
    client = mesh.lab.pod("client")
    sender = Resident(client.cgroup, client.netns)
    try:
        sender.call(traffic.start, "http", address, "web", 50, 4)
        with moved(mesh):
            assert way(mesh, "cart") == {"x-route"}
            until(lambda: len(sender.call(traffic.results)) > 100, what="requests on open connections")
        results = sender.call(traffic.stop)
    finally:
        sender.close()
    failed = [one.error for one in results if one.error]
    assert not failed and len(results) > 100, (failed[:3], len(failed), len(results))
    expected = (IDENTITY.format("client"), f"{address[0]}:80")
    until(lambda: expected in waypoint.callers(folder), what="the waypoint knows its client")


def test_the_server_sees_the_waypoint(mesh: Mesh) -> None:
    """What goes past it is judged by the server's policies, as by ztunnel."""
    only = {"selector": {"matchLabels": {"app": "web"}}, "rules": [source("waypoint")]}
    with moved(mesh), policy(mesh, "only", **only):
        address = mesh.address("web", 4)
        until(lambda: ask(mesh, to=address) is None, what="the client's own way is shut")
        assert way(mesh) == {waypoint.MARK}


def test_policies_of_the_service_are_the_waypoints(mesh: Mesh) -> None:
    """Ours to enforce as long as there is no waypoint."""
    target = [{"group": "", "kind": "Service", "name": "web"}]
    with policy(mesh, "nobody", targetRefs=target):
        until(lambda: status(mesh) != 200, what="nobody is allowed")
        with labelled(mesh, "web"):
            until(lambda: way(mesh) == {waypoint.MARK}, what="the waypoint allows it")
        until(lambda: status(mesh) != 200, what="nobody is allowed again")
    until(lambda: status(mesh) == 200, what="everybody is")


def test_nothing_goes_past_a_waypoint_that_is_not_there(mesh: Mesh) -> None:
    with labelled(mesh, "cart", "nowhere"):
        until(lambda: way(mesh, "cart") == {"refused"}, what="it is refused")
        log = mesh.lab.node("node1").log("tunnel")
        until(lambda: "unknown_waypoint" in log.read_text(), what="the reason is told")
    until(lambda: way(mesh, "cart") == {"x-route"}, what="it is open again")


def test_what_our_routes_lead_to_is_behind_its_waypoint_as_well(mesh: Mesh) -> None:
    """`cart` has none, and sends to `web`."""
    route = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "cart", "namespace": "default"},
        "spec": {"hosts": ["cart"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
    }
    former = mesh.lab.cluster.objects[Key("VirtualService", "default", "cart")]
    with moved(mesh):
        mesh.lab.cluster.put([route])
        try:
            until(lambda: way(mesh, "cart") == {waypoint.MARK}, what="the way to web is through it")
        finally:
            mesh.lab.cluster.put([former])
            until(lambda: way(mesh, "cart") == {"x-route"}, what="it is as before")


def test_what_is_outside_is_behind_a_waypoint_as_well(mesh: Mesh) -> None:
    """A ServiceEntry with the label: the waypoint is its egress gateway."""
    spec = {
        "hosts": ["outside.example"],
        "addresses": [OUTSIDE],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": mesh.address("web", 4), "ports": {"http": 8080}}],
    }
    metadata: dict[str, Any] = {"name": "outside", "namespace": "default"}
    kind = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": spec}

    def passed() -> set[str] | None:
        try:
            return {waypoint.MARK} & mesh.inside("client").call(
                asking.ask, (OUTSIDE, 80), "outside"
            ).seen.keys()
        except OSError:
            return None

    try:
        mesh.lab.cluster.put([{**kind, "metadata": metadata}])
        until(lambda: passed() == set(), what="it is reached")
        for name, expected in (("waypoint", {waypoint.MARK}), ("nowhere", None), ("none", set())):
            mesh.lab.cluster.put([{**kind, "metadata": {**metadata, "labels": {LABEL: name}}}])
            until(partial(lambda wanted: passed() == wanted, expected), what=f"{name} is its way")
    finally:
        mesh.lab.cluster.delete(Key("ServiceEntry", "default", "outside"))


def status(mesh: Mesh) -> int:
    answer = ask(mesh)
    return answer.status if answer else 0


def source(account: str) -> Manifest:
    return {"from": [{"source": {"principals": [IDENTITY.format(account).removeprefix("spiffe://")]}}]}


@contextmanager
def policy(mesh: Mesh, name: str, **spec: Any) -> Iterator[None]:
    manifest = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"action": "ALLOW", **spec},
    }
    mesh.lab.cluster.put([manifest])
    try:
        yield
    finally:
        mesh.lab.cluster.delete(Key("AuthorizationPolicy", "default", name))
        until(lambda: not policies(mesh), what="no policy is in force")


def policies(mesh: Mesh) -> list[Any]:
    dump: dict[str, list[Any]] = json.loads(mesh.lab.node("node2").fetch(ADMIN, "/config_dump"))
    return dump["policies"]
