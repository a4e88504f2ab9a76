"""What counts as broken, and what as counted."""

import re
from dataclasses import replace

import pytest

from bench.hostile.attack import Outcome, reasons
from bench.hostile.bounds import broken, refused, told
from bench.hostile.report import markdown

CALM = Outcome(
    names=("ping",),
    seconds=5.0,
    sent_mb=500.0,
    peer_cpu=2.0,
    tunnel_cpu=3.0,
    memory=(40.0, 104.0, 41.0),
    pings={"count": 100, "p50": 0.4, "p99": 9.9, "max": 60.0},
    echoes_in={"count": 100, "p50": 0.6, "p99": 20.0, "max": 60.0},
    echoes_out={"count": 100, "p50": 0.6, "p99": 20.0, "max": 60.0},
    failures=(),
    seen={"ping": {"pings answered": 10**6, "status 200": 5, "status 503": 90, "end goaway 11": 10}},
    counted={"warren_connections_refused{destination,no_endpoint}": 98},
)


def test_bounds_hold_up_to_their_values() -> None:
    assert broken(CALM) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"pings": {"p50": 0.4, "p99": 10.0, "max": 12.0}}, "PING p99 10.0 ms"),
        ({"memory": (40.0, 105.0, 40.0)}, r"memory \+65 MB"),
        ({"counted": {"warren_connections_refused{destination,no_endpoint}": 97}}, "100 refusals.* have 97"),
        ({"failures": ("no answer",)}, "no answer"),
    ],
)
def test_each_bound_can_break(change: dict[str, object], line: str) -> None:
    outcome = replace(CALM, **change)  # type: ignore[arg-type]
    (what,) = broken(outcome)
    assert re.search(line, what)
    assert f"- BROKEN: {what}" in markdown([outcome])


def test_what_the_peer_did_itself_is_no_refusal() -> None:
    assert refused({"a": {"end goaway 0": 3, "end stalled": 2, "done": 1, "status 200": 7}}) == 0
    assert refused({"a": {"stream reset 7": 3, "end closed": 2}, "b": {"refused slow": 1}}) == 6
    assert told({"warren_connections_refused{source,peer_reset}": 9, "warren_handshakes{source,ok}": 9}) == 0


def test_counters_with_a_reason_are_read() -> None:
    text = """\
warren_handshakes_total{reporter="destination",reason="ok"} 5
warren_connections_refused_total{reporter="source",reason="app_reset"} 250
warren_log_lines_dropped_total 3
istio_tcp_connections_opened_total{reporter="source",source_app="a"} 4
"""
    assert reasons(text) == {
        "warren_handshakes{destination,ok}": 5,
        "warren_connections_refused{source,app_reset}": 250,
    }
