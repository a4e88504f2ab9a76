"""Waiting for other programs to come to rest."""

import time

from bench.cpu import background

QUIET = 0.15
"""CPUs busy with something else that a measurement bears."""
PAUSE = 2.0


class Patience:
    """Waits for a quiet machine, in all no longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def wait(self) -> float:
        """Wait; returns how many CPUs were busy at the end of it."""
        while (busy := background(0.3)) > QUIET and self.left > 0:
            time.sleep(PAUSE)
            self.left = max(0.0, self.left - PAUSE)
        return busy
