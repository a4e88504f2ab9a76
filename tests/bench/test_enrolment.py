"""The benchmark of enrolment with few pods: plugin, agent, tunnel and authority as they are on a node."""

from pathlib import Path

from click.testing import CliRunner

from agent.lab import cgroups
from bench.enrolment import main


def test_every_figure_is_there_and_nothing_is_left() -> None:
    before = left()
    done = CliRunner().invoke(main, ["--pods", "3", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    said = [line.partition(" p50 ")[0].strip() for line in done.output.splitlines()]
    assert said == [
        "ADD, one pod after the other",
        "ADD again",
        "3 pods, agent started, warm, ready",
        "3 pods, agent started, cold, ready",
        "3 pods, agent started, cold, tunnel in every pod",
        "ADD, 16 pods at a time",
    ]
    assert left() == before


def left() -> set[Path]:
    places = (Path("/run/netns"), cgroups.mount_point(), Path("/tmp"))
    return {path for place in places for path in place.glob("wt-enrolment*")}
