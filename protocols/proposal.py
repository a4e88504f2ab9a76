"""What `warren authz` and `warren analyze` ask of the agent, and the answers: JSON both ways."""

from typing import Literal

from msgspec import Struct

Level = Literal["error", "warning", "info"]


class File(Struct, frozen=True):
    """Manifests, under the name that their author knows."""

    name: str
    text: str


class Remark(Struct, frozen=True):
    """Something about an object. place: `FILE:LINE`."""

    place: str
    object: str
    text: str


class Proposal(Struct):
    """What comes of files.

    invalid: what is refused; problems: of what is used, what does not work; left_out: objects that are no
    policies; pushes: serialised DeltaDiscoveryResponses, what a tunnel of the node would be told.
    """

    invalid: list[Remark] = []
    problems: list[Remark] = []
    left_out: list[Remark] = []
    pushes: list[bytes] = []


class Whose(Struct, frozen=True):
    """Which PeerAuthentication decides for a pod?"""

    namespace: str
    name: str


class Finding(Struct, frozen=True):
    """place: its file, empty for what is in force; object: `KIND NAMESPACE/NAME`, empty if there is none."""

    code: str
    level: Level
    object: str
    text: str
    place: str = ""
