"""Clocks and affinity of other processes."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.cpu import busy_seconds, cpu_seconds, memory, pinned, resident, threads, together
from bench.errors import BenchError
from tests.support.wait import until

# One thread burns 50 ms and ends; another one waits. The clock must have what the first has used.
BURN = """
import sys, threading, time
def burn():
    while time.thread_time() < 0.05: pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
threading.Thread(target=sys.stdin.read).start()
print("done", flush=True)
"""


@pytest.fixture
def burnt() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"done\n"
        yield process.pid


def test_the_clock_holds_the_time_of_threads_that_have_ended(burnt: int) -> None:
    busy = busy_seconds()
    assert 0.05 <= until(lambda: cpu_seconds(burnt)) < 5
    assert busy_seconds() >= busy
    assert 1_000_000 < memory(burnt) <= resident(burnt)
    assert memory(burnt, os.getpid()) > memory(burnt)


def test_what_processes_share_counts_once_whoever_else_has_it(burnt: int) -> None:
    """Two interpreters: their files are the same, their heaps are not."""
    with subprocess.Popen(
        [sys.executable, "-c", "input(1)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.read(1) == b"1"
        both, apart = together(burnt, other.pid), [together(burnt), together(other.pid)]
        other.communicate(b"\n")
    assert memory(burnt) < apart[0] < 1.02 * resident(burnt)
    assert max(apart) < both < sum(apart) - 1_000_000


def test_a_process_that_is_gone_is_named(burnt: int) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(BenchError, match=str(process.pid)):
        cpu_seconds(process.pid)
    assert threads(process.pid) == []


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_threads_are_put_on_one_cpu_and_get_back_what_each_had(burnt: int) -> None:
    until(lambda: len(threads(burnt)) == 2)
    first, second = threads(burnt)
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(second, {cpus[0]})
    with pinned([burnt], cpus[-1]):
        assert {tuple(os.sched_getaffinity(tid)) for tid in threads(burnt)} == {(cpus[-1],)}
    assert os.sched_getaffinity(first) == set(cpus)
    assert os.sched_getaffinity(second) == {cpus[0]}
