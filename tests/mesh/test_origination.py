"""What a DestinationRule asks of connections to servers outside of the mesh: TLS, PROXY protocol, a proxy."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.lab import Lab
from agent.model.schema.objects import Key
from tests.mesh.conftest import PODS, Manifest, Mesh
from tests.support import asking, endpoints
from tests.support.certificates import EXPIRED, Authority, Certificate
from tests.support.endpoints import Encrypted
from tests.support.wait import until

HOST, VIP = "secure.example", "192.0.2.80"
HTTP, TCP, TARGET = 8000, 8100, 8200  # by the server's number: ports of the service, and of the servers
SERVERS = ["good", "other_name", "expired", "unknown_ca", "revoked", "mutual", "plain", "proxied", "http2"]
SPIFFE = "spiffe://cluster.local/ns/default/sa/outside"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([PODS], name=f"wt-origin-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        yield mesh


@pytest.fixture(scope="module")
def folder(mesh: Mesh) -> Path:
    """Where DestinationRules' files are."""
    return mesh.lab.state.run / "tls"


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "outside")


@pytest.fixture(scope="module", autouse=True)
def servers(mesh: Mesh, folder: Path, authority: Authority) -> None:
    """Servers in the pod `outside`, each on its port, and a ServiceEntry that leads to them."""
    good, revoked = authority.issue(HOST), authority.issue(HOST)
    certificates = {
        "good": good,
        "other_name": authority.issue("other.example"),
        "expired": authority.issue(HOST, EXPIRED),
        "unknown_ca": Authority(folder / "stranger", "stranger").issue(HOST),
        "revoked": revoked,
        "mutual": good,
        "http2": good,
    }
    (folder / "crl.pem").write_bytes(authority.crl(revoked.chain.read_text()))
    inside = mesh.inside("outside")
    for number, name in enumerate(SERVERS):
        encrypted = _encrypted(certificates.get(name), name, authority)
        inside.call(endpoints.serve, TARGET + number, encrypted, proxied=name == "proxied", name=name)
    spec = {
        "hosts": [HOST],
        "addresses": [VIP],
        "resolution": "STATIC",
        "ports": [*_ports(HTTP, "http"), *_ports(TCP, "tcp")],
        "endpoints": [{"address": mesh.address("outside", 4)}],
    }
    mesh.lab.cluster.put([manifest("ServiceEntry", "secure", spec)])


def _encrypted(certificate: Certificate | None, name: str, authority: Authority) -> Encrypted | None:
    if certificate is None:
        return None
    clients = str(authority.root_file) if name == "mutual" else ""
    return Encrypted(str(certificate.chain), str(certificate.key), clients)


def _ports(first: int, protocol: str) -> list[dict[str, Any]]:
    return [
        {
            "number": first + at,
            "name": f"{protocol}-{at}",
            "protocol": protocol.upper(),
            "targetPort": TARGET + at,
        }
        for at in range(len(SERVERS))
    ]


