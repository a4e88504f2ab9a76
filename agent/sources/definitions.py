"""Which kinds a cluster has: Istio's and the Gateway API's are installed, and taken away, at any time."""

from collections.abc import Callable, Iterable

from agent.kube.client import Client
from agent.kube.listwatch import Event, Gone, Listed, Put
from agent.kube.watch import Watcher
from agent.model.engine.kind import Kind

_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Ends of groups that are not Kubernetes' own.
_CUSTOM = ("istio.io", "gateway.networking.k8s.io", "warren.dev")


def custom(kind: Kind) -> bool:
    """Whether a kind has to be installed."""
    return kind.group.endswith(_CUSTOM)


class Definitions:
    """The names of the CustomResourceDefinitions. Where they are forbidden, each kind may be there."""

    def __init__(self, client: Client, changed: Callable[[], None], went_back: Callable[[], None]) -> None:
        """changed: called by a thread when `known` or `has` may say something else. went_back: Watcher's."""
        self._changed = changed
        self._names: set[str] = set()
        self._listed = False
        self._hidden = False
        self.watcher = Watcher(client, [_PATH], self._told, self._noted, went_back, metadata=True)

    @property
    def known(self) -> bool:
        """Whether it is known what there is, or that this cannot be known."""
        return self._listed or self._hidden

    @property
    def visible(self) -> bool:
        """Whether a kind that is installed will be heard of."""
        return self._listed and not self._hidden

    def has(self, kind: Kind) -> bool:
        """Whether to ask for objects of a kind."""
        return not custom(kind) or self._hidden or f"{kind.plural}.{kind.group}" in self._names

    def _noted(self) -> None:
        if self.watcher.state != "away":  # then nothing else is known than before
            self._hidden = self.watcher.state in ("absent", "forbidden")
        self._changed()

    def _told(self, events: Iterable[Event]) -> None:
        news = False
        for event in events:
            if isinstance(event, Put):
                self._names.add(event.name.name)
            elif isinstance(event, Gone):
                self._names.discard(event.name.name)
            self._listed |= isinstance(event, Listed)
            news = True
        if news and self._listed:
            self._changed()
