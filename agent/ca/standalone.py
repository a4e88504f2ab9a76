"""Without a cluster: the root in a folder, tokens in a file."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from agent.ca.clock import system_time
from agent.ca.directory import open_root
from agent.ca.placement import Placement
from agent.ca.rotation import Phase
from agent.ca.signer import Signer
from agent.ca.tokens import TokenFile


class Standalone:
    """The backing of an authority with a folder of manifests."""

    phase = Phase.STEADY  # whoever owns the folder exchanges roots by hand, with a restart
    troubles: Mapping[str, str] = MappingProxyType({})
    clock = None  # there are no others who would have to agree

    def __init__(self, directory: Path, tokens: Path, trust_domain: str) -> None:
        """directory: of root.pem and root.key; see TokenFile for `tokens`. Raises AuthorityError."""
        self.tokens = TokenFile(tokens)
        self.placement = Placement()
        self._root = open_root(directory, trust_domain)

    def signer(self) -> Signer:
        return self._root

    def crl(self) -> str:
        return ""  # tunnels read the folder's file

    def now(self) -> datetime:
        return system_time()

    async def open(self) -> None:
        """It is open."""

    async def run(self) -> None:
        """There is nothing to do."""
