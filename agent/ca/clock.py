"""Time that all replicas agree on: the API server's, as long as this machine's clock agrees with it.

A certificate's times are judged by the clocks of other machines, and a rotation's holds are counted by
whichever replica looks: a single wrong clock must move neither. So time is what the API server says in its
answers (Date, RFC 9110 section 6.6.1), carried on by a counter that nobody sets. Where this machine's own
clock disagrees by more than `BOUND`, one of the two is wrong and nobody here can tell which: then there is no
time to go by.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

BOUND = timedelta(minutes=1)
_HALF_A_SECOND = timedelta(seconds=0.5)  # Date has whole seconds

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))

Now = Callable[[], datetime]


def elapsed() -> float:
    """Seconds since the machine started, those in which it slept as well; nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def system_time() -> datetime:
    """This machine's own clock."""
    return datetime.now(UTC)


class _Reading(NamedTuple):
    """What time it was, at a moment of `elapsed`."""

    time: datetime
    at: float

    def now(self) -> datetime:
        return self.time + timedelta(seconds=elapsed() - self.at)


class Clock:
    """For any number of threads.

    ahead: by how much this machine's clock was ahead of the API server's when that answered last, if it did.
    """

    def __init__(self, machine: Now = system_time) -> None:
        """machine: its own clock."""
        self._machine = machine
        self.ahead: timedelta | None = None
        self._observed: _Reading | None = None
        self._agreed: _Reading | None = None
        self._answered = False

    def observe(self, date: str, asked: float) -> None:
        """Take the Date of an answer that came now. asked: when it was asked for, by `elapsed`."""
        answered, self._answered = elapsed(), True
        try:
            served = parsedate_to_datetime(date).astimezone(UTC) + _HALF_A_SECOND
        except ValueError:
            self.ahead = None
            return
        self._observed = _Reading(served, (asked + answered) / 2)
        self.ahead = self._machine() - self._observed.now()
        if not self.dispute:
            self._agreed = self._observed

    @property
    def dispute(self) -> str:
        """Why there is no time to go by, in words; empty while both agree, and before the first answer."""
        if self.ahead is None:
            return "the API server's answers have no Date that can be read" if self._answered else ""
        if abs(self.ahead) <= BOUND:
            return ""
        return f"this machine's clock is {apart(self.ahead)} the API server's"

    def now(self) -> datetime:
        """By what both agreed on last; the API server's time as long as they never did."""
        return self._agreed.now() if self._agreed else self.served()

    def served(self) -> datetime:
        """The API server's time, in dispute or not; this machine's before the first answer."""
        return self._observed.now() if self._observed else self._machine()


def apart(ahead: timedelta) -> str:
    """For people, like "2 days ahead of": so coarse that it stays the same."""
    seconds = abs(ahead).total_seconds()
    unit, name = next(((size, name) for size, name in _UNITS if seconds >= size * 0.75), (1, "second"))
    count = round(seconds / unit)
    return f"{count} {name}{'s' * (count != 1)} {'ahead of' if ahead > timedelta() else 'behind'}"
