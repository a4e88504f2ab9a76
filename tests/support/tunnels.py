"""The tunnel's core in a process of its own, and what it tells."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tests.support import core
from tests.support.http2 import TIMEOUT
from tests.support.resident import Resident
from tests.support.wait import until

Counts = dict[str, int]
P = ParamSpec("P")
T = TypeVar("T")


class TunnelProcess:
    """Calls functions of `core` in it. When it is closed, none of its tasks may have panicked."""

    def __init__(self, cgroup: Path, log: Path) -> None:
        self.log = log
        self._resident = Resident(cgroup)
        self.call(core.start, str(log))

    @property
    def pid(self) -> int:
        return self._resident.pid

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._resident.call(function, *args, **kwargs)

    def counted(self, family: str) -> Counts:
        """The samples of a counter, by the text of their labels."""
        text = self.call(core.metrics)
        samples = re.findall(rf"^{family}_total{{(.*)}} (\d+)$", text, re.MULTILINE)
        return {labels: int(value) for labels, value in samples}

    def logged(self, start: int) -> list[dict[str, Any]]:
        """The access log from a place in it on."""
        with self.log.open() as log:
            log.seek(start)
            return [json.loads(line) for line in log if line.startswith("{") and line.endswith("}\n")]

    @contextmanager
    def refusal(
        self, reporter: str, reason: str, handshake: bool = False, within: float = TIMEOUT
    ) -> Iterator[dict[str, Any]]:
        """What is done inside is refused once for that reason: counted and logged. Gives the log's line.

        With `handshake` it is counted as a failed handshake, too. `within`: seconds, from the end of that.
        """
        families = ["warren_connections_refused", *(["warren_handshakes"] if handshake else [])]
        key = f'reporter="{reporter}",reason="{reason}"'
        before = {family: self.counted(family).get(key, 0) for family in families}
        start = self.log.stat().st_size
        about = {"reason": reason, "direction": "outbound" if reporter == "source" else "inbound"}
        line: dict[str, Any] = {}
        yield line
        for family, count in before.items():
            until(lambda: self.counted(family).get(key, 0) > count, within, f"{family}{{{key}}}")  # noqa: B023
            assert self.counted(family)[key] == count + 1
        found = until(
            lambda: [line for line in self.logged(start) if about.items() <= line.items()],
            what=f"a line of the access log with {about}",
        )
        assert len(found) == 1
        line.update(found[0])

    def close(self) -> None:
        self._resident.close()
        panics = [line for line in self.log.read_text().splitlines() if " panicked at " in line]
        assert not panics, panics
