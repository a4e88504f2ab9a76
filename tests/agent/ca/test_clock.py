"""What time it is when machines disagree."""

from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest

from agent.ca.clock import BOUND, Clock, apart, elapsed, system_time

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def heard(ahead: timedelta = timedelta()) -> Clock:
    """The clock of a machine that is ahead of its API server, which has the right time."""
    clock = Clock(lambda: system_time() + ahead)
    clock.observe(date(system_time()), elapsed())
    return clock


def date(time: datetime) -> str:
    return format_datetime(time, usegmt=True)


def near(one: datetime, other: datetime) -> bool:
    return abs(one - other) < 3 * SECOND


def test_the_servers_time_goes_on_by_itself() -> None:
    clock = Clock()
    clock.observe(date(system_time() + BOUND / 2), elapsed() - 10)
    assert not clock.dispute
    assert near(clock.now(), system_time() + BOUND / 2 + 5 * SECOND), "it answered in the middle of the wait"
    before = clock.now()
    assert clock.now() > before


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (2 * DAY, "2 days ahead of"),
        (2 * DAY - 2 * SECOND, "2 days ahead of"),
        (-DAY, "1 day behind"),
        (-BOUND - 5 * SECOND, "1 minute behind"),
        (5 * DAY / 24, "5 hours ahead of"),
    ],
)
def test_a_machine_that_disagrees_has_no_time(ahead: timedelta, words: str) -> None:
    clock = heard(ahead)
    assert clock.dispute == f"this machine's clock is {words} the API server's"
    assert clock.ahead is not None
    assert abs(clock.ahead - ahead) < 3 * SECOND


@pytest.mark.parametrize("ahead", [timedelta(), BOUND - 5 * SECOND, 5 * SECOND - BOUND])
def test_a_little_is_no_dispute(ahead: timedelta) -> None:
    assert not heard(ahead).dispute


def test_what_both_agreed_on_stays_in_force() -> None:
    clock = heard()
    clock.observe(date(system_time() + 2 * DAY), elapsed())
    assert clock.dispute == "this machine's clock is 2 days behind the API server's"
    assert near(clock.now(), system_time())
    assert near(clock.served(), system_time() + 2 * DAY)
    clock.observe(date(system_time()), elapsed())
    assert not clock.dispute


@pytest.mark.parametrize("text", ["", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_server_that_tells_no_time_is_a_dispute(text: str) -> None:
    clock = heard()
    clock.observe(text, elapsed())
    assert "no Date" in clock.dispute
    assert near(clock.now(), system_time())


def test_words_do_not_change_with_each_second() -> None:
    assert {apart(2 * DAY + second * SECOND) for second in range(-60, 60)} == {"2 days ahead of"}
    assert apart(SECOND) == "1 second ahead of"
    assert apart(timedelta()) == "0 seconds behind"
