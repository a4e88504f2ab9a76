"""The page and the plot."""

from pathlib import Path

import pytest

from bench.plot import plot
from bench.report import GROUPS, Page, markdown
from bench.results import Cell, Failure, Record, key, summarise
from bench.targets import COMPARISONS
from bench.workloads import workloads

VERSIONS = {"wrk": "4.1", "none": ""}
ENVIRONMENT = {"time": "now", "cpus": 2, "cpu": "C", "kernel": "6.18", "rounds": 2, "versions": VERSIONS}
RECORDS = [
    Record(Cell("warren", "round_trip", False, 0), {"p50": 30.0}),
    Record(Cell("warren", "round_trip", False, 1), {"p50": 50.0}, attempts=3, noisy=True),
    Record(Cell("envoy", "round_trip", False, 0), {"p50": 100.0}),
    Record(Cell("envoy", "fresh"), {"memory_mb": 68.66}),
]


def test_the_page_shows_medians_ratios_targets_and_failures() -> None:
    failures = [Failure(Cell("envoy", "http", True, 1), "wrk: Socket errors")]
    text = markdown(Page(ENVIRONMENT, ("warren", "envoy"), RECORDS, failures))
    assert "| p50, us | 40 (30..50) | 100 |" in text
    assert "| p50, us | 0.40 | 1.00 |" in text
    assert "| fresh and idle, MB | - | 68.7 |" in text
    assert "| round trip p50 | at most 0.5x | 0.40x | reached |" in text
    assert "| one stream, throughput | at least 1.5x | not measured | **not reached** |" in text
    assert "- envoy, http on one CPU, round 2: wrk: Socket errors" in text
    assert "4 measurements, 2 attempts repeated" in text


def test_without_the_reference_there_are_no_ratios() -> None:
    text = markdown(Page(ENVIRONMENT, ("warren",), RECORDS[:1], []))
    assert "Ratios" not in text
    assert "Targets" not in text
    assert "Failed" not in text


def test_every_target_is_in_the_table_and_every_workload_too() -> None:
    shown = {row.figure for rows in GROUPS.values() for row in rows}
    assert {target.figure for one in COMPARISONS for target in one.targets} <= shown
    for workload in workloads(quick=False):
        for one_cpu in (False, True):
            assert key(workload.name, "proxies_cpu", one_cpu) in shown
            assert key(workload.name, "all_cpu", one_cpu) in shown


def test_the_plot_is_a_picture_also_of_few_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="installed by `make bench`")
    file = tmp_path / "results.png"
    plot(file, "title", ("warren", "envoy"), summarise(RECORDS))
    assert file.read_bytes().startswith(b"\x89PNG")
