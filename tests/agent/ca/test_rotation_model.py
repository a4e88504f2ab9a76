"""A mesh in simulated time, through rotations: at no moment do two of it not trust each other.

Replicas act on what they read up to a minute ago, a change of the state takes up to a minute, nodes renew
when they like or at the last moment, and their clocks are up to two minutes wrong.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from agent.ca import root, rotation
from agent.ca.clock import system_time
from agent.ca.rotation import UNSEEN, Phase, State, begin, step
from agent.ca.signer import Material, tidy

STEP = timedelta(seconds=20)
WRITING = timedelta(minutes=1)
LONGEST = timedelta(minutes=30)
ROOTS = [tidy(root.make(f"root{number}", system_time())) for number in range(4)]


class Held(NamedTuple):
    """What a node got last: who signed it, whom it trusts since then, and its end."""

    issuer: str
    trusted: str
    end: datetime


class Mesh:
    """The state as it was at each moment, and the nodes."""

    def __init__(self, seed: int, nodes: int = 8) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.random = random.Random(seed)
        self.states = [(self.now, State(ROOTS[0], None, None, self.now, LONGEST))]  # from when on, in order
        self.nodes = [self._ask() for _ in range(nodes)]

    @property
    def state(self) -> State:
        """The last that was written, perhaps not in force yet."""
        return self.states[-1][1]

    def replace(self, state: State | None) -> None:
        """A replica writes, and the server takes its time."""
        if state and self.states[-1][0] <= self.now:
            self.states.append((self.now + WRITING * self.random.random(), state))

    def pass_on(self) -> None:
        """Time, and what happens in it."""
        self.now += STEP
        self.replace(step(self.state, self.now, LONGEST))
        for index, held in enumerate(self.nodes):
            left = held.end - self.now
            due = left < LONGEST / 2 and self.random.random() < 0.05
            if due or left < STEP:
                self.nodes[index] = self._ask()

    def strangers(self) -> list[tuple[Held, Held]]:
        """Pairs of which one would refuse the other's certificate."""
        valid = [held for held in self.nodes if self.now < held.end + root.CLOCK_SKEW]
        return [(one, other) for one in valid for other in valid if one.issuer not in other.trusted]

    def _ask(self) -> Held:
        """Of a replica."""
        read = self.now - UNSEEN * self.random.random()
        state = next((state for since, state in reversed(self.states) if since <= read), self.states[0][1])
        vouches: Material = next(one for one in ROOTS if one.ca_cert == state.signing.ca_cert)
        return Held(vouches.root_cert, state.signing.root_cert, self.now + LONGEST)


def live(seed: int) -> list[tuple[Held, Held]]:
    """Three rotations, some begun in the middle of another; the first pairs of strangers."""
    mesh = Mesh(seed)
    for successor in ROOTS[1:]:
        mesh.replace(begin(mesh.state, successor, mesh.now))
        enough = mesh.random.choice([100, 200, 1000])  # steps; a rotation without another takes about 210
        while (enough and mesh.state.phase is not Phase.STEADY) or mesh.states[-1][0] > mesh.now:
            enough -= 1
            mesh.pass_on()
            if strangers := mesh.strangers():
                return strangers
    return []


@pytest.mark.parametrize("seed", range(20))
def test_no_two_are_ever_strangers(seed: int) -> None:
    assert not live(seed)


def test_shorter_holds_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "UNSEEN", -LONGEST / 2)
    assert any(live(seed) for seed in range(20))
