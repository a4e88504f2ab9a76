"""The commands for whoever is on call, on one lab: all is well, each fault, tunnel or agent down."""

import json
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.cli.bug_report import clean
from agent.cli.main import COMMANDS as COMMANDS_OF_ALL
from agent.lab import Lab
from agent.lab.members import Pod
from agent.model.schema.objects import Key
from tests.docs import pages
from tests.support import sockets
from tests.support.command import WIDTH, Here
from tests.support.resident import Resident
from tests.support.wait import until

Manifest = dict[str, Any]
OF_WEB = {"matchLabels": {"app": "web"}}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(name=f"wt-cmd-{os.getpid()}") as lab:
        yield lab


@pytest.fixture(scope="module")
def here(lab: Lab) -> Here:
    return Here(lab, "node1")


def on_node1(lab: Lab, deployment: str) -> Pod:
    return next(pod for pod in lab.pods if pod.deployment == deployment and pod.node == "node1")


@contextmanager
def load(pod: Pod, url: str) -> Iterator[None]:
    """Requests, one after the other."""
    process = pod.popen(["sh", "-c", f"while true; do curl -s -m 3 -o /dev/null {url}; done"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def in_force(lab: Lab, *manifests: Manifest) -> Iterator[None]:
    lab.cluster.put(manifests)
    try:
        yield
    finally:
        for one in manifests:
            lab.cluster.delete(Key(one["kind"], "default", one["metadata"]["name"]))


def manifest(kind: str, name: str, group: str = "security.istio.io/v1", **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec}


def test_pods_are_listed_with_why_some_are_not_in_the_mesh(lab: Lab, here: Here) -> None:
    rows = {row["name"]: row for row in here.json("pods")}
    client, outside = on_node1(lab, "client"), on_node1(lab, "outside")
    assert rows[client.name]["captured"] and rows[client.name]["certificate"]
    assert rows[client.name]["identity"] == client.identity
    assert rows[client.name]["addresses"] == [str(client.ipv4), str(client.ipv6)]
    assert rows[outside.name]["captured"] is False
    assert "istio.io/dataplane-mode=none" in rows[outside.name]["reason"]
    assert rows.keys() == {pod.name for pod in lab.pods if pod.node == "node1"}


COMMANDS = [
    ("pods", "CAPTURED"),
    ("workloads", "HBONE"),
    ("services", "2/2"),
    ("policies", "no policies"),
    ("certs", "valid"),
    ("certs sa/client", "issued by"),
    ("connections", "open"),
    ("why client web", "port 80: allowed"),
    ("top --once --interval 0.1", ""),
    ("cost --for 0.1", "tunnel"),
    ("config dump", "captured"),
    ("config diff", "have the same"),
    ("log level", "info"),
    ("status", "2 of 2 captured"),
]


@pytest.mark.parametrize(("line", "words"), COMMANDS)
def test_all_is_well_in_80_columns_json_and_yaml(here: Here, line: str, words: str) -> None:
    said = here(*line.split(), check=0)
    assert words in said.text and not said.err
    assert max(map(len, said.out.splitlines()), default=0) <= WIDTH, said.out
    assert yaml.safe_load(here(*line.split(), "-o", "yaml", check=0).out) is not None
    assert here.json(*line.split()) is not None


def test_a_connection_is_shown_at_both_ends(lab: Lab, here: Here) -> None:
    client, web = on_node1(lab, "client"), on_node1(lab, "web")
    far = next(pod for pod in lab.pods if pod.deployment == "web" and pod.node == "node2")
    inside = Resident(client.cgroup, client.netns)
    try:
        numbers = [inside.call(sockets.connect, (str(pod.ipv4), 8080)) for pod in (web, far)]

        def shown() -> dict[str, Any]:
            return {one["dst.workload"]: one for one in here.json("connections", "client")}

        until(lambda: len(shown()) == 2, what="both are open")
        found = shown()
        assert found[far.name]["path"] == "tunnel" and found[far.name]["rtt_us"] > 0
        assert found[far.name]["dst.identity"] == far.identity
        assert found[web.name]["path"] in ("tunnel", "direct")
        text = here("connections", check=0).out
        assert f"default/{far.name}"[:12] in text and "tunnel" in text
        for number in numbers:
            inside.call(sockets.forget, number)
    finally:
        inside.close()


UNKNOWN = {"key": "source.tomorrow", "values": ["x"]}


def test_flows_are_kept_and_filtered(lab: Lab, here: Here) -> None:
    client, web = on_node1(lab, "client"), on_node1(lab, "web")
    argv = ["curl", "-s", "-m", "3", "-o", "/dev/null", f"http://{web.ipv4}:8080/"]
    policy = manifest("AuthorizationPolicy", "nobody", action="DENY", selector=OF_WEB, rules=[{}])
    client.run(argv)
    here.says(0, " ok ", "flows", "--verdict", "ok", "--pod", client.name, "--direction", "outbound")
    with in_force(lab, policy):
        until(lambda: client.run(argv, check=False).returncode, what="the policy is in force")
        said = here.says(0, "refused: explicitly denied", "flows", "--since", "1m", "--verdict", "refused")
        assert f"default/{client.name} -> " in said.out and " ok " not in said.out
        assert " <- " in said.out, "the other end is a pod of this node, too"
    assert " refused" not in here("flows", "--not", "verdict=refused", check=0).out
    assert not here("flows", "--port", "1", check=0).out
    assert "is not NAME=VALUE" in here("flows", "--not", "verdict", check=2).err
    for line in here("flows", "--last", "2", "-o", "json", check=0).out.splitlines():
        assert json.loads(line)["src.addr"]
    here.says(0, "port 80: allowed", "why", "client", "web")


def test_flows_are_followed(lab: Lab, here: Here, tmp_path: Path) -> None:
    client, web = on_node1(lab, "client"), on_node1(lab, "web")
    argv = ["curl", "-s", "-m", "3", "-o", "/dev/null", f"http://{web.ipv4}:8080/"]
    said = tmp_path / "said"
    with here.follow(said, "flows", "--follow", "--last", "0", "--pod", web.name) as process:

        def told() -> bool:
            client.run(argv)
            assert process.poll() is None, said.read_text()
            return " ok " in said.read_text()

        until(told, what="a line")


def test_top_counts_by_service_workload_and_connection(lab: Lab, here: Here) -> None:
    client = on_node1(lab, "client")
    with load(client, "http://web/"):
        for by, name in (("service", "web.default"), ("workload", client.name), ("connection", client.name)):
            rows = here.json("top", "--by", by, "--interval", "1")
            busy = next(row for row in rows if name in row["name"])
            assert busy["connections"] > 0 and busy["received"] > 0, rows
        assert "CONN/S" in here("top", "--once", "--interval", "0.2", check=0).text


def test_costs_are_those_of_tunnel_agent_kernel_and_pods(lab: Lab, here: Here) -> None:
    client = on_node1(lab, "client")
    far = next(pod for pod in lab.pods if pod.deployment == "web" and pod.node == "node2")
    with load(client, f"http://{far.ipv4}:8080/"):
        costs = here.json("cost", "--for", "1")
    parts, pods = ({one["name"]: one for one in costs[kind]} for kind in ("parts", "pods"))
    assert 0 < parts["tunnel"]["cpu"] < 2 and 0 <= parts["agent"]["cpu"] < 1
    for program in ("connect4", "tcp_event"):
        run = parts[f"kernel: {program}"]
        assert run["runs"] > 0 and 0 < run["seconds"] < 1e-3 and run["cpu"] > 0, run
    busy = pods[f"default/{client.name}"]
    assert busy["connections"] > 0 and busy["sent"] > 0
    assert 0 < busy["cpu"] < parts["tunnel"]["cpu"] * (1 + 1e-9)  # of one that causes all of it, rounded
    assert sum(pod["cpu"] for pod in pods.values()) == pytest.approx(parts["tunnel"]["cpu"])


def test_the_map_shows_who_talks_to_whom_and_what_is_denied(lab: Lab, here: Here) -> None:
    client = on_node1(lab, "client")
    link = here("dashboard", check=0).out.strip()

    def edge() -> dict[str, Any]:
        graph = json.loads(here.node.run(["curl", "-sf", f"{link}graph?window=10"]).stdout)
        assert not graph["problems"], graph
        ends = {"source": "workload/default/client", "destination": "workload/default/web"}
        return next((one for one in graph["edges"] if ends.items() <= one.items()), {})

    with load(client, "http://web/"):
        found = until(lambda: one if (one := edge()).get("paths") else {}, what="an edge")
        assert found["lock"] in ("mtls", "direct", "mixed") and found["p99"] > 0 and not found["denied"]
        policy = manifest("AuthorizationPolicy", "nobody", action="DENY", selector=OF_WEB, rules=[{}])
        with in_force(lab, policy):
            found = until(lambda: one if (one := edge()).get("denied") else {}, what="a denial is shown")
            assert any("default/nobody" in reason for reason in found["reasons"]), found["reasons"]
    here.says(0, "port 80: allowed", "why", "client", "web")


def test_stations_agree_and_a_difference_is_found(lab: Lab, here: Here) -> None:
    here.says(0, "have the same", "config", "diff")
    stations = here.json("config", "dump")
    assert stations["agent"]["objects"]["Pod"] == len(lab.pods)
    served, held = stations["agent"]["resources"], stations["tunnel"]["versions"]
    assert {url: names for url, names in served.items() if names} == {
        url: names for url, names in held.items() if names
    }
    assert stations["kernel"]["problems"] == []
    assert "source" in here("config", "dump", check=0).text
    broken = manifest("AuthorizationPolicy", "broken", rules=[{"when": [UNKNOWN]}])
    with in_force(lab, broken):
        here.says(1, "AuthorizationPolicy", "config", "diff")
    here.says(0, "have the same", "config", "diff")


def test_log_levels_change_at_run_time(here: Here) -> None:
    def levels() -> dict[str, tuple[str, str]]:
        return {row["part"]: (row["level"], row["access_log"]) for row in here.json("log", "level")}

    assert levels() == {"agent": ("info", ""), "tunnel": ("info", "all")}
    here("log", "level", "debug", "--part", "tunnel", "--access-log", "errors", check=0)
    assert levels() == {"agent": ("info", ""), "tunnel": ("debug", "errors")}
    here("log", "level", "info", "--access-log", "all", check=0)
    assert levels() == {"agent": ("info", ""), "tunnel": ("info", "all")}


def test_a_report_holds_all_and_no_secret(lab: Lab, here: Here, tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"
    assert f"wrote {path}" in here("bug-report", "--file", str(path), check=0).out
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        texts = {
            member.name.partition("/")[2]: file.read().decode()
            for member in archive.getmembers()
            if (file := archive.extractfile(member))
        }
    assert json.loads(texts["tunnel/config_dump.json"])["workloads"]
    assert json.loads(texts["agent/pods.json"])
    assert "warren_" in texts["agent/metrics.txt"] and "istio_tcp" in texts["tunnel/metrics.txt"]
    secrets = {
        line
        for file in lab.state.run.rglob("*")
        if "bpf" not in file.parts and file.is_file() and file.stat().st_size < 100_000
        for content in [file.read_bytes()]
        if b"PRIVATE KEY" in content or "token" in file.name
        for line in content.decode(errors="replace").splitlines()
        if len(line) > 30 and "-----" not in line
    }
    assert secrets, "the lab has keys and tokens"
    whole = "".join(texts.values())
    assert not [secret for secret in secrets if secret in whole]
    assert clean("a eyJhbGciOiJSUzI1.eyJpc3MiOiJr.c2ln b") == "a (left out: secret) b"
    assert clean('{"path": "/a?token=b"}') == '{"path": "/a?..."}'


def test_analysis_of_what_is_in_force_and_of_files_beside_it(lab: Lab, here: Here, tmp_path: Path) -> None:
    broken = manifest("AuthorizationPolicy", "broken", rules=[{"when": [UNKNOWN]}])
    with in_force(lab, broken):
        here.says(1, "IST0106", "analyze", "--live")
    here.says(0, "", "analyze", "--live")
    route = {"route": [{"destination": {"host": "web", "subset": "v9"}}]}
    new = manifest("VirtualService", "web", "networking.istio.io/v1", hosts=["web"], http=[route])
    path = tmp_path / "new.yaml"
    path.write_text(yaml.safe_dump(new))
    [found] = here.json("analyze", "--live", str(path))
    assert (found["code"], found["place"]) == ("IST0101", str(path)) and "no subset v9" in found["text"]
    assert {one["code"] for one in here.json("analyze", str(path))} == {"IST0101"}
    assert "name files or folders" in here("analyze", check=2).err


def test_a_capture_has_both_sides_with_identities(lab: Lab, here: Here, tmp_path: Path) -> None:
    client = on_node1(lab, "client")
    web = next(pod for pod in lab.pods if pod.node == "node2" and pod.deployment == "web")
    path = tmp_path / "client.pcapng"
    plain, tunnelled = b"GET / HTTP/1.1", f"mutual TLS (HBONE), {client.identity} -> {web.identity}".encode()

    def captured() -> bool:
        said = here("capture", "client", "--for", "1", "-w", str(path), check=0)
        assert f"packets to {path}" in said.out
        return plain in (data := path.read_bytes()) and tunnelled in data

    with load(client, f"http://{web.ipv4}:8080/"):
        until(captured, what="a second in which a whole request is seen")
    assert "is no captured pod" in here("capture", "nobody", check=2).err


def test_a_trace_shows_a_pods_connections(lab: Lab, here: Here) -> None:
    client = on_node1(lab, "client")

    def traced() -> bool:
        said = here("trace", "client", "--for", "1", check=0)
        assert f"tracing default/{client.name}" in " ".join(said.err.split())
        return "CLOSE -> SYN_SENT curl[" in said.out

    with load(client, f"http://{on_node1(lab, 'web').ipv4}:8080/"):
        until(traced, what="a second in which a connection is begun")


STABLE = ("status", "why client web", "pods", "workloads", "services", "certs", "config dump", "config diff")


@pytest.mark.parametrize("line", STABLE)
def test_the_page_shows_what_is_printed(lab: Lab, line: str, tmp_path: Path) -> None:
    written = dict(reversed([*pages.shown(pages.PAGE.read_text())]))
    said = pages.run(lab, line, tmp_path)
    assert pages.shape(written[line]) == pages.shape(said.stdout), "run make docs"


def test_the_page_has_every_command_and_nothing_else() -> None:
    text = pages.PAGE.read_text()
    sections = re.findall(r"^## `warren (\S+)`$", text, re.MULTILINE)
    assert sections == [*pages.SHOWN]
    assert {*COMMANDS_OF_ALL} == {*sections}


@pytest.mark.parametrize("command", pages.BY_OPTIONS)
def test_the_page_has_every_option_of_what_runs(lab: Lab, command: str, tmp_path: Path) -> None:
    written = dict(pages.shown(pages.PAGE.read_text()))[f"{command} --help"]
    said = pages.run(lab, f"{command} --help", tmp_path).stdout
    words = [re.findall(r"^  (\S+)", text, re.MULTILINE) for text in (written, said)]
    assert words[0] == words[1], "run make docs"


def test_what_is_asked_wrongly_is_answered_with_what_to_ask(here: Here) -> None:
    assert "pods are default/client" in here("why", "nobody", "web", check=2).err
    assert "HOST[:PORT]" in here("why", "client", "http://web", check=2).err
    assert "example.com:PORT" in here("why", "client", "example.com", check=2).err
    far = next(pod for pod in here.lab.pods if pod.node == "node2")
    assert "runs on node2: ask there" in here("why", far.name, "web", check=2).err


def test_trying_times_each_phase_and_names_the_one_that_fails(lab: Lab, here: Here) -> None:
    said = here.json("why", "client", "web:80", "--try", "--path", "/hello")
    assert [phase["name"] for phase in said["tried"]["phases"]] == ["dns", "connect", "first byte"]
    assert all(phase["milliseconds"] >= 0 and not phase["error"] for phase in said["tried"]["phases"])
    assert here("why", "client", "web", "--try", check=0)
    assert "dns" in here("why", "client", "nobody.invalid:80", "--try", check=1).text
    policy = manifest("AuthorizationPolicy", "nobody", action="DENY", selector=OF_WEB, rules=[{}])
    with in_force(lab, policy):
        here.says(1, "denied by", "why", "client", "web")
        failed = here("why", "client", "web", "--try", check=1)
        assert "tried: failed at" in failed.text
        assert "the tunnel says: " in failed.text and "policy" in failed.text.partition("the tunnel says")[2]
    here.says(0, "port 80: allowed", "why", "client", "web")


def test_with_the_agent_down_it_is_said_what_is_not_known(lab: Lab, here: Here) -> None:
    lab.node("node1").stop("agent")
    try:
        said = here("pods", check=2)
        assert "no agent answers" in said.err and on_node1(lab, "client").name[:10] in said.out
        said = here("why", "client", "web", check=0)
        assert "whether the pod is captured is not known" in " ".join(said.err.split())
        assert here("workloads", check=0).out
        said = here("cost", "--for", "0.1", check=2)
        assert "no agent answers" in said.err and "CPU times are not known" in said.out
    finally:
        lab.node("node1").start("agent")


def test_with_the_tunnel_down_it_is_said_what_is_not_known(lab: Lab, here: Here) -> None:
    lab.node("node1").stop("tunnel")
    try:
        said = here("pods", check=2)
        assert "no tunnel answers" in said.err and on_node1(lab, "client").name[:10] in said.out
        for line in ("workloads", "services", "policies", "certs", "connections", "why client web"):
            failed = here(*line.split(), check=2)
            assert "no tunnel answers" in failed.err and not failed.out
        said = here("cost", "--for", "0.1", check=2)
        assert "no tunnel answers" in said.err and "agent" in said.out
    finally:
        lab.node("node1").start("tunnel")
    here.says(0, "port 80: allowed", "why", "client", "web")
