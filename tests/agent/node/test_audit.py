"""The truth about capture: whatever is taken away is found, and where that can be, put back."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.node import routing
from agent.node.audit import INBOUND, MENDED, Fault, Finding, Inside, Subject, judge
from agent.node.listeners import Listener
from agent.node.state import Cookie, PodState
from bpf.pins import Pins
from tests.support import application, sockets, standin
from tests.support.netns import Pod
from tests.support.resident import Resident
from tests.support.stage import Stage


@dataclass
class World:
    """An enrolled pod with a process of its own, and the tunnel."""

    stage: Stage
    pod: Pod
    cookie: Cookie
    tunnel: Resident

    def faults(self) -> set[Fault]:
        subject = Subject(self.pod.netns, self.pod.addresses)
        return {one.fault for one in self.stage.datapath.audit({self.cookie: subject}).get(self.cookie, [])}

    def enrol(self) -> None:
        self.cookie = self.stage.enrol(self.pod)


@pytest.fixture(scope="module")
def world(stage: Stage) -> World:
    pod = stage.pod()
    stage.application(pod).call(application.serve, "pod", 8080)
    return World(stage, pod, stage.enrol(pod), stage.tunnel(pod))


@pytest.fixture(autouse=True)
def well(world: World) -> Iterator[None]:
    assert world.faults() == set()
    yield
    world.enrol()
    assert world.faults() == set()


def detach(world: World) -> None:
    link = Pins(world.stage.bpffs / "warren").pod(world.cookie)
    assert link is not None
    link.detach()


def unpin(world: World) -> None:
    detach(world)
    (world.stage.bpffs / f"warren/pods/{world.cookie}").unlink()


def delete_rules(world: World) -> None:
    world.pod.netns.run(
        lambda: subprocess.run(
            ["ip", "-6", "rule", "del", "pref", "50"], check=True, stdin=subprocess.DEVNULL
        )
    )


def delete_route(world: World) -> None:
    world.pod.netns.run(
        lambda: subprocess.run(["ip", "route", "flush", "table", "100"], check=True, stdin=subprocess.DEVNULL)
    )


def turn_setting_off(world: World) -> None:
    setting = Path("/proc/sys/net/ipv4/tcp_fwmark_accept")
    world.pod.netns.run(lambda: setting.write_text("0"))


DAMAGE = {
    "link detached": (detach, {Fault.IN}),
    "link unpinned": (unpin, {Fault.IN}),
    "released": (lambda world: world.stage.datapath.release(world.cookie), {Fault.OUT, Fault.IN}),
    "forgotten": (lambda world: world.stage.datapath.forget(world.cookie), {Fault.UNKNOWN}),
    "rule deleted": (delete_rules, {Fault.ROUTING}),
    "route deleted": (delete_route, {Fault.ROUTING}),
    "setting changed": (turn_setting_off, {Fault.ROUTING}),
    "routing removed": (lambda world: routing.remove(world.pod.netns), {Fault.ROUTING}),
    "address missing": (
        lambda world: world.stage.datapath.prepare(world.pod.netns, [world.pod.v4]),
        {Fault.ADDRESSES},
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_taken_away_is_found_and_mended(world: World, damage: str) -> None:
    do, faults = DAMAGE[damage]
    do(world)
    assert world.faults() == faults
    assert faults <= MENDED
    world.enrol()
    assert world.faults() == set()


def test_tunnel_that_goes_and_comes(world: World) -> None:
    world.tunnel.call(standin.leave)
    assert world.faults() == {Fault.LISTENER}
    world.tunnel.call(standin.adopt, world.pod.path)


def test_port_taken_before_the_pod_was_enrolled(world: World) -> None:
    world.stage.datapath.forget(world.cookie)
    world.tunnel.call(standin.leave)
    own = world.stage.application(world.pod)
    number = own.call(sockets.listen, INBOUND)
    world.enrol()
    assert world.faults() == {Fault.LISTENER, Fault.FOREIGN}
    own.call(sockets.close, number)
    world.tunnel.call(standin.adopt, world.pod.path)


def test_process_that_no_program_sees(world: World) -> None:
    node = world.stage.node
    beside = node.cgroup.with_name(f"{node.cgroup.name}-beside")
    beside.mkdir()
    with contextlib.closing(Resident(beside, world.pod.path)) as resident:
        resident.call(application.bind, 9999)
        assert world.faults() == {Fault.CGROUP}
    beside.rmdir()


def test_namespace_of_which_nobody_knows(world: World) -> None:
    (found,) = world.stage.datapath.audit({world.cookie: Subject(None)})[world.cookie]
    assert found == Finding(Fault.NAMESPACE, "nobody knows where its network namespace is: delete the pod")


def test_programs_that_are_detached_are_put_back(world: World) -> None:
    pins = Pins(world.stage.bpffs / "warren")
    assert world.stage.datapath.restore() == []
    pins.links()["connect4"].detach()
    (pins.directory / "links/connect6").unlink()
    (pins.directory / "maps/verdicts").unlink()
    assert world.stage.datapath.restore() == ["connect4", "connect6"]
    assert world.stage.datapath.restore() == []
    assert pins.map("verdicts") is not None


def test_arrivals_at_a_socket_that_does_not_listen() -> None:
    """The listener that is registered has to be one of the tunnel's that are there."""
    tunnel, other = 7, 8
    listeners = tuple(Listener(port, port, tunnel) for port in (15001, 15006, 15008))
    state = PodState(addresses=(), redirected=True, netns=4711, listener=99)
    (found,) = judge(state, Inside(4711, True, listeners), {tunnel})
    assert (found.fault, "refused: restart the tunnel" in found.text) == (Fault.LISTENER, True)
    assert judge(state, Inside(4711, True, None), {tunnel}) == []
    faults = {one.fault for one in judge(state, Inside(4711, True, listeners), {other})}
    assert faults == {Fault.LISTENER, Fault.FOREIGN}
