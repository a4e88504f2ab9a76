"""A kind is absent when discovery has said so twice, some time apart, and nothing else meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from agent.kube.client import Client
from agent.model.engine.kind import Kind
from agent.model.kinds import KINDS
from agent.sources import absence
from agent.sources.absence import Absence
from tests.support.apiserver import Fake
from tests.support.custom import install
from tests.support.wait import until

POLICY = KINDS["AuthorizationPolicy"]
SIDECAR = KINDS["Sidecar"]
GROUP = POLICY.group
_APART = 0.5


class Asked:
    """When discovery was asked, and what it is to be refused with."""

    def __init__(self, fake: Fake) -> None:
        self.times: list[float] = []
        self.status: Callable[[int], int | None] = lambda number: None
        fake.faults.refuse = self._answer

    def _answer(self, verb: str, resource: str) -> int | None:
        if resource != "/apis":
            return None
        self.times.append(monotonic())
        return self.status(len(self.times))


@pytest.fixture
def asked(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr(absence, "APART", _APART)
    monkeypatch.setattr(absence, "_SELDOM", 0.1)
    return Asked(fake)


@contextmanager
def absence_of(
    fake: Fake, doubted: Callable[[], list[Kind]], changed: Callable[[], None] = lambda: None
) -> Iterator[Absence]:
    it = Absence(Client.load(fake.kubeconfig), doubted, changed)
    try:
        yield it
    finally:
        it.stop()


@pytest.fixture
def it(fake: Fake, asked: Asked) -> Iterator[Absence]:
    with absence_of(fake, lambda: [POLICY]) as it:
        yield it


def start(it: Absence) -> None:
    it.start()
    it.recheck()


def test_twice_some_time_apart(it: Absence, asked: Asked) -> None:
    start(it)
    until(lambda: len(asked.times) == 1)
    for _ in range(5):
        it.recheck()  # asking again at once proves nothing
    assert POLICY not in it
    until(lambda: POLICY in it)
    assert monotonic() - asked.times[0] >= _APART


def test_asking_too_early_does_not_put_the_proof_off(
    it: Absence, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absence, "APART", 2.0)
    start(it)
    until(lambda: len(asked.times) == 1)
    until(lambda: monotonic() - asked.times[0] > 1.0)
    it.recheck()
    until(lambda: POLICY in it)
    assert len(asked.times) == 3
    assert 2.0 <= asked.times[2] - asked.times[0] < 2.9  # a whole distance after the second: 3.0


def test_an_answer_that_fails_between_takes_the_first_one_away(it: Absence, asked: Asked) -> None:
    asked.status = lambda number: 503 if number == 2 else None
    start(it)
    until(lambda: len(asked.times) == 3)
    assert POLICY not in it
    assert it.error is None or it.error.status == 503
    until(lambda: POLICY in it)
    assert asked.times[3] - asked.times[2] >= _APART


def test_what_is_served_between_takes_the_first_one_away(fake: Fake, it: Absence, asked: Asked) -> None:
    install(fake.kubeconfig)
    with fake.hidden(GROUP):
        start(it)
        until(lambda: len(asked.times) == 1)
    until(lambda: len(asked.times) == 2)
    with fake.hidden(GROUP):
        until(lambda: len(asked.times) == 3)
        assert POLICY not in it
        until(lambda: POLICY in it)
    until(lambda: POLICY not in it)  # it is asked again, now and then


def test_what_is_refuted_is_asked_about_anew(it: Absence, asked: Asked) -> None:
    start(it)
    until(lambda: POLICY in it)
    it.refute(POLICY)
    count = len(asked.times)
    assert POLICY not in it
    until(lambda: POLICY in it)
    assert len(asked.times) >= count + 2


def test_an_answer_that_was_asked_for_before_it_was_refuted_proves_nothing(it: Absence, asked: Asked) -> None:
    asked.status = lambda number: it.refute(POLICY) if number == 1 else None
    start(it)
    until(lambda: POLICY in it)
    assert len(asked.times) == 3
    assert asked.times[2] - asked.times[1] >= _APART


def test_what_is_refuted_when_it_is_told_of_another(fake: Fake, asked: Asked) -> None:
    """As by a source that follows what a definition has come of meanwhile, in the thread that asks."""
    doubted, refuted = [POLICY], [SIDECAR]

    def changed() -> None:
        if refuted:
            one.refute(refuted.pop())

    with absence_of(fake, lambda: doubted, changed) as one:
        start(one)
        until(lambda: len(asked.times) == 1)
        doubted.append(SIDECAR)  # first told of as absent when the other one is so for the second time
        until(lambda: POLICY in one)
        until(lambda: SIDECAR in one)


def test_a_mistake_of_ours_does_not_end_it(fake: Fake, asked: Asked) -> None:
    """Whoever waits for an answer sees why there is none, and it is asked again."""
    mistakes = [ValueError("nonsense")]

    def doubted() -> list[Kind]:
        if mistakes:
            raise mistakes.pop()
        return [POLICY]

    with absence_of(fake, doubted) as one:
        start(one)
        until(lambda: one.error)
        assert "nonsense" in str(one.error)
        until(lambda: POLICY in one)
        assert one.error is None


def test_nothing_is_asked_while_nothing_is_in_doubt(fake: Fake, asked: Asked) -> None:
    doubted = [POLICY]
    told: list[int] = []
    with absence_of(fake, lambda: doubted, lambda: told.append(1)) as it:
        start(it)
        until(lambda: told == [1])
        doubted.clear()
        it.recheck()
        until(lambda: not it._wake.is_set())
        count = len(asked.times)
        it.recheck()
        until(lambda: not it._wake.is_set())
        assert len(asked.times) == count
