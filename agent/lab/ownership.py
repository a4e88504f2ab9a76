"""What a lab makes on an API server has its mark, and what it changes keeps what it was. Pure.

The mark is a label whose value no other lab has. Of an object that was there before, an annotation keeps the
merge patch (RFC 7396) that was applied, and the one that takes it back: all is on the server, so that a lab
which was killed half-way can be taken away as well.
"""

from typing import Any

import msgspec

Body = dict[str, Any]

MARK = "warren.dev/lab"
_FORMER = "warren.dev/lab-former"


class _Former(msgspec.Struct):
    """The merge patch that was applied, and its inverse."""

    applied: Body
    inverse: Body


def made(body: Body, mark: str) -> Body:
    """An object to be created, with the mark."""
    return _with_labels(body, {MARK: mark})


def is_made(stored: Body, mark: str) -> bool:
    """Whether a stored object was made by the lab of this mark."""
    metadata = stored["metadata"]
    return bool(metadata.get("labels", {}).get(MARK) == mark and not _annotation(stored))


def change(patch: Body, stored: Body, mark: str) -> Body | None:
    """The merge patch for another's object that is to become like `patch`; None: it is so already."""
    if not (inverse := _inverse(patch, stored)):
        return None
    # A second change keeps what was there before the first.
    before = _former(stored, mark) or _Former({}, _inverse({"metadata": {"labels": {MARK: mark}}}, stored))
    former = _Former(_merged(before.applied, patch), _merged(inverse, before.inverse))
    return _leaving(_with_labels(patch, {MARK: mark}), former)


def reserve(patch: Body, stored: Body, mark: str) -> Body:
    """The merge patch that leaves word of what was there, before another program applies `patch`."""
    marked = _with_labels(patch, {MARK: mark})
    return _leaving({"metadata": {"labels": {MARK: mark}}}, _Former({}, _inverse(marked, stored)))


def restoration(stored: Body, mark: str) -> Body | None:
    """The merge patch that takes a lab's changes back; None: it made the object, and may delete it.

    A value that somebody else has set meanwhile stays.
    """
    former = _former(stored, mark)
    if former is None:
        return None
    patch = _restored(former.inverse, former.applied, stored)
    metadata = patch.get("metadata", {})
    labels = {MARK: None, **metadata.get("labels", {})}
    annotations = {**metadata.get("annotations", {}), _FORMER: None}
    return {**patch, "metadata": {**metadata, "labels": labels, "annotations": annotations}}


def _former(stored: Body, mark: str) -> _Former | None:
    if stored["metadata"].get("labels", {}).get(MARK) != mark or not (text := _annotation(stored)):
        return None
    return msgspec.json.decode(text, type=_Former)


def _leaving(patch: Body, former: _Former) -> Body:
    """A merge patch that leaves word of what was there."""
    metadata, annotation = patch["metadata"], {_FORMER: msgspec.json.encode(former).decode()}
    annotations = {**metadata.get("annotations", {}), **annotation}
    return {**patch, "metadata": {**metadata, "annotations": annotations}}


def _annotation(stored: Body) -> str:
    text: str = stored["metadata"].get("annotations", {}).get(_FORMER, "")
    return text


def _with_labels(body: Body, labels: Body) -> Body:
    metadata = body.get("metadata", {})
    return {**body, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **labels}}}


def _inverse(patch: Body, stored: Body) -> Body:
    """The merge patch that takes `patch` back; empty: it changes nothing."""
    result: Body = {}
    for name, value in patch.items():
        was = stored.get(name, {} if isinstance(value, dict) else None)
        if isinstance(value, dict) and isinstance(was, dict):
            if inner := _inverse(value, was):
                result[name] = inner
        elif was != value and (was is not None or value not in (None, [])):
            result[name] = was
    return result


def _merged(under: Body, over: Body) -> Body:
    """Both merge patches, where they say different things the second."""
    result = dict(under)
    for name, value in over.items():
        former = result.get(name)
        if isinstance(former, dict) and isinstance(value, dict):
            result[name] = _merged(former, value)
        else:
            result[name] = value
    return result


def _restored(inverse: Body, applied: Body, stored: Body) -> Body:
    """Of the inverse what still undoes something of ours. Lists are filled in by servers: they do count."""
    result: Body = {}
    for name, was in inverse.items():
        now, ours = stored.get(name), applied.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            result[name] = _restored(was, ours if isinstance(ours, dict) else {}, now)
        elif name not in applied or isinstance(now, dict | list) or now == ours:
            result[name] = was
    return result
