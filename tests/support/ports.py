"""Ports for servers on 127.0.0.1."""

import os
import socket
from contextlib import suppress
from random import Random

# Below those that the kernel gives to clients: none of them takes one before its server does.
_ORDER = iter(Random(os.getpid()).sample(range(20_000, 32_000), 12_000))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that was not given before."""
    for port in _ORDER:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports were given")
