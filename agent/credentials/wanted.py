"""Which credentials the routes in force name, for the pods of this node."""

from collections.abc import Iterable, Iterator, Set
from itertools import chain

from agent.model.resources import ROUTES, Delta
from agent.model.translation.routes.policy import FILES, SECRET
from protocols.routes_pb2 import ServiceRoutes

_MARKS = (FILES.encode(), SECRET.encode())
_Asked = frozenset[tuple[str, frozenset[str]]]


class Wanted:
    """`follow` what routes become; `names` says what they name."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}  # by the routes' name

    def follow(self, delta: Delta) -> None:
        """Routes are new, different or gone."""
        for type_url, name in delta.removed:
            if type_url == ROUTES:
                self._asked.pop(name, None)
        for resource in delta.changed:
            if resource.type_url == ROUTES:
                # Most routes name none, and need not be read again for it.
                named = any(mark in resource.body for mark in _MARKS)
                asked = frozenset(_asked(ServiceRoutes.FromString(resource.body))) if named else frozenset()
                self._asked.pop(resource.name, None)
                if asked:
                    self._asked[resource.name] = asked

    def __bool__(self) -> bool:
        return bool(self._asked)

    def names(self, namespaces: Set[str]) -> frozenset[str]:
        """Those that clients in these namespaces use, by the names of their resources."""
        asked = frozenset[tuple[str, frozenset[str]]]().union(*self._asked.values())
        return frozenset(_resolved(asked, namespaces))


def _asked(routes: ServiceRoutes) -> Iterator[tuple[str, frozenset[str]]]:
    """Credentials, each with the namespaces of the clients that use it; none: all."""
    for port in routes.ports:
        for scope in chain(port.scopes, *(named.scopes for named in port.hosts)):
            for destination in scope.destinations:
                if name := destination.policy.tls.credential:
                    yield name, frozenset(scope.namespaces)


def _resolved(asked: Iterable[tuple[str, frozenset[str]]], namespaces: Set[str]) -> Iterator[str]:
    for name, only in asked:
        clients = namespaces & only if only else namespaces
        if name.startswith(SECRET):
            yield from (f"{SECRET}{namespace}/{name.removeprefix(SECRET)}" for namespace in clients)
        elif clients:
            yield name
