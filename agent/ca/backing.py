"""What differs between an authority of a cluster and one without."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from agent.ca.clock import Clock
from agent.ca.placement import Placement
from agent.ca.rotation import Phase
from agent.ca.signer import Signer
from agent.ca.tokens import Tokens


class Backing(Protocol):
    """Where the root is, who knows tokens, and which pods there are: a folder, or a cluster."""

    @property
    def tokens(self) -> Tokens: ...

    @property
    def placement(self) -> Placement: ...

    @property
    def phase(self) -> Phase:
        """Of the root's rotation."""

    @property
    def troubles(self) -> Mapping[str, str]:
        """What is wrong, in words, by matter; empty texts are over."""

    @property
    def clock(self) -> Clock | None:
        """The API server's, where there is one."""

    def now(self) -> datetime:
        """The time by which certificates begin and end."""

    def signer(self) -> Signer:
        """What signs now. Raises Refusal."""

    def crl(self) -> str:
        """The lists of what is revoked that are told, PEM. Raises Refusal."""

    async def open(self) -> None:
        """Get what is needed to sign. Raises AuthorityError."""

    async def run(self) -> None:
        """What goes on beside the signing, for good."""
