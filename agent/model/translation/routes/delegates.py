"""Rules that one VirtualService leaves to another: both's matches, the other's actions before its own."""

from collections.abc import Iterator, Set
from typing import TypeVar

from msgspec.structs import replace

from agent.model.engine.view import View
from agent.model.schema.istio.http_rule import Headers, HttpMatch, HttpRule
from agent.model.schema.istio.string_match import StringMatch
from agent.model.schema.istio.virtual_service import VirtualService
from agent.model.translation.routes.client import is_exported

T = TypeVar("T")

DELEGATES_TO = "delegates to"  # index: VirtualServices by those that they delegate to

_INHERITED = (
    *("rewrite", "direct_response", "timeout", "retries", "fault", "mirror", "mirror_percent"),
    *("mirror_percentage", "mirrors", "cors_policy", "headers"),
)


def with_delegates(view: View, item: VirtualService) -> Iterator[tuple[VirtualService, HttpRule]]:
    """All rules, each with the VirtualService in whose namespace its names are resolved.

    A rule whose delegate is not there, or is not for its namespace, is left out: its requests go on to the
    next rule, as in Istio.
    """
    for rule in item.spec.http:
        if not rule.delegate:
            yield item, rule
        elif other := delegate_of(view, item, rule):
            merged = (_merged(rule, theirs) for theirs in other.spec.http)
            yield from ((other, one) for one in merged if one)


def hosts_of(view: View, item: VirtualService) -> Set[str]:
    """The hosts that its rules are for: its own, or those of whoever delegates to it."""
    roots = view.store.each(VirtualService, DELEGATES_TO, item.metadata.namespace, item.metadata.name)
    return {*item.spec.hosts, *(host for root in roots for host in root.spec.hosts)}


def delegate_of(view: View, item: VirtualService, rule: HttpRule) -> VirtualService | None:
    """The VirtualService that a rule delegates to, if it is one that can be delegated to."""
    namespace, delegate = item.metadata.namespace, rule.delegate
    if delegate is None:
        return None
    other = view.store.get(VirtualService, delegate.namespace or namespace, delegate.name)
    usable = other and not other.spec.hosts
    exported = other and is_exported(other.spec.export_to, other.metadata.namespace, namespace)
    return other if usable and exported else None


def _merged(root: HttpRule, other: HttpRule) -> HttpRule | None:
    """None: they contradict each other."""
    matches = _merged_matches(root.match, other.match)
    if matches is None:
        return None
    inherited = {name: getattr(root, name) for name in _INHERITED if _is_unset(getattr(other, name))}
    return replace(other, name=_joined(root.name, other.name), match=matches, **inherited)


def _is_unset(value: object) -> bool:
    return value in (None, "", (), Headers())


def _merged_matches(
    root: tuple[HttpMatch, ...], other: tuple[HttpMatch, ...]
) -> tuple[HttpMatch, ...] | None:
    """Each of the other's has to narrow one of the root's at least; None: one does not."""
    if not root or not other:
        return root or other
    found = [[_merged_match(ours, theirs) for ours in root if _narrows(theirs, ours)] for theirs in other]
    return tuple(one for pairs in found for one in pairs) if all(found) else None


def _merged_match(root: HttpMatch, other: HttpMatch) -> HttpMatch:
    return HttpMatch(
        name=_joined(root.name, other.name),
        uri=other.uri or root.uri,
        scheme=other.scheme or root.scheme,
        method=other.method or root.method,
        authority=other.authority or root.authority,
        headers=root.headers | other.headers,
        without_headers=root.without_headers | other.without_headers,
        query_params=root.query_params | other.query_params,
        ignore_uri_case=other.ignore_uri_case,
        port=other.port or root.port,
        source_labels={**root.source_labels, **other.source_labels},
        source_namespace=other.source_namespace or root.source_namespace,
        gateways=other.gateways or root.gateways,
        stat_prefix=other.stat_prefix or root.stat_prefix,
    )


def _narrows(other: HttpMatch, root: HttpMatch) -> bool:
    """Whether a delegate's match asks for no less than a match of the root (Istio's hasConflict)."""
    single = ("uri", "scheme", "method", "authority")
    pairs = [(getattr(root, name), getattr(other, name)) for name in single]
    for name in ("headers", "without_headers", "query_params"):
        ours = getattr(root, name)
        pairs += [(ours.get(key), value) for key, value in getattr(other, name).items()]
    labels = root.source_labels
    return (
        all(_is_within(ours, theirs) for ours, theirs in pairs)
        and root.ignore_uri_case == other.ignore_uri_case
        and (not root.port or not other.port or root.port == other.port)
        and root.source_namespace in ("", other.source_namespace)
        and all(labels.get(name, value) == value for name, value in other.source_labels.items())
        and (not root.gateways or {*other.gateways} <= {*root.gateways})
    )


def _is_within(root: StringMatch | None, other: StringMatch | None) -> bool:
    """Regular expressions cannot be compared: they are within none."""
    if root is None or other is None:
        return True
    if root.exact:
        return other.exact == root.exact
    if root.prefix:
        return (other.prefix or other.exact or "").startswith(root.prefix)
    return False


def _joined(root: str, other: str) -> str:
    return f"{root}-{other}" if root and other else root or other
