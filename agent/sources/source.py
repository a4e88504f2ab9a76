"""Where the mesh's objects come from: a folder of manifests, or an API server."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.model.schema.objects import Key, Object

Changes = list[tuple[Key, Object | None]]  # None: the object is gone


class Rejection(Protocol):
    """Something that is not used; as a string: what, and why. `key` is None when it cannot be told."""

    @property
    def key(self) -> Key | None: ...


class Health(NamedTuple):
    """How a source does.

    age: seconds for which what is in force may be out of date, 0 while changes are told as they happen.
    restarts: how often a list or watch was asked for again, by reason. kinds: the state of each.
    unsynced: kinds of which it is not known what there is, and why; meanwhile nothing new is let in.
    held: how many changes are held back meanwhile.
    """

    age: float
    restarts: Mapping[str, int] = {}
    kinds: Mapping[str, str] = {}
    unsynced: Mapping[str, str] = {}
    held: int = 0


class Source(Protocol):
    """Objects, first all and then what changes. While the source is away, what it told stays in force."""

    @property
    def rejected(self) -> Sequence[Rejection]:
        """What is not used at the moment, as it stands: a former version may be."""

    @property
    def health(self) -> Health: ...

    def changes(self) -> AsyncGenerator[Changes, None]:
        """First everything there is, then what is different; an empty list: only `rejected` is."""

    def close(self) -> None:
        """End it, and what it holds open."""
