"""What of a policy is asked of requests -> `istio.security.RequestTest`."""

import re
from collections.abc import Iterator

from agent.model.schema.istio.authorization_policy import Operation, Source, Values, When
from agent.model.translation.policy_values import addresses, string
from protocols.security_pb2 import (
    AUDIENCE,
    CLAIM,
    HEADER,
    HOST,
    METHOD,
    PATH,
    PRESENTER,
    REMOTE_ADDRESS,
    REQUEST_PRINCIPAL,
    RequestAttribute,
    RequestTest,
    StringMatch,
)

Said = tuple[str, RequestTest | None]  # a field or key as written; None: the tunnels have no words for it

_FIELDS = {
    "request_principals": ("requestPrincipals", "notRequestPrincipals", REQUEST_PRINCIPAL),
    "remote_ip_blocks": ("remoteIpBlocks", "notRemoteIpBlocks", REMOTE_ADDRESS),
    "hosts": ("hosts", "notHosts", HOST),
    "methods": ("methods", "notMethods", METHOD),
    "paths": ("paths", "notPaths", PATH),
}
_KEYS = {
    "remote.ip": REMOTE_ADDRESS,
    "request.auth.principal": REQUEST_PRINCIPAL,
    "request.auth.audiences": AUDIENCE,
    "request.auth.presenter": PRESENTER,
}
# RFC 9110's token; of HTTP/2's pseudo-headers those that have a place of their own here.
_HEADER = re.compile(r"request\.headers\[(:authority|:method|[A-Za-z0-9!#$%&'*+.^_`|~-]+)\]")
_CLAIM = re.compile(r"request\.auth\.claims((?:\[[^\[\]]+\])+)")


def of_fields(block: Source | Operation) -> Iterator[Said]:
    """Each field of a block that asks for requests."""
    for name, (written, inverted, attribute) in _FIELDS.items():
        if values := getattr(block, name, ()):
            yield written, _test(attribute, values, False)
        if values := getattr(block, f"not_{name}", ()):
            yield inverted, _test(attribute, values, True)


def of_key(when: When) -> Iterator[Said]:
    """Its values, and those that it must not have."""
    attribute, path = _meant(when.key)
    for values, negated in ((when.values, False), (when.not_values, True)):
        if values:
            yield when.key, _test(attribute, values, negated, path) if attribute else None


def _meant(key: str) -> tuple[RequestAttribute | None, list[str]]:
    if header := _HEADER.fullmatch(key):
        return HEADER, [header[1].lower()]
    if claim := _CLAIM.fullmatch(key):
        return CLAIM, claim[1][1:-1].split("][")
    return _KEYS.get(key), []


def _test(
    attribute: RequestAttribute, values: Values, negated: bool, path: list[str] | None = None
) -> RequestTest | None:
    test = RequestTest(attribute=attribute, path=path, negated=negated)
    if attribute == REMOTE_ADDRESS:
        test.ranges.extend(addresses(values))
    elif attribute == PATH:
        if any(map(_is_odd, values)):
            return None
        test.values.extend(map(_path, values))
    else:
        test.values.extend(map(string, values))
    return test


def _path(value: str) -> StringMatch:
    return StringMatch(template=value) if "{" in value else string(value)


def _is_odd(value: str) -> bool:
    """A template that fits no path, or in which something follows `{**}`."""
    return "{" in value and not (value.startswith("/") and "{**}" not in value.removesuffix("{**}"))
