"""A typing error in a policy lets in nobody whom the policy, as it was meant, keeps out."""

import json
from collections.abc import Iterator
from random import Random

import pytest

from agent.model.schema.istio.policy import Policy
from tests.policy.cases import draw, mistaken
from tests.policy.verdicts import Core, build, core, decode


@pytest.fixture(scope="module")
def verdicts() -> Iterator[Core]:
    with core(build()) as process:
        yield process


def test_nobody_gets_in_by_a_mistake(verdicts: Core) -> None:
    refused = 0
    for seed in range(2000):
        random = Random(seed)
        case = draw(random)
        pod, service, *policies = case.manifests
        if not policies:
            continue
        number = random.randrange(len(policies))
        wrong = mistaken(random, policies[number])
        item = decode(wrong)
        assert isinstance(item, Policy)
        if item.refusal is None:
            continue  # it is another policy, and a valid one
        refused += 1
        policies[number] = wrong
        meant = verdicts.judge(case.manifests, case.attempts)
        found = verdicts.judge([pod, service, *policies], case.attempts)
        for attempt, before, after in zip(case.attempts, meant, found, strict=True):
            let_in = before.verdict != "allowed" and after.verdict == "allowed"
            assert not let_in, f"seed {seed}: {attempt}\n{json.dumps(case.manifests)}\n{json.dumps(wrong)}"
    assert refused > 500
