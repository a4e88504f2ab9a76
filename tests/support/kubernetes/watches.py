"""Watches: the history of a resource from a revision on, as lines of JSON, and then whatever happens."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec

from tests.support.kubernetes.errors import Refused, expired
from tests.support.kubernetes.lists import Options
from tests.support.kubernetes.storage import Change, Record, Storage, key_of
from tests.support.kubernetes.views import View

_SECONDS = 1800  # of a watch that does not say for how long


async def events(
    storage: Storage, view: View, namespace: str, options: Options, bookmark_every: float
) -> AsyncIterator[bytes]:
    """Lines of a watch, possibly several in one piece, until it is over. `bookmark_every`: in seconds."""
    resource, watch = storage.of(view.kind), _Watch(storage, view, namespace, options)
    end = time.monotonic() + (options.seconds or _SECONDS)
    next_bookmark = time.monotonic() + bookmark_every if options.bookmarks else end
    try:
        yield watch.beginning()
        while time.monotonic() < end:
            yield watch.news()
            if not resource.served:
                return
            if watch.current and time.monotonic() >= next_bookmark:
                yield watch.bookmark() if not watch.ahead else b""
                next_bookmark = time.monotonic() + bookmark_every
            if watch.current:
                await _until(min(end, next_bookmark), resource.changed())
    except Refused as error:
        yield b'{"type":"ERROR","object":%b}\n' % msgspec.json.encode(error.status())


class _Watch:
    """One watch, and how far it has come: all changes up to a revision."""

    def __init__(self, storage: Storage, view: View, namespace: str, options: Options) -> None:
        self._storage, self._view, self._options = storage, view, options
        self._resource, self._prefix = storage.of(view.kind), key_of(namespace, "")
        self._position = options.version or 0

    @property
    def current(self) -> bool:
        """Whether there is no change yet to be told."""
        return self._position >= self._resource.latest

    @property
    def ahead(self) -> bool:
        """Whether it goes on where the server has not been yet: until then it tells nothing at all."""
        return self._position > self._storage.revision

    def beginning(self) -> bytes:
        """What there is, when that is asked for. Raises Refused (410) when the history begins later."""
        asked = self._options.initial_events
        if self._position and not asked:
            if self._position < self._resource.known_from:
                raise _too_old(self._position, self._resource.known_from)
            return b""
        self._position = self._storage.revision
        if asked is False:
            return b""
        records = [self._resource.records[key] for key in self._resource.keys]
        lines = [self._line(b"ADDED", record.body) for record in records if self._shown(record)]
        if self._options.bookmarks:
            lines.append(self.bookmark({"k8s.io/initial-events-end": "true"}))
        return b"".join(lines)

    def news(self) -> bytes:
        """What has changed since. Raises Refused (410) when some of it is not known any more."""
        if self._position < self._resource.lost:
            raise _too_old(self._position, self._resource.lost)
        lines = [self._changed(change) for change in self._resource.since(self._position)]
        self._position = max(self._position, self._storage.revision)
        return b"".join(lines)

    def bookmark(self, annotations: dict[str, str] | None = None) -> bytes:
        """How far the watch has come; nothing of this kind has changed since."""
        version = str(max(self._position, self._storage.revision))
        metadata = {"resourceVersion": version} | ({"annotations": annotations} if annotations else {})
        return self._line(b"BOOKMARK", msgspec.json.encode({"metadata": metadata}))

    def _changed(self, change: Change) -> bytes:
        """A change as it looks from here: what comes into view is added, what leaves it is deleted."""
        if change.after is not None and self._shown(change.after):
            event = b"MODIFIED" if self._shown(change.before) else b"ADDED"
            return self._line(event, change.after.body)
        if change.before is not None and self._shown(change.before):
            return self._line(b"DELETED", change.before.as_of(change.revision))
        return b""

    def _shown(self, record: Record | None) -> bool:
        if record is None or not record.key.startswith(self._prefix):
            return False
        return self._options.selects is None or self._options.selects(record)

    def _line(self, event: bytes, body: bytes) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (event, self._view.one(body))


async def _until(deadline: float, changed: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
            await changed
    except TimeoutError:
        return


def _too_old(position: int, known: int) -> Refused:
    return expired(f"too old resource version: {position} ({known})")
