"""The table beside its targets."""

import json
from pathlib import Path

from bench.scale import report

GOOD = {row.figure: 0.0 for row in report.ROWS} | {"agent_cpu": 0.1, "tunnel_cpu": 0.1}


def lines(text: str, figure: str) -> str:
    name = next(row.text for row in report.ROWS if row.figure == figure)
    return next(line for line in text.splitlines() if f"| {name} |" in line)


def test_medians_and_what_was_reached(tmp_path: Path) -> None:
    rounds = [GOOD | {"synced_s": seconds} for seconds in (9.0, 30.0, 16.0)]
    report.write(tmp_path, {"CPUs": 2}, rounds)
    table = (tmp_path / "results.md").read_text()
    assert "16.0 | 9.0 | 30.0 | 15 | **missed** |" in lines(table, "synced_s")
    assert "20.0 | 20.0 | 20.0 | 30 | reached |" in lines(table, "cpu"), "of both, in percent of one core"
    assert lines(table, "agent_peak_mb").endswith("|  |  |")
    everything = json.loads((tmp_path / "results.json").read_text())
    assert [one["synced_s"] for one in everything["rounds"]] == [9.0, 30.0, 16.0]
