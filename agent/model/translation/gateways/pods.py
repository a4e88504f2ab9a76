"""The pods of gateways, and whose translation concerns them."""

from collections.abc import Iterator

from agent.model.engine.store import Entry
from agent.model.engine.view import ServiceLike, View
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key, fits

PODS: Entry = ("gateways",)  # index: the pods
LISTENERS = "Listeners"  # stands for a kind in keys: one for each of them


def key_of(pod: Pod) -> Key:
    """Of its listeners."""
    return Key(LISTENERS, pod.metadata.namespace, pod.metadata.name)


def keys(view: View) -> Iterator[Key]:
    """The listeners of all gateways."""
    yield from map(key_of, pods(view))


def pods(view: View) -> Iterator[Pod]:
    """All gateways'."""
    return view.store.each(Pod, *PODS)


def of_service(view: View, item: ServiceLike) -> Iterator[Key]:
    """The listeners of gateways that a service selects: it may map their ports."""
    for pod in pods(view):
        if pod.metadata.namespace == item.metadata.namespace and fits(item.selector, pod.metadata.labels):
            yield key_of(pod)
