"""The named checks: all have a page and a remedy, and each sees its fault and nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.cli.checks import CHECKS
from agent.cli.checks.check import Check, Result, Seen, State, run
from agent.cli.checks.cluster import blocks, gather
from agent.cli.health import Parts
from agent.node import features
from agent.node.features import Feature
from agent.node.report import Report
from agent.node.view import NodeView, PodView, Wanted
from protocols.report import Authority, Certificate, Link, Served
from protocols.report import Report as TunnelReport
from protocols.version import version
from tests.docs import checks as docs

BY_NAME = {check.name: check for check in CHECKS}
FUTURE = 4_000_000_000


def agent(**fields: Any) -> Report:
    return Report(**{"unready": (), "wanted": (), "version": version(), "objects": 3, **fields})


def tunnel(**fields: Any) -> TunnelReport:
    well = {
        "version": version(), "draining": False, "agent": Link(True, True), "pods": Served(1),
        "certificates": [Certificate("a", FUTURE)], "authority": Authority("https://ca"),
    }  # fmt: skip
    return TunnelReport(**{**well, **fields})


def seen(agent_: Any = None, tunnel_: Any = None, **more: Any) -> Seen:
    return Seen(parts=Parts("a", agent_ or agent(), "t", tunnel_ or tunnel()), **more)


def result(name: str, at: Seen) -> Result:
    [found] = run([BY_NAME[name]], at)
    return found


def state(name: str, at: Seen) -> State:
    return result(name, at).state


def test_there_are_seventy_and_each_has_a_name_a_remedy_and_a_place_on_the_page() -> None:
    assert len(CHECKS) == len(BY_NAME) >= 70
    text = docs.PAGE.read_text()
    anchors = {line.removeprefix("### ").replace(".", "") for line in text.splitlines() if line[:4] == "### "}
    for check in CHECKS:
        assert re.fullmatch(r"[a-z]+\.[a-z0-9-]+", check.name) and check.asks and check.remedy
        assert check.page.partition("#")[2] in anchors, check.name
    assert text == docs.page(), "run make docs"


def test_each_feature_of_the_kernel_is_a_check() -> None:
    names = [feature.name for feature in features.listed()]
    assert len([check for check in CHECKS if check.asks.partition(": ")[0] in names]) == len(names)
    absent = Feature("kernel BTF", False, "Linux 5.4", "one object for all")
    assert state("kernel.btf", Seen(features=(absent,))) == "wrong"
    assert "needed for one object" in result("kernel.btf", Seen(features=(absent,))).line
    assert state("kernel.btf", Seen()) == "unknown"


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("agent.ready", seen(agent(unready=("starting",)))),
        ("agent.source", seen(agent(stale=31.0))),
        ("agent.objects", seen(agent(objects=0))),
        ("agent.pods", seen(agent(wanted=(Wanted("a", "n", (), "no netns"),)))),
        ("objects.refused", seen(agent(refused=("x",)))),
        ("objects.partial", seen(agent(partial=("x",)))),
        ("objects.taken", seen(agent(rejected=("x",)))),
        ("tunnel.draining", seen(None, tunnel(draining=True))),
        ("tunnel.pods-known", seen(None, tunnel(agent=Link(False, True)))),
        ("tunnel.configuration", seen(None, tunnel(agent=Link(True, False)))),
        ("tunnel.complete", seen(None, tunnel(agent=Link(True, True, ["x"])))),
        ("tunnel.served", seen(None, tunnel(pods=Served(0, {"a": "no"})))),
        ("tunnel.problems", seen(None, tunnel(problems=["x"]))),
        ("ca.reachable", seen(None, tunnel(authority=Authority("u", "refused")))),
        ("certificates.valid", seen(None, tunnel(certificates=[Certificate("a", 5)]))),
        ("certificates.renewed", seen(None, tunnel(certificates=[Certificate("a", FUTURE, "no")]))),
        ("versions.same", seen(agent(version="0.0.1"))),
    ],
)
def test_each_fault_of_the_parts_is_seen(name: str, at: Seen) -> None:
    assert state(name, at) == BY_NAME[name].failing
    assert state(name, seen()) == "well"


def test_without_parts_nothing_is_known() -> None:
    parts = [check for check in CHECKS if check.name.split(".")[0] in ("agent", "tunnel", "objects", "ca")]
    assert {one.state for one in run(parts, Seen())} == {"unknown"}


def test_each_fault_of_the_capture_is_seen() -> None:
    pod = PodView("a/b", True, (), False, False, False, (), ())
    view = NodeView(
        {"connect4": False}, {}, 0, 0, {"no_tunnel": 3, "map_full": 1}, ["nothing is pinned in x"]
    )
    view.pods = {1: pod}  # type: ignore[dict-item]
    names = [check.name for check in CHECKS if check.name.startswith("capture.")]
    assert {name for name in names if state(name, Seen(view=view)) in ("wrong", "note")} == {*names}
    well = NodeView({"connect4": True}, {}, 1, 1, {"redirected": 3}, [])
    assert {name for name in names if state(name, Seen(view=well)) == "well"} == {*names}


def chain(folder: Path, **files: Any) -> Seen:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.conflist").write_text(text)
    return Seen(cni=(folder, folder))


def types(*names: str) -> dict[str, Any]:
    return {"plugins": [{"type": name} for name in names]}


def test_a_chain_that_is_as_it_should_be(tmp_path: Path) -> None:
    (tmp_path / "warren-cni").touch(0o755)
    (tmp_path / "cni.sock").touch()
    ours = {"type": "warren-cni", "socket": str(tmp_path / "cni.sock")}
    at = chain(tmp_path, a={"plugins": [{"type": "ptp"}, ours]})
    names = [check.name for check in CHECKS if check.name.startswith("cni.")]
    assert {name: state(name, at) for name in names} == dict.fromkeys(names, "well")
    (tmp_path / "cni.sock").unlink()
    assert state("cni.socket", at) == "wrong"


def test_chains_that_are_not(tmp_path: Path) -> None:
    at = chain(tmp_path)
    assert (state("cni.present", at), state("cni.chained", at)) == ("note", "unknown")
    at = chain(tmp_path, a=types("warren-cni", "istio-cni"))
    assert (state("cni.last", at), state("cni.conflict", at)) == ("wrong", "note")
    at = chain(tmp_path, a=types("cilium-cni"))
    assert (state("cni.cilium", at), state("cni.chained", at)) == ("wrong", "note")
    assert state("cni.readable", chain(tmp_path, a="{")) == "wrong"
    assert state("cni.last", Seen(cni=(tmp_path / "none", tmp_path))) == "unknown"


@pytest.mark.parametrize(
    ("name", "path", "bad", "good"),
    [
        ("host.rp-filter", "sys/net/ipv4/conf/all/rp_filter", "1", "2"),
        ("host.nr-open", "sys/fs/nr_open", "1024", "1048576"),
        ("host.backlog", "sys/net/core/somaxconn", "128", "4096"),
        ("host.optmem", "sys/net/core/optmem_max", "4096", "131072"),
        ("host.timestamps", "sys/net/ipv4/tcp_timestamps", "0", "1"),
        ("host.memory", "meminfo", "MemAvailable: 1000 kB", "MemAvailable: 9000000 kB"),
        ("host.cpu-pressure", "pressure/cpu", "some avg10=1 avg60=80.5 x", "some avg10=1 avg60=2.5 x"),
        ("kernel.jit", "sys/net/core/bpf_jit_enable", "0", "1"),
    ],
)
def test_the_host(tmp_path: Path, name: str, path: str, bad: str, good: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    states = [(file.write_text(f"{text}\n"), state(name, Seen(proc=tmp_path)))[1] for text in (bad, good)]
    assert states == [BY_NAME[name].failing, "well"]
    file.unlink()
    assert state(name, Seen(proc=tmp_path)) == "unknown"


def test_ports_that_connections_take(tmp_path: Path) -> None:
    folder = tmp_path / "sys/net/ipv4"
    folder.mkdir(parents=True)
    (folder / "ip_local_reserved_ports").write_text("\n")
    (folder / "ip_local_port_range").write_text("10000 60000")
    assert state("host.local-ports", Seen(proc=tmp_path)) == "note"
    (folder / "ip_local_reserved_ports").write_text("15000-15021\n")
    assert state("host.local-ports", Seen(proc=tmp_path)) == "well"
    (folder / "ip_local_port_range").write_text("32768 60999")
    assert state("host.local-ports", Seen(proc=tmp_path)) == "well"


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": {}, **spec}}


@pytest.mark.parametrize(
    ("spec", "direction"),
    [
        ({}, "Ingress"),
        ({"ingress": [{}]}, ""),
        ({"ingress": [{"ports": [{"port": 80}]}]}, "Ingress"),
        ({"ingress": [{"ports": [{"port": 80}]}, {"ports": [{"port": 15008}]}]}, ""),
        ({"ingress": [{"ports": [{"port": 15000, "endPort": 15010}]}]}, ""),
        ({"ingress": [{"ports": [{"port": 15008, "protocol": "UDP"}]}]}, "Ingress"),
        ({"ingress": [{"ports": [{"port": "http"}]}]}, "Ingress"),
        ({"ingress": [{"ports": [{"protocol": "TCP"}]}]}, ""),
        ({"policyTypes": ["Egress"]}, "Egress"),
        ({"policyTypes": ["Egress"], "egress": [{"to": []}]}, ""),
        ({"ingress": [{}], "egress": [{"ports": [{"port": 443}]}]}, "Egress"),
    ],
)
def test_network_policies_that_block(spec: dict[str, Any], direction: str) -> None:
    assert blocks(policy(**spec)) == direction


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def items(*some: Any) -> dict[str, Any]:
    return {"items": [*some]}


def test_a_cluster_with_faults() -> None:
    info = {"kernelVersion": "4.18.0-5", "operatingSystem": "windows"}
    shop = namespace("shop", **{"istio.io/dataplane-mode": "ambient", "istio-injection": "enabled"})
    lacking = {"numberReady": 1, "desiredNumberScheduled": 2, "readyReplicas": 0, "replicas": 1}
    part = {"metadata": {"name": "other"}, "status": lacking}
    cluster = {
        "nodes": items({"metadata": {"name": "n"}, "status": {"nodeInfo": info}}),
        "namespaces": items(shop), "policies": items(policy()), "daemonsets": items(part),
        "deployments": items(part), "roots": items(), "definitions": items(), "skew": 60.0,
        "version": {"major": "1", "minor": "27+", "gitVersion": "v1.27.1"}, "refused": {"x": "403"},
    }  # fmt: skip
    at = Seen(cluster=cluster)
    failing = {check.name: check.failing for check in CHECKS if check.name.startswith("cluster.")}
    del failing["cluster.in-use"]  # one is
    assert {name: state(name, at) for name in failing} == failing
    assert "shop/p (Ingress)" in result("cluster.network-policies", at).said
    assert state("cluster.in-use", Seen(cluster={"namespaces": items()})) == "note"


def test_what_may_not_be_read_is_left_out() -> None:
    def read(path: str) -> Any:
        if "networkpolicies" in path:
            raise OSError("403 Forbidden")
        return {"items": []}

    found = gather(read, lambda: "Sun, 29 Nov 2026 15:00:00 GMT")
    assert "policies" not in found and found["refused"] == {"policies": "403 Forbidden"}
    assert state("cluster.network-policies", Seen(cluster=found)) == "unknown"


def test_all_of_them_fit_where_nothing_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    main.run(["check", "--before", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in told["checks"]} == {check.name for check in CHECKS if check.before}
    assert not [one for one in told["problems"] if one.startswith(("agent", "tunnel"))]
    main.run(["check", "--list"])
    listed = capsys.readouterr().out
    assert all(check.name in listed for check in CHECKS)


def test_a_check_that_cannot_look_says_why() -> None:
    def probe(_: Seen) -> bool:
        raise OSError("no such file")

    [found] = run([Check("a.b", "", "", probe)], Seen())
    assert (found.state, found.said) == ("unknown", "no such file")
