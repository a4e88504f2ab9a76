"""One client's subscription to one type of resource: the delta protocol without any I/O.

A client that is slow to acknowledge costs nothing but the names of what has changed meanwhile: the next
response is made from the state at that time. Source of the rules: Envoy's "xDS REST and gRPC protocol",
section "Incremental xDS", and for what Istio's ztunnel relies on, its client.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from agent.model.resources import PRIVATE, Resource
from agent.xds.cache import Cache
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

EVERYTHING = "*"
# What a client may understand beyond the protocol: a large response in parts, on which it acts when it has
# the last one; a resource that it asked for by an alias under the resource's own name.
PARTS = "warren.parts"
ALIASES = "warren.aliases"
PART_BYTES = 256 * 1024  # a whole large mesh in one message would be there several times over, at both ends


class Rejection(NamedTuple):
    """A response that the client refused, wholly or for the resources that its message names (`names`)."""

    names: tuple[str, ...]
    reason: str


class Answer(NamedTuple):
    """What a client said to a response with these resources.

    since: when the oldest change in it was made (monotonic clock), None where it had only what was asked for.
    """

    names: tuple[str, ...]
    rejection: Rejection | None
    since: float | None


class Subscription:
    """`receive` a request, take the `next_response`; the cache tells what has `changed` until `close`."""

    def __init__(
        self,
        type_url: str,
        cache: Cache,
        features: Set[str] = frozenset(),
        news: Callable[[], None] = lambda: None,
    ) -> None:
        """features: of PARTS and ALIASES, what the client understands. news: there may be a next response."""
        self.type_url = type_url
        self.acks = 0
        self.nacks = 0
        self.acked_version: str | None = None  # the configuration's, that the client last accepted
        self.rejection: Rejection | None = None  # of the last answer, if it was one
        self._cache = cache
        self._part_bytes = PART_BYTES if PARTS in features else None
        self._by_own_name = ALIASES in features
        self._news = news
        self._began = False
        self._wildcard = False
        self._names: set[str] = set()  # asked for one by one, by name or alias
        self._sent: dict[str, str] = {}  # name -> version that the client has
        self._inherited: set[str] = set()  # of those, what it came with and we have never known
        self._changed: set[str] = set()  # proper names to look at
        self._owed: set[str] = set()  # names to answer, whatever the client has
        self._recheck = False  # the names asked for one by one are to be looked at
        self._since: float | None = (
            None  # the oldest change that is not told yet, and that of what is told now
        )
        self._told_since: float | None = None
        self._rest: list[tuple[str, Resource | None]] = []  # to be told in parts, the next one last
        self._nonce = 0
        self._pending: DeltaDiscoveryResponse | None = None  # waits for its acknowledgement

    @property
    def current(self) -> bool:
        """Whether the client has, and has accepted, everything as it is now."""
        behind = self._pending or self._rest or self._changed or self._owed or self._recheck
        return self._began and not behind and self.rejection is None

    def receive(self, request: DeltaDiscoveryRequest) -> Answer | None:
        """Take a request; gives what it says to a response."""
        first = not self._began
        answer = None if first else self._answered(request)
        if first:
            self._begin(request)
        self._subscribe(set(request.resource_names_subscribe), known=self._sent if first else {})
        self._unsubscribe(set(request.resource_names_unsubscribe))
        return answer

    def changed(self, names: Set[str], *, relinked: bool, since: float | None) -> None:
        """See `Watcher`."""
        self._since = since if self._since is None else self._since
        self._changed |= names
        # Who hears of things by other names than their own does so of each change.
        self._recheck = self._recheck or relinked or not self._by_own_name
        self._news()

    def close(self) -> None:
        """The client is gone."""
        self._cache.watch(self.type_url, self, frozenset())

    def next_response(self) -> DeltaDiscoveryResponse | None:
        """What to send now; None when there is nothing, or the last response is not answered yet."""
        if self._pending or not self._began:
            return None
        if not self._rest:
            self._rest = sorted(self._due(), key=_services_first, reverse=True)
            self._changed, self._owed, self._recheck = set(), set(), False
            self._told_since, self._since = self._since, None
            # The first request is always answered, if need be with nothing: its client waits to be ready.
            if not self._rest and self._nonce:
                return None
        self._nonce += 1
        self._pending = self._next_part()
        return self._pending

    def _next_part(self) -> DeltaDiscoveryResponse:
        response = DeltaDiscoveryResponse(
            type_url=self.type_url, system_version_info=self._cache.version, nonce=str(self._nonce)
        )
        size = 0
        while self._rest and (self._part_bytes is None or size < self._part_bytes):
            name, resource = self._rest.pop()
            size += len(name)
            if resource is None:
                self._sent.pop(name, None)
                response.removed_resources.append(name)
                continue
            self._sent[name] = resource.version
            entry = response.resources.add(name=name, version=resource.version)
            entry.aliases.extend(resource.aliases)
            entry.resource.type_url = self.type_url
            entry.resource.value = resource.body
            size += len(resource.body)
        response.partial = bool(self._rest)
        return response

    def _begin(self, request: DeltaDiscoveryRequest) -> None:
        self._began = True
        self._sent = dict(self._shared(request.initial_resource_versions))
        self._inherited = set(self._sent)
        if not request.resource_names_subscribe and not request.resource_names_unsubscribe:
            self._want_everything()

    def _shared(self, versions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """The same in our own strings: a client of a large mesh comes with tens of thousands."""
        for name, version in versions.items():
            resource = self._cache.get(self.type_url, name)
            if resource and (resource.name, resource.version) == (name, version):
                yield resource.name, resource.version
            else:
                yield name, version

    def _answered(self, request: DeltaDiscoveryRequest) -> Answer | None:
        """Match an answer with the response that waits for it. One to an older response says nothing new."""
        if self._pending is None or request.response_nonce != self._pending.nonce:
            return None
        response, self._pending = self._pending, None
        names = tuple(entry.name for entry in response.resources)
        if request.HasField("error_detail"):
            self.nacks += 1
            reason = request.error_detail.message
            self.rejection = Rejection(tuple(name for name in names if name in reason), reason)
        else:
            self.acks += 1
            self.acked_version = response.system_version_info
            self.rejection = None
        return Answer(names, self.rejection, None if self._rest else self._told_since)

    def _subscribe(self, names: set[str], known: Iterable[str]) -> None:
        if EVERYTHING in names:
            self._want_everything()
        names -= {EVERYTHING}
        self._names |= names
        # Sent again when asked for again: the client may have forgotten it, unless it just said what it has.
        self._owed |= names.difference(known)
        self._recheck = self._recheck or bool(names)

    def _unsubscribe(self, names: set[str]) -> None:
        if EVERYTHING in names:
            self._wildcard, self._changed, self._recheck = False, set(), True
            wanted = self._wanted_by_name()
            self._sent = {name: version for name, version in self._sent.items() if name in wanted}
            self._owed &= self._names  # the right to the others is gone
        dropped = (names & self._names) - {EVERYTHING}
        self._names -= names
        self._owed -= dropped
        if self._wildcard:  # the client drops it, but still has a right to it
            self._owed |= dropped
        else:
            for name in dropped:
                self._sent.pop(name, None)
        self._recheck = self._recheck or bool(dropped)

    def _want_everything(self) -> None:
        if self.type_url in PRIVATE:
            return
        self._wildcard = True
        self._cache.watch(self.type_url, self, None)
        self._changed = {*self._cache.names(self.type_url), *self._sent}

    def _wanted_by_name(self) -> set[str]:
        """What was asked for one by one, the endpoints of the services among it, and whoever has one of their
        addresses, too: who is there decides how an endpoint is reached.
        """
        wanted: set[str] = set()
        for name in self._names:
            wanted.add(self._told_as(name))
            if resource := self._cache.get(self.type_url, name):
                wanted |= self._cache.endpoints(resource)
        resources = [self._cache.get(self.type_url, name) for name in wanted] if self._by_own_name else []
        return wanted.union(*(self._cache.owners(resource) for resource in resources if resource))

    def _told_as(self, name: str) -> str:
        """The name under which a client hears of what it asked for by `name`."""
        resource = self._cache.get(self.type_url, name) if self._by_own_name else None
        return resource.name if resource else name

    def _due(self) -> Iterator[tuple[str, Resource | None]]:
        """What the client is to be told, with None for what is gone."""
        self._disinherit()
        owed = set(map(self._told_as, self._owed))
        wanted: Set[str] = self._sent.keys()
        candidates = self._changed | owed
        if self._recheck:
            wanted = self._wanted_by_name()
            self._watch(wanted)
            candidates |= wanted if self._wildcard else wanted | self._sent.keys()
        for name in candidates:
            served = self._wildcard or name in wanted or name in owed
            resource = self._cache.get(self.type_url, name) if served else None
            if resource is None and name in self._inherited and name not in owed:
                continue  # it may have been made by what could not be read
            if name in owed or self._sent.get(name) != (resource.version if resource else None):
                yield name, resource

    def _watch(self, wanted: Set[str]) -> None:
        """Until the next look at all names a change matters that concerns one of these."""
        everything = self._wildcard or (self._names and not self._by_own_name)
        names = None if everything else self._names | wanted | self._inherited
        self._cache.watch(self.type_url, self, names)

    def _disinherit(self) -> None:
        """Look at what the client came with and is not there: it is gone, unless it could not be read."""
        if not self._inherited:
            return
        former = self._inherited & self._sent.keys()
        self._inherited = set(filter(self._may_be_unread, former))
        if gone := former - self._inherited:
            self._changed |= gone if self._wildcard else set()
            self._recheck = True

    def _may_be_unread(self, name: str) -> bool:
        there = self._cache.get(self.type_url, name)
        return there is None and self._cache.unread.may_make(self.type_url, name)


def _services_first(due: tuple[str, Resource | None]) -> tuple[bool, str]:
    """Added before it is referred to."""
    name, resource = due
    return bool(resource and resource.endpoint_of), name
