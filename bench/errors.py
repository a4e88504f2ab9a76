"""The one error that ends the benchmark with a clear line."""

from agent.errors import WarrenError


class BenchError(WarrenError):
    """Something is missing or does not work; the message says what, and the remedy where there is one."""

    exit_code = 2
