"""The datapath's face: what it accepts and refuses, and what it says of pods."""

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.node.datapath import Datapath
from agent.node.errors import DatapathError
from agent.node.state import Cookie
from bpf import stats
from bpf.pins import Pins
from protocols.agent import Runs
from tests.support import sockets
from tests.support.stage import Stage
from tests.support.wait import until


def test_state_follows_every_step(stage: Stage) -> None:
    pod = stage.pod()
    datapath = stage.datapath
    cookie = datapath.prepare(pod.netns, pod.addresses)
    assert cookie == pod.netns.cookie()
    prepared = datapath.pods()[cookie]
    assert prepared.addresses == (pod.v4, pod.v6)
    assert (prepared.redirected, prepared.netns, prepared.listening, prepared.captured) == (
        False,
        0,
        False,
        False,
    )

    datapath.capture(pod.netns, cookie)
    datapath.capture(pod.netns, cookie)
    captured = datapath.pods()[cookie]
    assert (captured.redirected, captured.netns, captured.captured) == (True, pod.path.stat().st_ino, True)

    datapath.prepare(pod.netns, [pod.v4])  # an agent that came back prepares again
    assert datapath.pods()[cookie].captured
    assert datapath.pods()[cookie].addresses == (pod.v4,)

    datapath.release(cookie)
    datapath.release(cookie)
    assert not datapath.pods()[cookie].captured
    datapath.forget(cookie)
    datapath.forget(cookie)
    assert cookie not in datapath.pods()


def test_address_belongs_to_whom_it_was_given_last(stage: Stage) -> None:
    first, second = stage.pod(), stage.pod()
    reused = ip_address("10.199.77.7")
    before = stage.datapath.prepare(first.netns, [reused])
    after = stage.datapath.prepare(second.netns, [reused])
    stage.datapath.forget(before)
    assert stage.datapath.pods()[after].addresses == (reused,)
    stage.datapath.forget(after)


def test_namespace_that_is_gone_shows_as_not_captured(stage: Stage) -> None:
    pod = stage.pod()
    cookie = stage.enrol(pod)
    stage.node.delete(pod)
    until(lambda: stage.datapath.pods()[cookie].netns == 0, what="the kernel takes the namespace down")
    stage.restart()
    stage.datapath.forget(cookie)
    assert cookie not in Pins(stage.bpffs / "warren").pods()


def test_pod_that_was_not_prepared_is_not_captured(stage: Stage) -> None:
    pod = stage.pod()
    with pytest.raises(DatapathError, match="pod 1 is not prepared"):
        stage.datapath.capture(pod.netns, Cookie(1))
    stage.datapath.forget(Cookie(1))


def test_places_that_do_not_fit_are_named(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(DatapathError, match=r"is no cgroup v2 directory"):
        Datapath.open(tmp_path, stage.bpffs / "another")
    with pytest.raises(DatapathError, match=r"is not in a bpffs: mount -t bpf"):
        Datapath.open(stage.node.cgroup, tmp_path / "another")


def test_threads_may_call_at_once(stage: Stage) -> None:
    pods = [stage.pod() for _ in range(8)]
    with ThreadPoolExecutor() as threads:
        cookies = list(threads.map(stage.enrol, pods))
        states = stage.datapath.pods()
        assert all(states[cookie].captured for cookie in cookies)
        assert [states[cookie].addresses for cookie in cookies] == [(pod.v4, pod.v6) for pod in pods]
        list(threads.map(stage.datapath.forget, cookies))
    assert not stage.datapath.pods().keys() & set(cookies)


def test_remove_leaves_nothing(stage: Stage) -> None:
    bpffs = stage.bpffs / "another"
    cgroup = stage.node.make_cgroup("another")
    pod = stage.pod()
    datapath = Datapath.open(cgroup, bpffs)
    datapath.capture(pod.netns, datapath.prepare(pod.netns, pod.addresses))
    datapath.close()
    Datapath.remove(bpffs)
    assert list(bpffs.iterdir()) == []
    Datapath.remove(bpffs)
    Datapath.remove(stage.bpffs / "never")


def test_a_map_that_is_full_is_named_and_nobody_else_is_concerned(stage: Stage) -> None:
    pod, late = stage.pod(), stage.pod()
    cookie = stage.enrol(pod)
    addresses = Pins(stage.bpffs / "warren").map("addresses")
    assert addresses
    room = int(addresses.info.max_entries) - len(list(addresses))
    fillers = [b"\xfd" + number.to_bytes(15, "big") for number in range(room)]
    for key in fillers:
        addresses.put(key, bytes(8))
    with pytest.raises(DatapathError, match="map addresses is full: 16384 entries at most"):
        stage.prepare(late)
    fill = stage.datapath.fill()
    assert fill["addresses"] == (16384, 16384)
    assert 0 < fill["pods"][0] < fill["pods"][1]
    assert "verdicts" not in fill, "an array has all its entries"
    assert stage.datapath.pods()[cookie].captured
    for key in fillers:
        addresses.delete(key)
    assert stage.datapath.fill() is fill, "a scrape does not count again so soon"
    assert stage.datapath.fill(age=0)["addresses"] == (16384 - len(fillers), 16384)
    after = stage.enrol(late)
    assert stage.datapath.pods()[after].captured


def test_programs_are_timed_while_somebody_counts(stage: Stage) -> None:
    pod = stage.pod()
    stage.enrol(pod)
    application = stage.application(pod)

    def connect() -> Runs:
        with pytest.raises(OSError):
            application.call(sockets.connect, (str(stage.pod().v4), 80))
        return stage.datapath.cost().programs["connect4"]

    with stats.counting():
        before, after = connect(), connect()
    assert after.times > before.times
    assert after.seconds > before.seconds


def test_the_tunnels_cpu_time_is_that_of_its_cgroup(stage: Stage) -> None:
    tunnel = stage.tunnel()

    def used() -> float:
        tunnel.call(sum, range(1_000_000))
        return sum(stage.datapath.cost().tunnels.values())

    assert 0 < used() < used()
