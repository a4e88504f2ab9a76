"""The chain from manifest to compiled verdict agrees with the reference on random policies and connections.

`make test-policies` does the same with hundreds of thousands.
"""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.policy.cases import draw
from tests.policy.verdicts import Core, build, core, disagreement


@pytest.fixture(scope="module")
def verdicts() -> Iterator[Core]:
    with core(build()) as process:
        yield process


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(random=st.randoms(use_true_random=False))
def test_they_agree(verdicts: Core, random: Random) -> None:
    assert disagreement(verdicts, draw(random)) == ""


def test_they_agree_on_many(verdicts: Core) -> None:
    for seed in range(3000):
        assert disagreement(verdicts, draw(Random(seed))) == "", f"seed {seed}"
