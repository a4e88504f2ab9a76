"""Which node a bearer token stands for: by a file, where there is no cluster to ask."""

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from agent.ca.errors import AuthorityError, Reason, Refusal

log = logging.getLogger("warren.ca")
_Stamp = tuple[int, int, int]


class Caller(NamedTuple):
    """Who calls: a node's tunnel, for the workloads there, or a gateway for itself alone.

    gateway: namespace, service account and pod.
    """

    node: str
    gateway: tuple[str, str, str] | None = None

    def __str__(self) -> str:
        return f"gateway {self.gateway[0]}/{self.gateway[2]} on {self.node}" if self.gateway else self.node


class Tokens(Protocol):
    """What knows tokens."""

    async def caller(self, token: str, address: str) -> Caller:
        """Who calls with `token` from `address`. Raises Refusal."""


class TokenFile:
    """A file of JSON `{"<token>": "<node name>"}`, read again when it changes.

    While the file cannot be used nobody is admitted: certificates that were given last for hours, so there is
    time, and a token that was taken out of the file must not live on.
    """

    def __init__(self, path: Path) -> None:
        """Raises AuthorityError when the file cannot be used."""
        self._path = path
        self._stamp: _Stamp | None = None
        self._nodes: dict[bytes, str] = {}
        self._read(self._stamp_now())

    async def caller(self, token: str, address: str) -> Caller:
        """The node that calls with `token`. Raises Refusal."""
        try:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._read(stamp)
                log.info("%s: %d tokens", self._path, len(self._nodes))
        except AuthorityError as error:
            log.error("%s", error)
            raise Refusal(Reason.TOKENS_UNUSABLE, "the authority cannot check tokens now") from error
        node = self._nodes.get(_digest(token))
        if node is None:
            raise Refusal(Reason.UNKNOWN_TOKEN, "the token is not known")
        return Caller(node)

    def _stamp_now(self) -> _Stamp:
        try:
            status = self._path.stat()
        except OSError as error:
            self._stamp = None
            raise AuthorityError(f"the tokens file: {error}") from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self, stamp: _Stamp) -> None:
        self._stamp = None
        try:
            nodes = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AuthorityError(
                f'{self._path} must be JSON {{"<token>": "<node name>"}}: {error}'
            ) from error
        if "" in nodes or "" in nodes.values():
            raise AuthorityError(f"{self._path} has an empty token or node name")
        self._nodes = {_digest(token): node for token, node in nodes.items()}
        self._stamp = stamp


def _digest(token: str) -> bytes:
    """What is compared in its place: how long that takes tells nothing of the token."""
    return hashlib.sha256(token.encode()).digest()