def manifest(kind: str, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


@contextmanager
def ruled(mesh: Mesh, policy: Manifest) -> Iterator[None]:
    """With a DestinationRule for the servers; until it holds, the plain server answers."""
    rule = manifest("DestinationRule", "secure", {"host": HOST, "trafficPolicy": policy})
    mesh.lab.cluster.put([rule])
    until(lambda: _in_force(mesh), what="the rule holds")
    try:
        yield
    finally:
        mesh.lab.cluster.delete(Key("DestinationRule", "default", "secure"))
        until(lambda: not _in_force(mesh), what="the rule is gone")


def _in_force(mesh: Mesh) -> bool:
    return HOST in mesh.lab.node("node1").fetch(15000, "/routes")


def ask(mesh: Mesh, server: str, host: str = HOST) -> tuple[int, Mapping[str, Any]]:
    """A request of the pod `a`: status, and what the server saw."""
    answer = mesh.inside("a").call(asking.ask, (VIP, HTTP + SERVERS.index(server)), host)
    return answer.status, answer.facts or {"body": answer.body.decode()}


def tell(mesh: Mesh, server: str) -> dict[str, Any]:
    """A connection of the pod `a`: what the server saw."""
    return mesh.inside("a").call(endpoints.tell, (VIP, TCP + SERVERS.index(server)))


@contextmanager
def logged(mesh: Mesh, *texts: str) -> Iterator[None]:
    """The tunnel of `a` tells of it in one line."""
    log = mesh.lab.node("node1").log("tunnel")
    before = len(log.read_text())
    yield

    def told() -> bool:
        return any(all(text in line for text in texts) for line in log.read_text()[before:].splitlines())

    until(told, what=f"a line has {texts}")


def simple(authority: Authority, **more: Any) -> Manifest:
    return {"tls": {"mode": "SIMPLE", "caCertificates": str(authority.root_file), **more}}


def test_requests_and_connections_are_encrypted(mesh: Mesh, authority: Authority) -> None:
    with ruled(mesh, simple(authority)):
        status, seen = ask(mesh, "good")
        assert (status, seen["sni"], seen["host"], seen["tls"]) == (200, HOST, HOST, "TLSv1.3")
        seen = tell(mesh, "good")
        assert (seen["sni"], seen["said"], seen["client"]) == (HOST, "hello", [])
        with logged(mesh, "reason=tls_failure", "response_flags=TLS_FAILURE"):
            assert tell(mesh, "plain") == {"refused": True}


REASONS = {
    "other_name": ("certificate_name", "for other names"),
    "expired": ("certificate_expired", "has expired"),
    "unknown_ca": ("untrusted_certificate", "no root that is trusted"),
    "revoked": ("certificate_revoked", "has been revoked"),
}


@pytest.mark.parametrize("server", REASONS)
def test_a_server_that_is_not_who_it_should_be_gets_nothing(
    mesh: Mesh, authority: Authority, folder: Path, server: str
) -> None:
    reason, text = REASONS[server]
    with ruled(mesh, simple(authority, caCrl=str(folder / "crl.pem"))):
        assert ask(mesh, "good")[0] == 200
        with logged(mesh, "request complete", "response_flags=UF", text):
            status, answer = ask(mesh, server)
        assert status == 503
        assert "transport failure reason: TLS error: " in answer["body"] and text in answer["body"]
        with logged(mesh, f"reason={reason}"):
            assert tell(mesh, server) == {"refused": True}


def test_without_a_rule_for_it_the_systems_roots_count(mesh: Mesh) -> None:
    with ruled(mesh, {"tls": {"mode": "SIMPLE"}}), logged(mesh, "reason=untrusted_certificate"):
        assert ask(mesh, "good")[0] == 503
        assert tell(mesh, "good") == {"refused": True}
    with ruled(mesh, {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}}):
        assert [ask(mesh, server)[0] for server in ("good", *REASONS)] == [200] * 5


def test_names_that_are_asked_for(mesh: Mesh, authority: Authority) -> None:
    with ruled(mesh, simple(authority, sni="other.example")):
        assert (ask(mesh, "other_name")[1]["sni"], ask(mesh, "good")[0]) == ("other.example", 503)
        assert tell(mesh, "other_name")["sni"] == "other.example"
    with ruled(mesh, simple(authority, subjectAltNames=["spiffe://x/y", "other.example"])):
        assert (ask(mesh, "other_name")[1]["sni"], ask(mesh, "good")[0]) == (HOST, 503)
        with logged(mesh, "reason=certificate_name", f"it has DNSName({HOST})"):
            assert tell(mesh, "good") == {"refused": True}
    with ruled(mesh, simple(authority)):
        assert ask(mesh, "good", "other.example")[0] == 503
        assert ask(mesh, "other_name", "other.example:80")[1]["sni"] == "other.example"


def mutual(authority: Authority, mine: Certificate) -> Manifest:
    files = {"clientCertificate": str(mine.chain), "privateKey": str(mine.key)}
    return simple(authority, **files, mode="MUTUAL")


def test_clients_prove_who_they_are(mesh: Mesh, authority: Authority) -> None:
    with ruled(mesh, simple(authority)):
        assert ask(mesh, "mutual")[0] == 503
        with logged(mesh, "reason=certificate_refused", "certificate_required"):
            assert tell(mesh, "mutual") == {"refused": True}
    with ruled(mesh, mutual(authority, authority.issue(SPIFFE))):
        assert ask(mesh, "mutual")[1]["client"] == [SPIFFE]
        assert tell(mesh, "mutual")["client"] == [SPIFFE]


def test_ports_have_settings_of_their_own(mesh: Mesh, authority: Authority) -> None:
    number = HTTP + SERVERS.index("plain")
    own = {"port": {"number": number}, "tls": {"mode": "DISABLE"}}
    with ruled(mesh, {**simple(authority), "portLevelSettings": [own]}):
        assert (ask(mesh, "plain")[0], ask(mesh, "good")[0]) == (200, 200)


def test_a_renewed_certificate_is_used_without_a_break(mesh: Mesh, authority: Authority) -> None:
    mine = authority.issue(f"{SPIFFE}-1")
    with ruled(mesh, mutual(authority, mine)):
        assert tell(mesh, "mutual")["client"] == [f"{SPIFFE}-1"]
        other = authority.issue(f"{SPIFFE}-2")
        other.key.replace(mine.key)
        other.chain.replace(mine.chain)
        seen = set[str]()

        def renewed() -> bool:
            told = tell(mesh, "mutual")
            seen.update(told["client"])  # each of them is served
            return f"{SPIFFE}-2" in seen

        until(renewed, what="the new one is shown")
        assert ask(mesh, "mutual")[1]["client"] == [f"{SPIFFE}-2"]


