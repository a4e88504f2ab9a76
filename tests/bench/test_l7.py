"""The benchmark of routed requests: its Envoys take their configuration, its clients' outputs are read."""

import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from agent.ca.directory import open_root
from bench.certificates import issue
from bench.errors import BenchError
from bench.l7.__main__ import choose
from bench.l7.envoy import near_side
from bench.l7.report import markdown
from bench.l7.route import PORTS, VERSIONS, objects
from bench.l7.waypoint import terminating
from bench.l7.workloads import read_curl, read_h2load, read_small
from bench.results import Cell, Record, summarise
from bench.tools import find_envoy


def test_envoy_accepts_the_routing_side(tmp_path: Path) -> None:
    near, far = issue(tmp_path, ["client", "server"], "bench")
    targets = {(version, port): "10.0.0.1" for version in VERSIONS for port in PORTS}
    reach = {port: ("127.0.0.1", 16001 + i) for i, port in enumerate(PORTS)}
    file = tmp_path / "near.json"
    file.write_text(json.dumps(near_side(near, far.spiffe, "10.0.0.1", targets, reach)))
    command = [str(find_envoy()), "--mode", "validate", "-c", str(file), "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_envoy_accepts_the_waypoint(tmp_path: Path) -> None:
    me, web = issue(tmp_path, ["waypoint", "web"], "bench")
    targets = dict.fromkeys(VERSIONS, ("10.0.0.1", web.spiffe))
    file = tmp_path / "waypoint.json"
    file.write_text(json.dumps(terminating(me, web.spiffe, "10.0.0.2", "10.96.0.1", targets)))
    command = [str(find_envoy()), "--mode", "validate", "-c", str(file), "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_waypoint_has_a_certificate_of_the_labs_authority(tmp_path: Path) -> None:
    open_root(tmp_path / "ca", "cluster.local")
    (me,) = issue(tmp_path, ["waypoint"], "bench", tmp_path / "ca")
    leaf, root = (x509.load_pem_x509_certificate(file.read_bytes()) for file in (me.chain, me.roots))
    leaf.verify_directly_issued_by(root)


def test_paths_need_what_they_go_through() -> None:
    assert "ambient" not in choose("all", None)
    assert "ambient" in choose("all", Path("/z"))
    with pytest.raises(BenchError, match="--ztunnel"):
        choose("warren,ambient", None)
    with pytest.raises(BenchError, match="none of"):
        choose("warrens", None)


def test_as_many_rules_as_asked_for() -> None:
    (_, _, virtual_service) = objects("a", "b", rules=1000)
    assert len(virtual_service["spec"]["http"]) == 1000


H2LOAD = """finished in 2.00s, 1500.50 req/s, 44.2KB/s
requests: 3001 total, 3001 started, 3001 done, {good} succeeded, {bad} failed, {bad} errored, 0 timeout
"""


def test_h2load_is_read_with_its_log() -> None:
    log = "".join(f"1700000000\t200\t{number}\n" for number in range(100, 0, -1))
    values, units = read_h2load(H2LOAD.format(good=3001, bad=0), log)
    assert values == {"per_second": 1500.5, "p50": 51.0, "p99": 100.0}
    assert units == 3.001


def test_requests_that_failed_are_no_figure() -> None:
    with pytest.raises(BenchError, match="h2load"):
        read_h2load(H2LOAD.format(good=3000, bad=1), "1\t200\t5\n")


def test_downloads_count_in_bits_and_gigabytes() -> None:
    values, units = read_curl("100000000 0.5\n100000000 0.3\n")
    assert values["gbps"] == pytest.approx(2.0)
    assert units == pytest.approx(0.2)


def test_a_unit_of_small_requests_is_a_thousand() -> None:
    text = "  50%  1.00ms\n  99%  2.00ms\n  5000 requests in 1.00s, 1MB read\nRequests/sec:   5000.00\n"
    assert read_small(text) == ({"per_second": 5000.0, "p50": 1000.0, "p99": 2000.0}, 5.0)


def test_the_page_says_which_bounds_hold() -> None:
    rates = {"warren": 3000.0, "envoy": 1000.0}
    records = [Record(Cell(path, "http1"), {"per_second": rate}) for path, rate in rates.items()]
    page = markdown(summarise(records))
    assert "| warren | http1.per_second | envoy | at least 2x | 3.00x | reached |" in page
    assert "| warren | http1.p99 | envoy | at most 0.6x | not measured | **not reached** |" in page
