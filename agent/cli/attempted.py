"""A connection that was made to see what becomes of it."""

from msgspec import Struct


class Phase(Struct, frozen=True):
    """name: dns, connect, tls or first byte. error: why it failed, empty if it did not."""

    name: str
    milliseconds: float
    result: str = ""
    error: str = ""


class Attempted(Struct, frozen=True):
    """The phases that were reached; the last may have failed. reason: what the tunnel recorded of it."""

    phases: list[Phase]
    reason: str = ""

    @property
    def ok(self) -> bool:
        """No phase failed."""
        return not any(phase.error for phase in self.phases)