def test_what_cannot_be_read_lets_nothing_through(mesh: Mesh, authority: Authority, folder: Path) -> None:
    (folder / "garbage.pem").write_text("no certificate")
    for file, why in (
        ("/etc/passwd", "is not below"),
        (str(folder / "missing.pem"), "No such file"),
        (str(folder / "garbage.pem"), "no PEM certificate in it"),
    ):
        with ruled(mesh, simple(authority, caCertificates=file)):
            with logged(mesh, "request complete", "response_flags=UF", why):
                assert ask(mesh, "good")[0] == 503
            with logged(mesh, "reason=no_credential", "DestinationRule default/secure", why):
                assert tell(mesh, "good") == {"refused": True}
    expired = authority.issue(SPIFFE, EXPIRED)
    wrong = Certificate(expired.chain, authority.issue(SPIFFE).key, expired.root)
    with ruled(mesh, mutual(authority, wrong)), logged(mesh, "reason=no_credential", "and its key"):
        assert tell(mesh, "mutual") == {"refused": True}


def test_a_secret_of_the_clients_namespace(mesh: Mesh, authority: Authority) -> None:
    mine = authority.issue(SPIFFE)
    data = {"tls.crt": mine.chain.read_text(), "tls.key": mine.key.read_text(), "ca.crt": authority.root}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "client", "namespace": "default"},
        "stringData": data,
    }
    with ruled(mesh, {"tls": {"mode": "MUTUAL", "credentialName": "client"}}):
        with logged(mesh, "reason=no_credential", "there is no Secret default/client"):
            assert tell(mesh, "mutual") == {"refused": True}
        mesh.lab.cluster.put([secret])
        until(lambda: tell(mesh, "mutual").get("client") == [SPIFFE], what="the Secret is used")
        assert ask(mesh, "mutual")[1]["client"] == [SPIFFE]
        assert "BEGIN" not in mesh.lab.node("node1").fetch(15000, "/config_dump")


@pytest.mark.parametrize(("version", "beginning"), [("V1", "PROXY TCP4 {} {} "), ("V2", "v2 0x21 {} {} ")])
def test_endpoints_are_told_of_the_client(mesh: Mesh, version: str, beginning: str) -> None:
    expected = beginning.format(mesh.address("a", 4), mesh.address("outside", 4))
    with ruled(mesh, {"proxyProtocol": {"version": version}}):
        for seen in (tell(mesh, "proxied"), ask(mesh, "proxied")[1]):
            assert seen["proxy"].startswith(expected)
            assert seen["proxy"].endswith(f" {TARGET + SERVERS.index('proxied')}")
    pool = {"http": {"http1MaxPendingRequests": 9}}
    with ruled(mesh, {"proxyProtocol": {"version": version}, "connectionPool": pool}):
        assert ask(mesh, "proxied")[1]["proxy"].startswith(expected)


def test_through_a_proxy(mesh: Mesh) -> None:
    mesh.inside("outside").call(endpoints.tunnel, TARGET + 50)
    ports = [{"number": 3128, "name": "tcp", "protocol": "TCP", "targetPort": TARGET + 50}]
    entry = {"hosts": ["proxy.example"], "addresses": ["192.0.2.81"], "resolution": "STATIC", "ports": ports}
    entry["endpoints"] = [{"address": mesh.address("outside", 4)}]
    mesh.lab.cluster.put([manifest("ServiceEntry", "proxy", entry)])
    for port, expected in ((8200, {"said": "hello", "host": "target.example"}), (8201, {"refused": True})):
        tunnel = {"targetHost": "target.example", "targetPort": port, "protocol": "CONNECT"}
        rule = {"host": "proxy.example", "trafficPolicy": {"tunnel": tunnel}}
        mesh.lab.cluster.put([manifest("DestinationRule", "proxy", rule)])

        def told(expected: dict[str, Any] = expected) -> bool:
            seen = mesh.inside("a").call(endpoints.tell, ("192.0.2.81", 3128))
            return all(seen.get(key) == value for key, value in expected.items())

        until(told, what=f"the tunnel to {port}")


def test_sessions_are_resumed(mesh: Mesh, authority: Authority) -> None:
    with ruled(mesh, simple(authority)):
        until(lambda: tell(mesh, "good")["resumed"], timeout=timedelta(seconds=20).total_seconds())
