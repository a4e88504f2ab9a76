"""An agent goes and another one comes, of the same version or not: nobody's connection slips through."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import bpf
from agent.node.datapath import Datapath
from agent.node.errors import DatapathError
from agent.node.state import Cookie
from bpf.pins import KEPT, Pins
from tests.support import application, standin
from tests.support.application import Call, Outcome
from tests.support.netns import Pod
from tests.support.resident import Resident
from tests.support.stage import Stage
from tests.support.standin import INBOUND, OUTBOUND, Seen
from tests.support.wait import until

PORT = 8080
SOURCES = Path(bpf.__file__).parent


@dataclass
class World:
    """A captured pod and one outside, with a server in each."""

    pod: Pod
    outside: Pod
    cookie: Cookie
    on_pod: Resident
    on_outside: Resident
    tunnel: Resident

    def start(self) -> None:
        """Call without a pause, out of the pod and into it."""
        self.on_pod.call(application.start_calling, Call((str(self.outside.v4), PORT)), 2)
        self.on_outside.call(application.start_calling, Call((str(self.pod.v6), PORT)), 2)
        self.go_on()

    def go_on(self) -> None:
        """Until some more calls were made both ways."""
        for resident in (self.on_pod, self.on_outside):
            enough = resident.call(application.called) + 20
            until(partial(_called, resident, enough), what="clients go on calling")

    def stop(self) -> tuple[list[Outcome], list[Outcome]]:
        """What went wrong, and what passed the tunnel by."""
        leaving, arriving = (r.call(application.stop_calling) for r in (self.on_pod, self.on_outside))
        seen = self.tunnel.call(standin.seen)
        slipped = uncaptured(leaving, seen, OUTBOUND) + uncaptured(arriving, seen, INBOUND)
        return [outcome for outcome in leaving + arriving if outcome.error], slipped


def _called(resident: Resident, enough: int) -> bool:
    return resident.call(application.called) >= enough


def uncaptured(outcomes: list[Outcome], seen: list[Seen], port: int) -> list[Outcome]:
    """Calls that reached a server although the tunnel never saw their socket."""
    known = {connection.peer[1] for connection in seen if connection.port == port}
    return [outcome for outcome in outcomes if not outcome.error and outcome.local[1] not in known]


@pytest.fixture(scope="module")
def world(stage: Stage) -> World:
    pod, outside = stage.pod(), stage.pod()
    on_pod, on_outside = stage.application(pod), stage.application(outside)
    on_pod.call(application.serve, "pod", PORT)
    on_outside.call(application.serve, "outside", PORT)
    cookie = stage.enrol(pod)
    return World(pod, outside, cookie, on_pod, on_outside, stage.tunnel(pod))


@pytest.fixture
def edit(tmp_path: Path) -> Iterator[Callable[[str, str, str], Path]]:
    """Build programs from sources that differ by one edit of one file."""
    sources = tmp_path / "bpf"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("*.o", "*.py", "__pycache__"))

    def build(name: str, pattern: str, replacement: str) -> Path:
        text, found = re.subn(pattern, replacement, (sources / name).read_text())
        assert found, pattern
        (sources / name).write_text(text)
        command = ["make", "-s", "-C", str(sources), f"BUILD={tmp_path}/build"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return sources / "redirect.bpf.o"

    yield build


def links(stage: Stage) -> dict[str, int]:
    pins = Pins(stage.bpffs / "warren")
    found = {name: int(link.info().id) for name, link in pins.links().items()}
    return found | {str(cookie): int(link.info().id) for cookie, link in pins.pods().items()}


def map_id(stage: Stage, name: str) -> int:
    present = Pins(stage.bpffs / "warren").map(name)
    assert present is not None
    return int(present.info.id)


def test_uncaptured_calls_are_told_apart(stage: Stage, world: World) -> None:
    """What the other tests stand on: a call that passes the tunnel by is noticed."""
    stage.datapath.release(world.cookie)
    world.start()
    failed, slipped = world.stop()
    stage.datapath.capture(world.pod.netns, world.cookie)
    assert failed == []
    assert len(slipped) >= 40


def test_same_version_takes_over_while_clients_call(stage: Stage, world: World) -> None:
    before = links(stage), stage.datapath.pods(), map_id(stage, "pods")
    world.start()
    for _ in range(10):
        stage.restart()
        world.go_on()
    failed, slipped = world.stop()
    assert (failed, slipped) == ([], [])
    assert (links(stage), stage.datapath.pods(), map_id(stage, "pods")) == before


def test_other_version_replaces_while_clients_call(
    stage: Stage, world: World, edit: Callable[[str, str, str], Path]
) -> None:
    edit("maps.h", r"(struct pod \{)", r"\1\n\t__u64 generation;")
    edit("verdicts.h", r"(enum verdict \{)", r"\1\n\tCONNECT_ANOTHER,")
    other = edit("maps.h", r"16384", "8192")
    before = links(stage), stage.datapath.pods(), map_id(stage, "pods")
    kept = [map_id(stage, name) for name in KEPT]
    world.start()
    for program in (other, None, other, None):
        stage.restart(program)
        if program:
            assert "connect_another" in stage.datapath.verdicts()
        world.go_on()
    _, slipped = world.stop()
    assert slipped == []
    assert links(stage) == before[0]
    assert map_id(stage, "pods") != before[2]
    assert [map_id(stage, name) for name in KEPT] == kept
    assert stage.datapath.pods() == before[1]
    assert world.on_pod.call(application.call, Call((str(world.outside.v4), PORT))).error == 0
    assert world.on_outside.call(application.call, Call((str(world.pod.v4), PORT))).error == 0


UNFIT = {
    "map listeners is of another layout": ("maps.h", r"(SOCKHASH\);\n.*max_entries, )4096", r"\g<1>64"),
    "map tunnels is of a layout that cannot be carried": (
        "maps.h",
        r"__u32(\); /\* the process)",
        r"__u64\1",
    ),
    r"kernel refuses redirect.bpf.o: .*inbound: ": (
        "sk_lookup.bpf.c",
        r"key = \*netns;",
        "key = netns[100];",
    ),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_version_that_does_not_fit_changes_nothing(
    stage: Stage, world: World, edit: Callable[[str, str, str], Path], reason: str
) -> None:
    other = edit(*UNFIT[reason])
    before = links(stage)
    world.start()
    with pytest.raises(DatapathError, match=reason) as refused:
        stage.restart(other)
    assert "\n" not in str(refused.value)
    world.go_on()
    failed, slipped = world.stop()
    assert (failed, slipped) == ([], [])
    stage.restart()
    assert links(stage) == before


def test_hook_that_a_version_no_longer_has_is_taken_away(
    stage: Stage, edit: Callable[[str, str, str], Path]
) -> None:
    before = set(links(stage))
    stage.restart(
        edit(
            "names.bpf.c",
            r'SEC\("cgroup/getsockname6"\)\nint (\w+)',
            r"static inline __attribute__((unused)) int \1",
        )
    )
    assert set(links(stage)) == before - {"getsockname6"}
    stage.restart()
    assert set(links(stage)) == before


def test_other_cgroup_is_attached_in_place_of_the_first(stage: Stage) -> None:
    stage.datapath.close()
    inner = stage.node.make_cgroup("inner")
    Datapath.open(inner, stage.bpffs / "warren").close()
    at = {int(link.info().target.cgroup.cgroup_id) for link in Pins(stage.bpffs / "warren").links().values()}
    assert at == {inner.stat().st_ino}
    stage.restart()


def test_second_agent_is_refused(stage: Stage) -> None:
    with pytest.raises(DatapathError, match="in use by another agent"):
        Datapath.open(stage.node.cgroup, stage.bpffs / "warren")
    with pytest.raises(DatapathError, match="in use by another agent"):
        Datapath.remove(stage.bpffs / "warren")
