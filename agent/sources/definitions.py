"""Which kinds a cluster has: Istio's and the Gateway API's are installed, and taken away, at any time."""

from collections.abc import Callable, Iterable

from agent.kube.client import Client
from agent.kube.listwatch import Event, Gone, Listed, Put
from agent.kube.watch import Watcher
from agent.model.kinds import Kind

_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CUSTOM = ("istio.io", "gateway.networking.k8s.io")  # ends of groups that are not Kubernetes' own


def custom(kind: Kind) -> bool:
    """Whether a kind has to be installed."""
    return kind.group.endswith(_CUSTOM)


class Definitions:
    """The names of the CustomResourceDefinitions. Where they are forbidden, each kind may be there."""

    def __init__(self, client: Client, changed: Callable[[], None]) -> None:
        """changed: called by a thread when `known` or `has` may say something else."""
        self._changed = changed
        self._names: set[str] = set()
        self._listed = False
        self._hidden = False
        self.watcher = Watcher(client, [_PATH], self._told, self._noted, metadata=True)

    @property
    def known(self) -> bool:
        """Whether it is known what there is, or that this cannot be known."""
        return self._listed or self._hidden

    def has(self, kind: Kind) -> bool:
        """Whether to ask for objects of a kind."""
        if not custom(kind):
            return True
        return f"{kind.plural}.{kind.group}" in self._names if self._listed else self._hidden

    def _noted(self) -> None:
        # Once for good: that the server is away as well takes no kind away.
        self._hidden |= self.watcher.state in ("absent", "forbidden")
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
