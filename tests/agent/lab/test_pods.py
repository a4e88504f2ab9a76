"""What a process in a pod finds around it: names, addresses, files, the stand-in servers, and `exec`."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.lab import Lab, Pod, addresses, kernel, topology
from agent.lab.topology import pod_link_name
from tests.support.wait import until


def ask(client: Pod, url: str, *options: str) -> Any:
    return json.loads(client.run(["curl", "-sSfg", "-m", "5", *options, url]).stdout)


def resolve(pod: Pod, name: str) -> set[str]:
    """The addresses that a name has in a pod; none when it does not resolve."""
    lines = pod.run(["getent", "ahosts", name], check=False).stdout.splitlines()
    return {line.split()[0] for line in lines}


def test_names_resolve_as_in_a_cluster(plain: Lab) -> None:
    client = plain.pod("client")
    number = addresses.service_number("default", "web", ())
    expected = {str(addresses.SERVICES_V4[number]), str(addresses.SERVICES_V6[number])}
    full = "web.default.svc.cluster.local"
    for name in ("web", "web.default", "web.default.svc", full, f"{full}."):
        assert resolve(client, name) == expected, name
    for name in ("nope", "web.other", "example.com"):
        assert resolve(client, name) == set(), name
    assert resolve(client, client.name) == {str(client.ipv4), str(client.ipv6)}


def test_headless_external_and_stateful_names(name: str, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("""
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: other}
spec: {type: ExternalName, externalName: db.default.svc.cluster.local}
---
apiVersion: v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}
""")
    with Lab.up([tmp_path], name=name, meshed=False) as lab:
        both = [{str(lab.pod(pod).ipv4), str(lab.pod(pod).ipv6)} for pod in ("db-0", "db-1")]
        client = lab.pod("db-1")
        assert resolve(client, "db") == both[0] | both[1]
        assert resolve(client, "db-0.db") == both[0]
        assert resolve(client, "alias.other") == both[0] | both[1]
        lab.delete(lab.pod("db-0"))
        until(lambda: resolve(client, "db") == both[1])


@pytest.mark.parametrize("family", [4, 6])
def test_stand_in_tells_what_it_received(plain: Lab, family: int) -> None:
    client = plain.pod("client")
    for web in plain.pods_of("deploy/web"):
        own, peer = (web.ipv4, client.ipv4) if family == 4 else (f"[{web.ipv6}]", f"[{client.ipv6}]")
        answer = ask(client, f"http://{own}:8080/a?b=c", "--data", "x" * 1000, "--header", "X-Colour: green")
        assert (answer["pod"], answer["namespace"], answer["node"]) == (web.name, "default", web.node)
        assert answer["labels"] == web.labels
        request = answer["request"]
        assert request["line"] == "POST /a?b=c HTTP/1.1"
        assert request["headers"]["x-colour"] == "green"
        assert request["body_bytes"] == 1000
        assert request["from"].rpartition(":")[0] == str(peer)
        assert request["to"] == f"{own}:8080"


def connect(pod: Pod, port: int = 8080) -> socket.socket:
    """A connection from the pod's own network to itself."""
    address = str(pod.ipv4)
    return kernel.in_netns(pod.netns, lambda: socket.create_connection((address, port), timeout=5))


def test_stand_in_keeps_a_connection_and_reads_chunks(plain: Lab) -> None:
    with connect(plain.pod("deploy/web")) as sock, sock.makefile("rb") as replies:
        sock.sendall(
            b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
            b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nt: v\r\n\r\n"
            b"HEAD / HTTP/1.1\r\n\r\n"
            b"GET / HTTP/1.0\r\n\r\n"
        )
        text = replies.read().decode()
    assert text.count("HTTP/1.1 200 OK") == 3
    assert '"body_bytes": 6' in text
    assert text.count('"line"') == 2


@pytest.mark.parametrize("first", [b"\0binary\n", b"GETTING ", b"P"])
def test_stand_in_echoes_what_is_not_http(plain: Lab, first: bytes) -> None:
    with connect(plain.pod("deploy/web")) as sock, sock.makefile("rb") as replies:
        if first != b"P":  # alone it may still become a POST
            sock.sendall(first)
            assert replies.read(len(first)) == first
            first = b""
        sock.sendall(first + b"x" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        assert replies.read() == first + b"x" * 100_000


def test_stand_in_survives_nonsense(plain: Lab) -> None:
    pod = plain.pod("deploy/web")
    with connect(pod) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n")
        assert sock.recv(1) == b""
    with connect(pod) as sock:
        sock.sendall(b"GET /")
    with connect(pod) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_pod_has_its_own_files_and_name(plain: Lab) -> None:
    pod = plain.pod("client")
    before = Path("/etc/resolv.conf").read_text(), socket.gethostname()
    script = "hostname; cat /etc/resolv.conf; cat /etc/hostname; cat /proc/self/cgroup"
    lines = pod.run(["sh", "-c", script]).stdout.splitlines()
    assert lines[0] == pod.name
    assert lines[1:4] == [
        "search default.svc.cluster.local svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]
    assert lines[4] == pod.name
    assert lines[-1].endswith(f"/{plain.state.cgroup.name}/{pod.node}/pods/{pod.cgroup.name}")
    assert (Path("/etc/resolv.conf").read_text(), socket.gethostname()) == before


def test_command_and_environment(name: str, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("""
apiVersion: v1
kind: Deployment
metadata: {name: own}
spec:
  template:
    metadata: {annotations: {warren.dev/command: "echo $COLOUR $HOSTNAME; exec sleep 1000"}}
    spec:
      containers:
      - {name: c, env: [{name: COLOUR, value: green}, {name: X, valueFrom: {}}], ports: [{containerPort: 1}]}
""")
    with Lab.up([tmp_path], name=name, meshed=False, nodes=1) as lab:
        pod = lab.pod("own")
        until(lambda: pod.log.read_text() == f"green {pod.name}\n")
        assert [Path(f"/proc/{pid}/comm").read_text() for pid in pod.pids()] == ["sleep\n"]


def test_every_route_is_cubic(plain: Lab) -> None:
    for place in (*plain.pods, *plain.nodes):
        for family in ("-4", "-6"):
            routes = subprocess.run(
                ["ip", "-n", place.netns.name, family, "route", "show", "table", "all"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()
            unused = ("broadcast", "multicast", "anycast", "local fe80:", "fe80:")
            used = [line for line in routes if not line.startswith(unused)]
            assert [line for line in used if "congctl cubic" not in line] == []
            assert len(used) > 2


def test_a_route_that_is_put_back_meanwhile_is_no_trouble(plain: Lab, tmp_path: Path) -> None:
    """An agent does so with what is taken away from it."""
    pod, batch, route = plain.pod("client"), tmp_path / "batch", ["10.99.0.0/24", "dev", "eth0"]
    batch.write_text(f"route replace {' '.join(route)}\n" * 5000)
    with subprocess.Popen(["ip", "-n", pod.netns.name, "-batch", str(batch)]) as putting:
        while putting.poll() is None:
            topology.use_cubic(pod.netns.name)
    assert putting.returncode == 0
    pod.run(["ip", "route", "del", *route])


def test_links_are_named_after_what_is_behind(plain: Lab) -> None:
    one, other = plain.nodes
    links = one.run(["ip", "-o", "link"]).stdout
    assert f" {one.link_to(other)}@" in links
    assert all(f" {pod_link_name(pod.place)}@" in links for pod in plain.pods if pod.node == one.name)
