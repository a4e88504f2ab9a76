"""What is told of a node's parts."""

import time

from agent.cli.health import Parts, diagnose
from agent.node.report import Report
from protocols.report import Authority, Generation, Link, Served, Stage
from protocols.report import Report as TunnelReport


def test_generations_that_drain_are_told_with_what_is_left_of_them() -> None:
    now = time.time()
    generations = [
        Generation(3, 7, "0.9", Stage.RETIRED, 12, 34_000_000, retired=now - 300, ends=now + 7100),
        Generation(4, 8, "0.9", Stage.RETIRED, 1, 0, retired=now - 7200, ends=now - 1),
        Generation(5, 9, "1.0", Stage.SERVING, 90),
    ]
    link, ca = Link(pods=True, configuration=True), Authority("https://ca")
    tunnel = TunnelReport("1.0", False, link, Served(1), [], ca, generations=generations)
    parts = diagnose(Parts("a", Report(version="1.0", unready=(), wanted=(), objects=0), "t", tunnel)).parts
    assert {name: text for name, text in parts.items() if name.startswith("tunnel ")} == {
        "tunnel 3": "draining for 5m: 12 connections left, 34MB of memory, version 0.9; "
        "ends with the last one, in 118m at the latest",
        "tunnel 4": "draining for 2h: 1 connections left, 0B of memory, version 0.9; "
        "ends with the last one, in 0ms at the latest",
    }
