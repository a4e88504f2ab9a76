"""The generations that a keeper knows: those that it started, and those that are connected."""

import os
import socket
import time
from operator import attrgetter

from protocols.report import Generation, Stage
from tunnel.kept import Kept

BY_NUMBER = attrgetter("number")


class Child:
    """A generation of this keeper's own making."""

    def __init__(self, number: int, pid: int) -> None:
        self.number, self.pid, self.started = number, pid, time.monotonic()
        self.outlasts = False
        self.fd = os.pidfd_open(pid)


class Member:
    """A generation that is connected."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.told: Generation | None = None
        self.foreign = False  # another version of the handover is what it speaks
        self.since = time.monotonic()
        self.ready = False
        self.retiring: float | None = None  # since when
        self.promoted = False
        self.kept = Kept()

    @property
    def number(self) -> int:
        return self.told.number if self.told else 0

    @property
    def stage(self) -> Stage:
        return self.told.stage if self.told else Stage.RETIRED

    def close(self) -> None:
        self.connection.close()
        self.kept.close_all()
