"""Watches: the history of a resource from a revision on, as lines of JSON, and then whatever happens."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec

from tests.support.kubernetes.errors import expired
from tests.support.kubernetes.lists import Options
from tests.support.kubernetes.storage import Change, Record, Storage, key_of
from tests.support.kubernetes.views import View

_SECONDS = 1800  # of a watch that does not say for how long


async def events(
    storage: Storage, view: View, namespace: str, options: Options, bookmark_every: float
) -> AsyncIterator[bytes]:
    """Lines of a watch, possibly several in one piece, until it is over. `bookmark_every`: in seconds."""
    resource, prefix = storage.of(view.kind), key_of(namespace, "")

    def shown(record: Record | None) -> bool:
        return (
            record is not None
            and record.key.startswith(prefix)
            and (options.selects is None or options.selects(record))
        )

    position = options.version or 0
    initial = not position if options.initial_events is None else options.initial_events
    if initial:
        position = storage.revision
        now = [resource.records[key] for key in resource.keys]
        yield b"".join(_line(view, b"ADDED", record.body) for record in now if shown(record))
        if options.bookmarks:
            yield _bookmark(view, position, initial=True)
    elif options.initial_events is False and not options.version:
        position = storage.revision
    end = time.monotonic() + (options.seconds or _SECONDS)
    next_bookmark = time.monotonic() + bookmark_every
    while True:
        if position < resource.known_from:
            old = expired(f"too old resource version: {position} ({resource.known_from})")
            yield b'{"type":"ERROR","object":%b}\n' % msgspec.json.encode(old.status())
            return
        lines = []
        for change in resource.since(position):
            before, after = shown(change.before), shown(change.after)
            if before or after:
                lines.append(_changed(view, change, before, after))
        position = max(position, resource.latest)
        if lines:
            yield b"".join(lines)
        seen_all = position >= resource.latest
        if options.bookmarks and seen_all and time.monotonic() >= next_bookmark:
            yield _bookmark(view, max(position, storage.revision))
            next_bookmark = time.monotonic() + bookmark_every
        if time.monotonic() >= end or not resource.served:
            return
        if position >= resource.latest:
            wait = min(end, next_bookmark if options.bookmarks else end) - time.monotonic()
            try:
                async with asyncio.timeout(max(wait, 0)):
                    await resource.changed()
            except TimeoutError:
                continue


def _changed(view: View, change: Change, before: bool, after: bool) -> bytes:
    """A change as it looks to a watch that saw the object `before`, and sees it `after`."""
    if after:
        assert change.after is not None
        return _line(view, b"MODIFIED" if before else b"ADDED", change.after.body)
    assert change.before is not None
    return _line(view, b"DELETED", change.before.as_of(change.revision))


def _line(view: View, event: bytes, body: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (event, view.one(body))


def _bookmark(view: View, revision: int, initial: bool = False) -> bytes:
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return _line(view, b"BOOKMARK", msgspec.json.encode({"metadata": metadata}))
