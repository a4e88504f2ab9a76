"""Keeps the credentials that this node's pods may use up to date: read when routes name them, and again."""

import asyncio
import logging
from collections.abc import Callable, Set
from pathlib import Path
from typing import NoReturn

from agent.credentials.material import ReadSecret, UnreachableError, read
from agent.credentials.wanted import Wanted
from agent.model.resources import CREDENTIAL, Delta, Resource, credential_resource

_AGAIN = 10.0  # seconds
log = logging.getLogger(__name__)


class Keeper:
    """`follow` what is different in the routes; `run` reads again what may have been renewed."""

    def __init__(
        self, read_secret: ReadSecret, folders: tuple[Path, ...], namespaces: Callable[[], Set[str]]
    ) -> None:
        """folders: whose files may be named; namespaces: of the pods of this node."""
        self._read_secret, self._folders, self._namespaces = read_secret, folders, namespaces
        self._wanted = Wanted()
        self._known: dict[str, Resource] = {}
        self._problems: dict[str, str] = {}
        self._reading = asyncio.Lock()

    async def follow(self, delta: Delta) -> Delta:
        """With the credentials that its routes name, and without those that none names any more."""
        self._wanted.follow(delta)
        told = await self._read(again=False)
        return Delta((*told.changed, *delta.changed), (*told.removed, *delta.removed))

    async def run(self, publish: Callable[[Delta], None]) -> NoReturn:
        """Tell what has been renewed, for ever."""
        while True:
            await asyncio.sleep(_AGAIN)
            if delta := await self._read(again=True):
                publish(delta)

    async def _read(self, *, again: bool) -> Delta:
        async with self._reading:
            names = self._wanted.names(self._namespaces()) if self._wanted else frozenset[str]()
            removed = [name for name in self._known if name not in names]
            for name in removed:
                del self._known[name]
                self._problems.pop(name, None)
            due = sorted(names if again else names - self._known.keys())
            changed = await asyncio.to_thread(self._look, due) if due else []
            self._known |= {one.name: one for one in changed}
            return Delta(tuple(changed), tuple((CREDENTIAL, name) for name in removed))

    def _look(self, names: list[str]) -> list[Resource]:
        """Those that are different from what is known."""
        found = []
        for name in names:
            try:
                credential = read(name, self._read_secret, self._folders)
            except UnreachableError as error:
                self._note(name, f"{error}; what was known stays in force")
                continue
            self._note(name, credential.problem)
            resource = credential_resource(credential)
            if resource != self._known.get(name):
                found.append(resource)
        return found

    def _note(self, name: str, problem: str) -> None:
        """Each problem is told once."""
        if problem and self._problems.get(name) != problem:
            log.warning("TLS origination: %s: %s", name, problem)
        self._problems[name] = problem
