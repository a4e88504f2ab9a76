"""The soak itself: what it takes for growth, and that it runs."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.soak.__main__ import verdicts
from tests.soak.samples import Sample, latencies, trends

MINUTES_20 = range(0, 1200, 5)


def grown(name: str, an_hour: float, noise: float = 0.0) -> bool:
    random = Random(4)
    samples = [
        Sample(at, {name: 50_000 + an_hour * at / 3600 + random.gauss(0, noise or 1e-6)}) for at in MINUTES_20
    ]
    [trend] = trends(samples)
    return trend.grows


def test_growth_is_told_from_noise() -> None:
    assert grown("memory node1 agent", 2000)
    assert not grown("memory node1 agent", 800)
    assert not grown("memory node1 agent", 0, noise=500)
    assert grown("memory node1 agent", 20_000, noise=500)
    assert grown("descriptors node1 tunnel", 30, noise=2)
    assert not grown("descriptors node1 tunnel", 0, noise=2)


def test_what_grew_before_the_warm_up_was_over_does_not_count() -> None:
    samples = [Sample(at, {"memory": float(min(at, 300))}) for at in MINUTES_20]
    assert [trend.slope for trend in trends(samples)] == [0.0]


def test_a_machine_that_becomes_busy_is_no_growth_of_the_meshs_latency() -> None:
    def slower(plain: float, meshed: float) -> list[bool]:
        """Calls that take so many times as long at the end."""
        samples = []
        for at in MINUTES_20:
            by = at / MINUTES_20[-1]
            took = {"plain": [0.001 * (1 + by * plain)] * 100, "near": [0.004 * (1 + by * meshed)] * 100}
            samples.append(Sample(at, latencies(took)))
        return [trend.grows for trend in trends(samples)]

    assert slower(plain=20, meshed=20) == [False]
    assert slower(plain=0, meshed=20) == [True]


def test_a_verdict_has_a_line_for_each_thing_that_is_wrong() -> None:
    assert verdicts([], {}, []) == []
    found = trends([Sample(at, {"map node1 pods": float(at)}) for at in MINUTES_20])
    assert verdicts(found, {"namespaces": 2.0}, ["refused"]) == [
        "map node1 pods grows by 3600 ± 0 entries an hour",
        "namespaces: 2 more are left than there were",
        "1 calls failed: refused",
    ]


def test_it_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--hours", str(1 / 3600), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    result = json.loads((tmp_path / "soak.json").read_text())
    assert (result["errors"], result["left"]) == ([], {}), done.stdout + done.stderr
    figures = ("memory node1 tunnel", "plain latency", "latency near", "latency far")
    assert all(result["samples"][0][name] > 0 for name in figures)
