"""Names that only the mesh knows, and names of the world that ServiceEntries resolve, from inside a pod."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import pytest
import yaml

from agent.lab import Lab, addresses, upgrade
from agent.model.translation.allotment import V4, V6
from tests.mesh.conftest import Manifest, Mesh, in_force
from tests.support import asking, endpoints, questions, sockets
from tests.support.certificates import Authority
from tests.support.endpoints import Encrypted
from tests.support.questions import message
from tests.support.resident import Resident
from tests.support.samples import SAMPLES
from tests.support.wait import until

PODS = Path(__file__).with_name("names.yaml")
SERVER = {4: (str(addresses.DNS_V4), 53), 6: (str(addresses.DNS_V6), 53)}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
NAME = "db.internal.example"  # no name server knows it
EDNS = bytes([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one root of the world."""
    return Authority(tmp_path_factory.mktemp("world"), "world")


@pytest.fixture(scope="module")
def mesh(authority: Authority) -> Iterator[Mesh]:
    with ExitStack() as exits:
        environment = exits.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("SSL_CERT_FILE", str(authority.root_file))
        lab = exits.enter_context(Lab.up([PODS], name=f"wt-names-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        yield mesh


TCP = ((7000, "TCP"),)


def entry(name: str, *hosts: str, ports: Sequence[tuple[int, str]] = TCP, **spec: Any) -> Manifest:
    named = [{"number": number, "name": f"p{number}", "protocol": protocol} for number, protocol in ports]
    body = {"hosts": list(hosts), "ports": named, "resolution": "DNS", **spec}
    return manifest("ServiceEntry", name, body)


def manifest(kind: str, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def dump(mesh: Mesh) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mesh.lab.node("node1").fetch(15000, "/config_dump"))
    return found


def virtual(mesh: Mesh, host: str) -> list[str]:
    """The addresses that the tunnel has for a hostname."""
    return next((one["addresses"] for one in dump(mesh)["services"] if one["key"] == f"default/{host}"), [])


@contextmanager
def applied(mesh: Mesh, *entries: Manifest) -> Iterator[None]:
    hosts = [host for one in entries for host in one["spec"]["hosts"]]

    def there() -> bool:
        keys = {one["key"] for one in dump(mesh)["services"]}
        return all(f"default/{host}" in keys for host in hosts)

    with in_force(mesh, entries, lambda: not there(), "they are gone"):
        until(there, what="the tunnel has heard of them")
        yield


@pytest.fixture
def known(mesh: Mesh) -> Iterator[list[str]]:
    """`NAME` leads to a pod outside of the mesh; its virtual addresses."""
    endpoints = [{"address": mesh.address("world", 4)}]
    with applied(mesh, entry("db", NAME, resolution="STATIC", endpoints=endpoints)):
        until(lambda: is_captured(mesh), what="questions are answered by the tunnel")
        yield virtual(mesh, NAME)


def is_captured(mesh: Mesh) -> bool:
    counts = mesh.lab.node("node1").verdicts
    before = counts()["dns_captured"]
    mesh.inside("client").call(questions.connected, SERVER[4], message("x.example", "A"))
    return counts()["dns_captured"] > before


def addresses_in(answer: bytes) -> list[str]:
    return [str(one) for record in dns.message.from_wire(answer).answer for one in record]


def test_a_name_that_only_the_mesh_knows_is_called(mesh: Mesh, known: list[str]) -> None:
    """By glibc, with search domains and what else resolv.conf says."""
    client = mesh.lab.pod("client")
    said = client.run(["getent", "ahosts", NAME]).stdout
    assert {line.split()[0] for line in said.splitlines()} == set(known)
    assert ip_address(known[0]) in V4
    assert ip_address(known[1]) in V6
    for address in known:
        assert mesh.inside("client").call(asking.ask, (address, 7000), NAME).status == 200
    assert NAME not in mesh.lab.pod("plain").run(["getent", "ahosts", NAME], check=False).stdout


@FAMILIES
def test_answers_seem_to_come_from_the_server_that_was_asked(
    mesh: Mesh, known: list[str], family: int
) -> None:
    """Both families at once over one socket, as musl asks; connected, as glibc and Go ask."""
    server, client = SERVER[family], mesh.inside("client")
    both = message(NAME, "A", 1), message(NAME, "AAAA", 2)
    seen = client.call(questions.unconnected, server, *both)
    assert [source for _, source in seen] == [f"{server[0]} {server[1]}"] * 2
    answers, peer = client.call(questions.connected, server, *both)
    assert peer == f"{server[0]} {server[1]}"
    for found in ([answer for answer, _ in seen], answers, client.call(questions.over_tcp, server, *both)):
        assert [addresses_in(answer) for answer in found] == [known[:1], known[1:]]


def test_an_answer_is_as_a_servers(mesh: Mesh, known: list[str]) -> None:
    question = message("Db.InTernal.eXample", "A", edns=EDNS)
    [answer], _ = mesh.inside("client").call(questions.connected, SERVER[4], question)
    read = dns.message.from_wire(answer)
    assert answer[12 : len(question) - len(EDNS)] == question[12 : -len(EDNS)], "the case is kept"
    assert (read.rcode(), read.edns, read.answer[0].ttl) == (0, 0, 30)


@FAMILIES
@pytest.mark.parametrize("tcp", [False, True])
def test_all_else_is_passed_on_as_it_is(mesh: Mesh, known: list[str], family: int, tcp: bool) -> None:
    """Other names, other types, names that do not exist: byte for byte what others get."""
    asked = [
        *(message("kubernetes.default.svc.cluster.local", kind, edns=EDNS) for kind in questions.TYPES),
        message("other.example", "A"),
        message(f"{NAME}.default.svc.cluster.local", "A"),
        *(message(NAME, kind) for kind in ("SRV", "TXT", "HTTPS")),
    ]
    way = questions.over_tcp if tcp else questions.connected
    for question in asked:
        answers = [mesh.inside(pod).call(way, SERVER[family], question) for pod in ("client", "plain")]
        assert answers[0] == answers[1]


def test_several_names_over_one_connection(mesh: Mesh, known: list[str]) -> None:
    """What comes after the first that the mesh does not know is the server's."""
    asked = [message(NAME, "A"), message(NAME, "AAAA"), message("other.example", "A")]
    first, second, third = mesh.inside("client").call(questions.over_tcp, SERVER[4], *asked)
    assert (addresses_in(first), addresses_in(second)) == (known[:1], known[1:])
    assert addresses_in(third) == [mesh.address("other", 4)]


def test_without_a_need_nothing_is_captured(mesh: Mesh) -> None:
    verdicts = mesh.lab.node("node1").verdicts
    until(lambda: not is_captured(mesh), what="nobody captures")
    before = verdicts()["dns_captured"]
    mesh.inside("client").call(questions.unconnected, SERVER[4], message("other.example", "A"))
    assert verdicts()["dns_captured"] == before


def test_without_a_tunnel_the_server_that_was_asked_answers(mesh: Mesh, known: list[str]) -> None:
    node, client = mesh.lab.node("node1"), mesh.inside("client")
    node.stop("tunnel")
    try:
        [(answer, source)] = client.call(questions.unconnected, SERVER[4], message("other.example", "A"))
        assert (addresses_in(answer), source) == ([mesh.address("other", 4)], f"{SERVER[4][0]} 53")
    finally:
        node.start("tunnel")
    until(lambda: is_captured(mesh), what="it answers again")


def test_no_question_is_lost_when_a_tunnel_follows_another(mesh: Mesh, known: list[str]) -> None:
    """Not even to the server that does not know the name."""
    with ThreadPoolExecutor(1) as pool:
        upgraded = pool.submit(upgrade.upgrade_tunnel, mesh.lab.node("node1"))
        while not upgraded.done():
            [answer], _ = mesh.inside("client").call(questions.connected, SERVER[4], message(NAME, "A"))
            assert addresses_in(answer) == known[:1]
        upgraded.result()


def test_a_name_of_the_world_is_resolved(mesh: Mesh) -> None:
    """The connection goes to each of its addresses in turn."""
    with applied(mesh, entry("api", "api.example")):
        wanted = {mesh.address(pod, family) for pod in ("world", "other") for family in (4, 6)}
        until(lambda: {*dump(mesh)["names"].get("api.example", [])} == wanted, what="it is resolved")
        for address in virtual(mesh, "api.example"):
            asked = [
                mesh.inside("client").call(asking.ask, (address, 7000), "api.example") for _ in range(20)
            ]
            assert {json.loads(one.body)["pod"] for one in asked} == {"world", "other"}


def test_of_a_logical_name_one_address_counts(mesh: Mesh) -> None:
    with applied(mesh, entry("api", "api.example", resolution="DNS_ROUND_ROBIN")):
        until(lambda: dump(mesh)["names"].get("api.example"), what="it is resolved")
        first = dump(mesh)["names"]["api.example"][0]
        [address] = [one for one in virtual(mesh, "api.example") if "." in one]
        expected = next(pod for pod in ("world", "other") if mesh.address(pod, 4) == first)
        assert answering(mesh, address, 5) == {expected}


def answering(mesh: Mesh, address: str, times: int) -> set[str]:
    """The pods that answer the client's requests to an address."""
    client = mesh.inside("client")
    asked = (client.call(asking.ask, (address, 7000), "api.example") for _ in range(times))
    return {json.loads(one.body)["pod"] for one in asked}


def registry_only() -> Manifest:
    spec = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    return manifest("Sidecar", "default", spec)


@contextmanager
def restricted(mesh: Mesh) -> Iterator[None]:
    def holds() -> bool:
        return any(one["outbound_traffic_policy"] == "REGISTRY_ONLY" for one in dump(mesh)["traffic"])

    with in_force(mesh, [registry_only()], lambda: not holds(), "it is over"):
        until(holds, what="it holds")
        yield


@pytest.fixture(scope="module")
def elsewhere(mesh: Mesh) -> Iterator[str]:
    """An address that the mesh does not know, with servers: the other node's own."""
    resident = Resident(mesh.lab.pod("world").cgroup, mesh.lab.node("node2").netns)
    for port in (22, 80, 443, 7000):
        resident.call(sockets.serve, port)
    yield str(addresses.node_v4(2))
    resident.close()


def request(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def test_a_host_without_addresses_is_known_by_its_name(mesh: Mesh, elsewhere: str) -> None:
    """Under REGISTRY_ONLY, at the address that the world's DNS has."""
    to, client = (elsewhere, 80), mesh.inside("client")
    api = entry("api", "*.api.example", ports=[(80, "HTTP")], resolution="NONE")
    with restricted(mesh), applied(mesh, api):
        for host in ("one.api.example", "ONE.two.api.example:80"):
            assert client.call(sockets.comes_back, to, request(host))
        for host in ("api.example", "evil.example"):
            assert not client.call(sockets.comes_back, to, request(host))
        log = mesh.lab.node("node1").log("tunnel")
        until(lambda: "the client names evil.example" in log.read_text(), what="the log has its reason")
    with applied(mesh, api):
        assert client.call(sockets.comes_back, to, request("evil.example")), "under ALLOW_ANY it passes"


def test_a_host_that_is_resolved_is_not_where_the_client_went(mesh: Mesh, elsewhere: str) -> None:
    """Its endpoints are where DNS has it, whatever address a client has dialled with its name."""
    with restricted(mesh), applied(mesh, entry("other", "other.example", ports=[(80, "HTTP")])):
        until(lambda: dump(mesh)["names"].get("other.example"), what="it is resolved")
        answer = mesh.inside("client").call(asking.ask, (elsewhere, 80), "other.example")
        assert json.loads(answer.body)["pod"] == "other"


def test_requests_to_an_entry_that_is_not_resolved_go_where_they_went(mesh: Mesh, elsewhere: str) -> None:
    """By its routes, to each of its addresses, of which the mesh knows nothing more."""
    nobody = str(addresses.node_v4(1))
    ports, listed = [(80, "HTTP")], [f"{elsewhere}/32", f"{nobody}/32"]
    called = entry("called", "called.example", ports=ports, resolution="NONE", addresses=listed)
    route = [{"destination": {"host": "called.example"}}]
    rule = manifest("VirtualService", "called", {"hosts": ["called.example"], "http": [{"route": route}]})
    client = mesh.inside("client")

    def said(address: str) -> tuple[int, bytes]:
        answer = client.call(asking.ask, (address, 80), "called.example")
        return answer.status, answer.body[:42]

    with applied(mesh, called, rule):
        until(lambda: routed(mesh, "called"), what="its rules are in force")
        assert said(elsewhere)[0] == 502, "its echo, which is no answer"
        assert said(nobody) == (503, b"upstream connect error or disconnect/reset")
        assert said(elsewhere)[0] == 502


def routed(mesh: Mesh, name: str) -> bool:
    """Whether rules of a VirtualService are in force."""
    return f"VirtualService default/{name}" in mesh.lab.node("node1").fetch(15000, "/routes")


def test_rules_for_names_under_a_wildcard(mesh: Mesh, elsewhere: str) -> None:
    """By each request's Host; a name without rules, or that is their destination, is where it was."""
    wild = entry("api", "*.api.example", ports=[(80, "HTTP")], resolution="NONE")
    teapot = {"hosts": ["teapot.api.example"], "http": [{"directResponse": {"status": 418}}]}
    route = [{"destination": {"host": "slow.api.example"}}]
    slow = {"hosts": ["slow.api.example"], "http": [{"timeout": "10s", "route": route}]}
    rules = [manifest("VirtualService", "teapot", teapot), manifest("VirtualService", "slow", slow)]
    client = mesh.inside("client")

    def said(host: str) -> int:
        return client.call(asking.ask, (elsewhere, 80), host).status

    with (
        restricted(mesh),
        applied(mesh, wild),
        in_force(mesh, rules, lambda: not routed(mesh, "teapot"), "they are gone"),
    ):
        until(lambda: all(routed(mesh, name) for name in ("teapot", "slow")), what="they hold")
        assert [said(host) for host in ("teapot.api.example", "TEAPOT.api.example:80")] == [418, 418]
        for host in ("slow.api.example", "other.api.example", "x.teapot.api.example"):
            assert said(host) == 502, "its echo, which is no answer"


def dynamic() -> Manifest:
    """At port 80 by requests, at 8443 by ClientHellos."""
    ports = [(80, "HTTP"), (8443, "TLS")]
    return entry("wild", "*.example", ports=ports, resolution="DYNAMIC_DNS")


def answers(mesh: Mesh, to: tuple[str, int], host: str) -> set[str] | int:
    """The pods that answer requests for a host, or the status of who does in their place."""
    client = mesh.inside("client")
    asked = [client.call(asking.ask, to, host) for _ in range(10)]
    refused = next((one.status for one in asked if one.status != 200), None)
    return refused or {json.loads(one.body)["pod"] for one in asked}


def test_names_under_a_wildcard_are_resolved_as_they_are_asked_for(mesh: Mesh, elsewhere: str) -> None:
    """Each request by its own Host, wherever its connection was going; what is no such name leads nowhere."""
    with restricted(mesh), applied(mesh, dynamic()):
        until(lambda: is_captured(mesh), what="questions are answered by the tunnel")
        [own, _] = virtual(mesh, "*.example")
        until(lambda: answers(mesh, (own, 80), "other.example") == {"other"}, what="it has its routes")
        said = mesh.lab.pod("client").run(["getent", "ahostsv4", "other.example"]).stdout
        assert {line.split()[0] for line in said.splitlines()} == {own}
        assert answers(mesh, (elsewhere, 80), "other.example") == {"other"}
        for address in (own, elsewhere):
            assert answers(mesh, (address, 80), "API.example:80") == {"world", "other"}
        assert answers(mesh, (own, 80), "nobody.example") == 503
        assert answers(mesh, (own, 80), "github.com") == 503, "it is under no wildcard"
        assert {*dump(mesh)["names"]} == {"other.example", "api.example", "nobody.example"}


def test_servers_under_a_wildcard_are_resolved_as_client_hellos_name_them(mesh: Mesh, elsewhere: str) -> None:
    """Only where the name leads is a server."""
    client, other = mesh.inside("client"), mesh.inside("other")
    other.call(sockets.serve, 8443)

    def passes(address: str, server: str) -> bool:
        return client.call(sockets.comes_back, (address, 8443), client.call(sockets.client_hello, server))

    with restricted(mesh), applied(mesh, dynamic()):
        [own, _] = virtual(mesh, "*.example")
        until(lambda: passes(own, "other.example"), what="it has its routes")
        assert passes(elsewhere, "Other.example")
        for name in ("nobody.example", "github.com"):
            assert not passes(own, name)


def sample(path: str) -> list[Manifest]:
    """The objects of a file, in the namespace `default`."""
    items = yaml.safe_load_all((SAMPLES / path).read_text())
    return [{**one, "metadata": {"namespace": "default", **one["metadata"]}} for one in items]


def test_githubs_entries_as_they_stand(mesh: Mesh, elsewhere: str) -> None:
    """Istio's sample: HTTPS by its SNI, Git over SSH by addresses, and nothing else."""
    client = mesh.inside("client")
    with restricted(mesh), applied(mesh, *sample("external/github.yaml")):
        for server, passes in (("github.com", True), ("gist.github.com", False)):
            hello = client.call(sockets.client_hello, server)
            assert client.call(sockets.comes_back, (elsewhere, 443), hello) == passes
        assert client.call(sockets.is_turned_away, (elsewhere, 22))
        assert client.call(sockets.is_turned_away, (elsewhere, 7000))


def test_googles_entries_as_they_stand(mesh: Mesh, authority: Authority) -> None:
    """Istio's sample: plain requests to port 80 leave the pod's node encrypted, for port 443."""
    host = "www.googleapis.com"
    certificate = authority.issue(host)
    encrypted = Encrypted(str(certificate.chain), str(certificate.key))
    mesh.inside("world").call(endpoints.serve, 443, encrypted, name="google")
    [service, *rules] = sample("bookinfo/networking/egress-rule-google-apis.yaml")
    name = rules[0]["metadata"]["name"]
    with (
        restricted(mesh),
        applied(mesh, service),
        in_force(mesh, rules, lambda: not routed(mesh, name), "they are gone"),
    ):
        until(lambda: routed(mesh, name) and dump(mesh)["names"].get(host), what="they hold")
        answer = mesh.inside("client").call(asking.ask, (virtual(mesh, host)[0], 80), host)
        assert (answer.status, answer.facts["sni"], answer.facts["host"]) == (200, host, host)
