"""Lists: pages, snapshots, and the rules of resourceVersion (Kubernetes, "API concepts")."""

import base64
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tests.support.kubernetes.errors import Cause, Refused, bad_request, expired, too_large, wrong_options
from tests.support.kubernetes.kinds import Kind
from tests.support.kubernetes.selectors import Predicate, predicate
from tests.support.kubernetes.storage import Record, Storage, span
from tests.support.kubernetes.views import View

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list"
    " without the continue parameter, or use the continue token in this response to retrieve the remainder of"
    " the results. Continuing with the provided token results in an inconsistent list - objects that were"
    " created, modified, or deleted between the time the first chunk was returned and now may show up in the"
    " list."
)


@dataclass(frozen=True)
class Options:
    """The query of a list or watch, checked. `version` None: not given."""

    version: int | None
    match: str
    limit: int
    go_on: str
    selects: Predicate | None
    initial_events: bool | None = None
    bookmarks: bool = False
    seconds: int | None = None

    def check_age(self, current: int) -> None:
        """That the version which is asked for is not yet to come. Raises Refused (504)."""
        if (self.version or 0) > current:
            raise too_large(self.version or 0, current)


def read_options(kind: Kind, query: Mapping[str, str], watch: bool = False) -> Options:
    """Raises Refused (400, 422)."""
    initial = query.get("sendInitialEvents")
    options = Options(
        _version(query.get("resourceVersion", ""), watch),
        query.get("resourceVersionMatch", ""),
        _whole(query.get("limit", "")) or 0,
        query.get("continue", ""),
        predicate(kind, query.get("labelSelector", ""), query.get("fieldSelector", "")),
        None if initial is None else truth(initial),
        truth(query.get("allowWatchBookmarks", "")),
        _whole(query.get("timeoutSeconds", "")),
    )
    causes = [
        Cause("FieldValueNotSupported" if "Unsupported" in words else "FieldValueForbidden", field, words)
        for field, words in _wrong(options, watch)
    ]
    if causes:
        raise wrong_options("ListOptions", causes)
    return options


def truth(text: str) -> bool:
    return text.lower() in ("1", "t", "true")


def listed(storage: Storage, view: View, namespace: str, options: Options) -> bytes:
    """The body of a list. Raises Refused (400, 410, 504)."""
    options.check_age(storage.revision)
    resource = storage.of(view.kind)
    exact, start = _exactly(options)
    if exact and exact < resource.known_from:
        if options.go_on:
            raise expired(_TOO_OLD, _token(-1, start))
        raise expired(f"The resourceVersion for the provided list is too old: {exact}")
    records, keys = resource.at(exact) if exact else (resource.records, resource.keys)
    revision = exact or storage.revision
    first, last = span(keys, namespace)
    limit = (
        0 if options.version == 0 else options.limit
    )  # any version: from a cache, which gives all there is
    page: list[Record] = []
    more: dict[str, str | int] = {}
    for at in range(max(first, bisect_left(keys, start)), last):
        record = records[keys[at]]
        if options.selects is not None and not options.selects(record):
            continue
        if limit and len(page) == limit:
            more = {"continue": _token(revision, page[-1].key + "\0")}
            more |= {"remainingItemCount": last - at} if options.selects is None else {}
            break
        page.append(record)
    return view.list({"resourceVersion": str(revision), **more}, [record.body for record in page])


def _exactly(options: Options) -> tuple[int, str]:
    """The one revision that a list is to be of, 0 when any recent one will do, and the key where it starts.

    A version is exact with a limit, too, for reasons of history.
    """
    if options.go_on:
        revision, start = _read_token(options.go_on)
        return max(revision, 0), start
    exact = options.match == "Exact" or (options.limit > 0 and not options.match)
    return (options.version or 0 if exact else 0), ""


def _token(revision: int, start: str) -> str:
    token = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _read_token(text: str) -> tuple[int, str]:
    try:
        token = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return int(token["rv"]), str(token["start"])
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {error}") from error


def _version(text: str, watch: bool) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    words = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
    raise Refused(500, "", words) if watch else bad_request(f"invalid resource version: {words}")


def _whole(text: str) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _wrong(options: Options, watch: bool) -> list[tuple[str, str]]:
    """Combinations that are refused: field and words."""
    found = []
    field, match = "resourceVersionMatch", options.match
    if watch and match and options.initial_events is None:
        found.append(
            (
                field,
                "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        )
    elif watch and options.initial_events is not None and match != "NotOlderThan":
        found.append(
            (field, "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        )
    elif not watch and match:
        if options.version is None:
            found.append(
                (field, "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided")
            )
        elif match not in ("Exact", "NotOlderThan"):
            known = '"Exact", "NotOlderThan", ""'
            found.append((field, f'Unsupported value: "{match}": supported values: {known}'))
        elif match == "Exact" and options.version == 0:
            found.append(
                (field, 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
            )
    if not watch and options.initial_events is not None:
        found.append(("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"))
    if not watch and options.go_on and options.version:
        raise bad_request("specifying resource version is not allowed when using continue")
    return found
