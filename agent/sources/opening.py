"""What the option --source names, opened."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from agent.model.kinds import KINDS
from agent.model.mesh import NEVER_ENROLLED
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key, Object
from agent.sources.folder import Folder, netns_of
from agent.sources.source import Changes, Source

if TYPE_CHECKING:
    from agent.kube.client import Client


_OF_CAPTURE = ("Pod", "Namespace")


class Opened(NamedTuple):
    """netns_of: where the source says that a pod's network namespace is; None: it does not.

    client: of the API server, if it is one.
    """

    source: Source
    netns_of: Callable[[Pod], Path | None] | None
    client: "Client | None" = None


def open_source(
    source: Path | Literal["kube"],
    kubeconfig: Path | None,
    node: str | None,
    *,
    own_pods: bool = False,
    listed: Callable[[Changes], None] = lambda changes: None,
) -> Opened:
    """kubeconfig and node, our own, are for `kube`; node: None where pods of all nodes are served.

    own_pods: no more than what says which pods of the node are to be captured; a folder is read whole.
    listed: as `Kube` has it; a folder is known as soon as it is read.

    Raises SettingsError.
    """
    if source != "kube":
        return Opened(Folder(source), netns_of)
    # A client of an API server takes megabytes, which a folder can do without.
    from agent.kube.client import Client  # noqa: PLC0415
    from agent.sources.kube import Kube  # noqa: PLC0415

    client = Client.load(kubeconfig)
    if own_pods:
        kinds = [KINDS[name] for name in _OF_CAPTURE]
        kube = Kube(client, kinds, _is_gone, fields={"Pod": f"spec.nodeName={node}"})
    else:
        harmless = _is_gone if node is None else partial(_opens_nothing, node)
        kube = Kube(client, harmless=harmless, listed=listed)
    # Whoever may make pods could name any namespace of the node: there, only the runtime is asked.
    return Opened(kube, None, client)


def _is_gone(key: Key, item: Object | None) -> bool:
    """Whether a pod goes: whatever policies there are, that lets nobody in."""
    return key.kind == "Pod" and item is None


def _opens_nothing(node: str, key: Key, item: Object | None) -> bool:
    """Whether a change lets nobody in at a node's pods, whatever policies there are that could not be read.

    So it is with pods that go, that run elsewhere, or that are never in the mesh.
    """
    if key.kind != "Pod":
        return False
    elsewhere = isinstance(item, Pod) and item.spec.node_name != node
    return item is None or elsewhere or key.namespace in NEVER_ENROLLED
