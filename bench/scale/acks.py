"""What a tunnel has acknowledged and when, from its agent's log."""

import asyncio
import re
from datetime import datetime
from pathlib import Path

from bench.errors import BenchError
from bench.scale.node import Process

_LINE = re.compile(r"^(\S+)\t.*\txDS client \S+ has (.*)$")


class Acks:
    """Follows the log of an agent from its beginning.

    times: of each resource by name, the Unix times of its acknowledgements.
    """

    def __init__(self, agent: Process) -> None:
        self.times: dict[str, list[float]] = {}
        self._agent = agent
        self._read = 0

    async def until(self, count: int, within: float) -> float:
        """Wait until so many resources are acknowledged; gives when that was. Raises BenchError."""
        try:
            async with asyncio.timeout(within):
                while self.look() < count:
                    self._agent.check()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise BenchError(f"{len(self.times)} of {count} acknowledged within {within:g} s") from None
        return max(times[0] for times in self.times.values())

    def look(self) -> int:
        """Read on; gives how many resources have been acknowledged at all."""
        with Path(self._agent.log).open(errors="replace") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        for line in whole.splitlines():
            if match := _LINE.match(line):
                when = datetime.fromisoformat(match[1]).timestamp()
                for name in match[2].split():
                    self.times.setdefault(name, []).append(when)
        return len(self.times)

    def after(self, name: str, moment: float) -> float | None:
        """When a resource was first acknowledged from a moment on.

        Or shortly before it: the tunnel may be faster than the API server's answer.
        """
        return next((time for time in self.times.get(name, ()) if time > moment - 0.5), None)
