"""Objects that are there and cannot be read: what they have made is not taken for gone, all else is."""

from collections.abc import Container, Iterable

from msgspec import Struct

from agent.model.kinds import KINDS
from agent.model.mesh import Mesh
from agent.model.schema.objects import Key


class Unread(Struct, frozen=True):
    """keys: of those of which no version is in force. None: of an object of which nothing can be told."""

    mesh: Mesh = Mesh()
    keys: frozenset[Key | None] = frozenset()

    @classmethod
    def of(cls, mesh: Mesh, objects: Container[Key], rejected: Iterable[Key | None]) -> "Unread":
        """Of what a source rejects, those that are not in force in some version: among `objects`."""
        known = (key for key in rejected if key is None or key.kind in KINDS)
        return cls(mesh, frozenset(key for key in known if key is None or key not in objects))

    def may_make(self, type_url: str, name: str) -> bool:
        """Whether one of them may be what a resource was made of."""
        return any(
            key is None or KINDS[key.kind].may_make(self.mesh, key, type_url, name) for key in self.keys
        )


NOTHING_UNREAD = Unread()
