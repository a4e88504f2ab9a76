"""One client's stream: its subscriptions by type, in the order in which it asked for them. No I/O."""

import asyncio

from agent.model.resources import LOCAL
from agent.xds.cache import Cache
from agent.xds.subscription import Answer, Subscription
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

# Of one client. A type that we do not know is answered too: its client waits for that to be ready.
MAX_TYPES = 64


class TooManyTypes(Exception):
    """A client asks for more types than any real one has."""


class Stream:
    """`receive` requests, take the `next_response`, until there is `news` of another one; `close` it."""

    def __init__(self, peer: str, cache: Cache) -> None:
        self.peer = peer
        self.node = ""  # as the client calls itself
        self.news = asyncio.Event()
        self.subscriptions: dict[str, Subscription] = {}
        self._features: frozenset[str] = frozenset()
        self._cache = cache

    def __str__(self) -> str:
        return self.node or self.peer

    def receive(self, request: DeltaDiscoveryRequest) -> Answer | None:
        """Take a request; gives what it says to a response. Raises TooManyTypes."""
        self.node = request.node.id or self.node
        self._features |= frozenset(request.node.client_features)
        subscription = self.subscriptions.get(request.type_url)
        if subscription is None:
            if len(self.subscriptions) == MAX_TYPES:
                raise TooManyTypes(f"more than {MAX_TYPES} types of resources")
            withheld = request.type_url in LOCAL and not self.peer.startswith("unix:")
            cache = Cache() if withheld else self._cache
            subscription = Subscription(request.type_url, cache, self._features, self.news.set)
            self.subscriptions[request.type_url] = subscription
        self.news.set()
        return subscription.receive(request)

    def close(self) -> None:
        """The client is gone."""
        for subscription in self.subscriptions.values():
            subscription.close()

    def next_response(self) -> DeltaDiscoveryResponse | None:
        """What to send now, of whatever type; None when there is nothing."""
        for subscription in self.subscriptions.values():
            if response := subscription.next_response():
                return response
        return None
