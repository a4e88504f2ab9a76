"""From one root to another, with time given: who signs, and who is trusted, at each moment."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.ca import root, rotation
from agent.ca.clock import system_time
from agent.ca.rotation import Phase, State, begin, is_due, step
from agent.ca.signer import Material, Signer, roots_of, tidy
from tests.support.plugged import authority, material

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
NOW = datetime.now(UTC)
OLD, NEW, LATER = (tidy(root.make("cluster.local", system_time())) for _ in range(3))
STEADY = State(OLD, None, None, NOW, DAY)


def trusted(state: State) -> set[str]:
    """The roots of a state, by their one name here: what they are made of."""
    known = {"old": OLD, "new": NEW, "later": LATER}
    roots = roots_of(state.signing.root_cert)
    return {name for name, one in known.items() if Signer.of(one).root in roots}


def test_both_are_trusted_from_a_hold_before_to_a_hold_after_the_switch() -> None:
    state = begin(STEADY, NEW, NOW)
    assert (state.phase, state.signing.ca_cert, trusted(state)) == (
        Phase.ANNOUNCED,
        OLD.ca_cert,
        {"old", "new"},
    )
    assert state.until is not None
    assert state.until > NOW + DAY + rotation.UNSEEN + root.CLOCK_SKEW
    assert step(state, state.until - SECOND, DAY) is None

    switch = state.until
    switched = step(state, switch, DAY)
    assert switched
    assert (switched.phase, switched.signing.ca_key, trusted(switched)) == (
        Phase.SWITCHED,
        NEW.ca_key,
        {"old", "new"},
    )
    assert switched.signing.root_cert != state.signing.root_cert  # its order tells tunnels to renew
    assert switched.until
    assert switched.until > switch + DAY
    assert step(switched, switched.until - SECOND, DAY) is None

    done = step(switched, switched.until, DAY)
    assert done == State(NEW, None, None, switched.until, DAY)
    assert step(done, done.since + 1000 * DAY, DAY) is None


def test_longer_certificates_of_the_past_are_waited_for() -> None:
    state = begin(STEADY, NEW, NOW)
    assert step(state, NOW + timedelta(hours=1), timedelta(seconds=10)) is None
    switched = step(state, NOW + 2 * DAY, timedelta(seconds=10))
    assert switched
    assert switched.longest == DAY
    done = step(switched, NOW + 4 * DAY, timedelta(seconds=10))
    assert done
    assert done.longest == timedelta(seconds=10)


@pytest.mark.parametrize("switched", [False, True])
def test_another_wish_in_the_middle_drops_nobody_too_early(switched: bool) -> None:
    state = begin(STEADY, NEW, NOW)
    if switched:
        state = step(state, NOW + 2 * DAY, DAY) or state
    again = begin(state, LATER, NOW + 3 * DAY)
    assert again.phase is Phase.ANNOUNCED
    assert again.signing.ca_cert == (NEW if switched else OLD).ca_cert
    assert trusted(again) == {"old", "new", "later"}
    assert again.until
    assert again.until > NOW + 4 * DAY
    last = step(again, again.until, DAY)
    assert last
    assert trusted(last) == {"old", "new", "later"}
    assert last.until
    assert step(last, last.until, DAY) == State(LATER, None, None, last.until, DAY)


def test_another_intermediate_of_the_same_root_signs_at_once() -> None:
    top = authority("root")
    first, second = (tidy(material(authority(name, top), top)) for name in ("first", "second"))
    state = begin(State(first, None, None, NOW, DAY), second, NOW)
    assert (state.phase, state.signing.ca_cert) == (Phase.SWITCHED, second.ca_cert)
    assert state.target == second


def test_a_further_root_beside_the_one_that_vouches_stays() -> None:
    top, friend = authority("root"), authority("friend")
    mesh = authority("mesh", top)
    alone, both = tidy(material(mesh, top)), tidy(material(mesh, top, roots=top.pem + friend.pem))
    state = begin(State(alone, None, None, NOW, DAY), both, NOW)
    assert len(roots_of(state.signing.root_cert)) == 2
    assert state.target == both
    back = begin(State(both, None, None, NOW, DAY), alone, NOW)
    assert len(roots_of(back.signing.root_cert)) == 2  # until what it vouched for has ended
    assert back.target == alone


@pytest.mark.parametrize(("left", "due"), [(0.21, False), (0.2, True), (0.01, True), (-1, True)])
def test_a_root_is_due_when_a_fifth_of_its_life_is_left(left: float, due: bool) -> None:
    signer = Signer.of(OLD)
    life = signer.root.not_valid_after_utc - signer.root.not_valid_before_utc
    assert is_due(signer, signer.root.not_valid_after_utc - life * left) is due


def test_what_an_organisation_made_is_never_due() -> None:
    top = authority("root", ends=timedelta(hours=1))
    assert not is_due(Signer.of(material(authority("mesh", top, ends=timedelta(hours=1)), top)), NOW)


def test_a_bad_successor_begins_nothing() -> None:
    with pytest.raises(Exception, match=r"ca-key\.pem is not the key"):
        begin(STEADY, Material(NEW.ca_cert, OLD.ca_key, "", NEW.root_cert), NOW)
