"""Who is the tunnel: with it, without it, with two of them, and with a pod that would like to be it."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.node import routing
from agent.node.errors import DatapathError
from bpf.pins import Pins
from tests.support import application, core, standin
from tests.support.application import Call
from tests.support.netns import Pod
from tests.support.resident import Resident
from tests.support.stage import Stage
from tests.support.standin import INBOUND, OUTBOUND, Seen
from tests.support.wait import until

PORT = 8080
Counted = Callable[[], dict[str, int]]


@dataclass
class Scene:
    """A pod, and another one that stays outside; a server on PORT in each."""

    pod: Pod
    on_pod: Resident
    outside: Pod
    on_outside: Resident

    def errors(self) -> list[int]:
        """What comes of a call out of the pod and into it, by IPv4 and IPv6."""
        leaving = [self.on_pod.call(application.call, Call((str(to), PORT))) for to in self.outside.addresses]
        arriving = [
            self.on_outside.call(application.call, Call((str(to), PORT))) for to in self.pod.addresses
        ]
        return [outcome.error for outcome in leaving + arriving]


@pytest.fixture(scope="module")
def outside(stage: Stage) -> tuple[Pod, Resident]:
    pod = stage.pod()
    resident = stage.application(pod)
    resident.call(application.serve, "outside", PORT)
    return pod, resident


@pytest.fixture
def scene(stage: Stage, outside: tuple[Pod, Resident]) -> Iterator[Scene]:
    pod = stage.pod()
    on_pod = stage.application(pod)
    on_pod.call(application.serve, "pod", PORT)
    yield Scene(pod, on_pod, *outside)
    for resident in (on_pod, outside[1]):
        resident.call(application.stop_calling)


def test_without_a_tunnel_a_captured_pod_is_refused_both_ways(
    stage: Stage, scene: Scene, counted: Counted
) -> None:
    assert scene.errors() == [0] * 4
    cookie = stage.enrol(scene.pod)
    assert scene.errors() == [errno.ECONNREFUSED] * 4
    assert counted() == {"connect_captured": 2, "inbound_loopback": 2, "inbound_refused_no_tunnel": 2}

    tunnel = stage.tunnel(scene.pod)
    assert scene.errors() == [0] * 4
    assert stage.datapath.pods()[cookie].listening

    tunnel.close()
    until(lambda: not stage.datapath.pods()[cookie].listening, what="the listener is gone")
    assert scene.errors() == [errno.ECONNREFUSED] * 4


def test_release_restores_everything(stage: Stage, scene: Scene, counted: Counted) -> None:
    cookie = stage.enrol(scene.pod)
    tunnel = stage.tunnel(scene.pod)
    stage.datapath.release(cookie)
    assert scene.errors() == [0] * 4
    assert tunnel.call(standin.seen) == []

    routing.remove(scene.pod.netns)
    stage.datapath.forget(cookie)
    assert scene.errors() == [0] * 4
    assert cookie not in stage.datapath.pods()
    assert cookie not in Pins(stage.bpffs / "warren").pods()
    tunnel.call(standin.leave)
    scene.on_pod.call(application.bind, INBOUND)  # a port like any other again
    assert counted() == {"listener_registered": 1}


def test_connection_outlives_the_release(stage: Stage, scene: Scene) -> None:
    cookie = stage.enrol(scene.pod)
    stage.tunnel(scene.pod)
    scene.on_outside.call(application.open_echo, (str(scene.pod.v4), PORT))
    stage.datapath.release(cookie)
    stage.datapath.forget(cookie)
    assert scene.on_outside.call(application.echo, b"still here") == b"still here"


def test_second_tunnel_takes_over_and_none_is_lost(stage: Stage, scene: Scene) -> None:
    stage.enrol(scene.pod)
    first = stage.tunnel(scene.pod, reuse=True)
    scene.on_outside.call(application.start_calling, Call((str(scene.pod.v4), PORT)), 2)
    scene.on_pod.call(application.start_calling, Call((str(scene.outside.v4), PORT)), 2)
    until(lambda: first.call(standin.seen), what="calls reach the first tunnel")

    second = stage.tunnel(scene.pod, reuse=True)
    first.call(standin.leave)
    reached: list[Seen] = []

    def enough() -> bool:
        reached.extend(second.call(standin.seen))
        return len(reached) > 50

    until(enough, what="calls reach the second tunnel")

    for resident in (scene.on_pod, scene.on_outside):
        assert [outcome for outcome in resident.call(application.stop_calling) if outcome.error] == []
    assert scene.errors() == [0] * 4


def test_registration_needs_the_tunnels_cgroup(stage: Stage, scene: Scene, counted: Counted) -> None:
    """A pod that listens on the port before it is known gets nothing of what is steered."""
    scene.on_pod.call(application.serve, "impostor", INBOUND)
    cookie = stage.enrol(scene.pod)
    outcome = scene.on_outside.call(application.call, Call((str(scene.pod.v4), PORT)))
    assert outcome.error == errno.ECONNREFUSED
    assert counted() == {"inbound_refused_no_tunnel": 1}
    assert not stage.datapath.pods()[cookie].listening


def test_mark_does_not_make_a_tunnel(stage: Stage, scene: Scene, counted: Counted) -> None:
    stage.enrol(scene.pod)
    tunnel = stage.tunnel(scene.pod)
    for mark in (routing.MARK, 1337):
        scene.on_pod.call(application.call, Call((str(scene.outside.v4), PORT), mark=mark))
        (seen,) = tunnel.call(standin.seen)
        assert seen.port == OUTBOUND
    assert counted()["connect_captured"] == 2


def test_cgroups_that_are_gone_are_no_tunnels(stage: Stage) -> None:
    tunnels = Pins(stage.bpffs / "warren").map("tunnels")
    assert tunnels is not None
    resident = stage.tunnel()
    gone = stage.node.cgroup / f"tunnel{len(list(stage.node.cgroup.glob('tunnel*')))}"
    key = gone.stat().st_ino.to_bytes(8, "little")
    assert key in tunnels
    resident.close()
    until(lambda: "populated 0" in (gone / "cgroup.events").read_text())
    gone.rmdir()
    stage.tunnel()
    assert key not in tunnels


def test_tunnel_elsewhere_is_refused(stage: Stage) -> None:
    with pytest.raises(DatapathError, match=r"it must be below"):
        stage.datapath.trust_tunnel(1)
    with pytest.raises(DatapathError, match="process 4194304 is gone"):
        stage.datapath.trust_tunnel(4194304)


def turn_fast_open_on() -> None:
    """For all who connect and all who listen, without a cookie."""
    Path("/proc/sys/net/ipv4/tcp_fastopen").write_text(str(0x607))


def test_fast_open_for_all_listeners(stage: Stage, tmp_path: Path, counted: Counted) -> None:
    """The tunnel accepts nothing before it can be known where it was to go."""
    pod, outside = stage.pod(), stage.pod()
    pod.netns.run(turn_fast_open_on)
    cookie = stage.prepare(pod)
    tunnel = stage.tunnel()
    tunnel.call(core.start, str(tmp_path / "log"))
    tunnel.call(core.adopt, pod.path, "pod")
    stage.datapath.capture(pod.netns, cookie)
    stage.application(pod).call(application.call, Call((str(outside.v4), PORT), fast_open=True))
    given = counted()
    assert (given["handover_done"], given.get("handover_unknown")) == (1, None)
