"""Duplicates of listeners, kept so that these outlive who listens."""

import os
from collections.abc import Iterable, Iterator, Set

from tunnel.handover import Place


class Kept:
    """Descriptors by where they listen; they are ours to close."""

    def __init__(self) -> None:
        self._by_namespace: dict[int, list[tuple[Place, int]]] = {}

    def __iter__(self) -> Iterator[tuple[Place, int]]:
        for listeners in self._by_namespace.values():
            yield from listeners

    @property
    def namespaces(self) -> Set[int]:
        """The inodes of the network namespaces in which they are."""
        return self._by_namespace.keys()

    def add(self, listeners: Iterable[tuple[Place, int]]) -> None:
        for place, fd in listeners:
            self._by_namespace.setdefault(place[0], []).append((place, fd))

    def take(self) -> list[tuple[Place, int]]:
        """All, for somebody else to keep."""
        taken, self._by_namespace = [*self], {}
        return taken

    def close(self, netns: int) -> None:
        """Those of a network namespace."""
        for _, fd in self._by_namespace.pop(netns, ()):
            os.close(fd)

    def close_all(self) -> None:
        for _, fd in self.take():
            os.close(fd)
