"""Objects that are there and cannot be read: what they have made is not taken for gone, all else is."""

from msgspec import Struct

from agent.model.kinds import KINDS
from agent.model.mesh import Mesh
from agent.model.schema.objects import Key


class Unread(Struct, frozen=True):
    """keys: of those of which no version is in force. None: of an object of which nothing can be told."""

    mesh: Mesh = Mesh()
    keys: frozenset[Key | None] = frozenset()

    def may_make(self, type_url: str, name: str) -> bool:
        """Whether one of them may be what a resource was made of."""
        return any(
            key is None or KINDS[key.kind].may_make(self.mesh, key, type_url, name) for key in self.keys
        )


NOTHING_UNREAD = Unread()
