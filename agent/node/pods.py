"""The pods of this node: who is to be captured, as the model says, and where, as the runtime says.

Whichever of the two changes, the enrolment is told what it comes to.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

from agent.model.mesh import enrolled
from agent.model.model import Change, Model, enrolled_on, pods_on
from agent.model.schema.kubernetes import Namespace, Pod
from agent.model.schema.objects import IPAddress, Key, Object
from agent.node.enrolment import Enrolment, Sandbox
from agent.node.errors import NodeError, NoNamespace
from agent.node.sandboxes import Attachment, Sandboxes

# Together less than the 20 s for which the plugin waits.
_KNOWN_WITHIN = 8.0  # seconds; the kubelet has heard of the pod from the same API server
_CAPTURED_WITHIN = 10.0
_RELEASED_WITHIN = 4.0


class Pods:
    """Joins the two. The methods that a CNI call ends in are named in `agent.node.cni`."""

    def __init__(
        self,
        node: str,
        sandboxes: Sandboxes,
        enrolment: Enrolment,
        *,
        lacking: Callable[[Path], Awaitable[str]],
        stated: Callable[[Pod], Path | None] | None,
        unready: Callable[[], str],
    ) -> None:
        """`lacking`: what the kernel lacks for a pod in that namespace to be captured; empty if nothing.

        `stated`: where the namespace is, if the pod's object itself says so; None: none does.

        `unready`: why nothing is told of new pods; empty if it is.
        """
        self.unready = unready
        self.ready = False
        self.nowhere: dict[str, Pod] = {}  # by uid: to be captured, and who knows where they run
        self._node = node
        self._sandboxes = sandboxes
        self._enrolment = enrolment
        self._lacking = lacking
        self._stated = stated
        self._model = Model()
        self._changed = asyncio.Condition()

    async def update(self, model: Model, changes: Iterable[Change]) -> None:
        """The model is another one, because of these changes; most of them are of other nodes."""
        former, self._model = self._model, model
        if any(self._concerns(former, *change) for change in changes):
            self._want()
        async with self._changed:
            self._changed.notify_all()

    async def missed(self, within: float) -> None:
        """Wait until there is a pod that is to be captured and who knows where, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: bool(self.nowhere))

    def lost(self) -> dict[str, Pod]:
        """Those of `nowhere` that are not about to end: then their sandbox has gone before their object."""
        return {uid: pod for uid, pod in self.nowhere.items() if not pod.metadata.deletion_timestamp}

    def lost_addresses(self) -> set[IPAddress]:
        """Of all that are `nowhere`."""
        return {address for pod in self.nowhere.values() for address in pod.addresses}

    def rescan(self) -> None:
        """See which namespaces went without a call: another plugin's conflist was in force."""
        self._want()

    def find(self, attachments: Iterable[Attachment]) -> None:
        """What the runtime lists.

        Raises NodeError, OSError for the first that cannot be looked at, when all others are known.
        """
        unseen: Exception | None = None
        for attachment in attachments:
            try:
                self._sandboxes.found(attachment)
            except NoNamespace:  # it has gone since
                continue
            except (NodeError, OSError) as error:
                unseen = unseen or error
        self._want()
        if unseen:
            raise unseen

    def others(self) -> list[Path]:
        """Namespaces of the pods that are not to be captured."""
        pods = pods_on(self._model, self._node)
        places = [self._place(pod) for pod in pods if not self._enrolled(pod) and not pod.spec.host_network]
        return [place.netns for place in places if place]

    def uncertain(self, unread: Iterable[Key | None]) -> set[Path] | None:
        """Where pods are that may have to be captured, for these objects cannot be read; None: anywhere."""
        places: set[Path] = set()
        for key in unread:
            if key is None:
                return None
            if key.kind == "Namespace":
                pods = (pod for pod in pods_on(self._model, self._node) if pod.metadata.namespace == key.name)
                places |= {place.netns for pod in pods if (place := self._place(pod))}
                continue
            told = self._sandboxes.named(key.namespace, key.name)
            if self._stated and not told:
                return None  # only the object itself says where
            places |= {attachment.netns for attachment in told}
        return places

    async def attach(self, attachment: Attachment) -> None:
        """A pod's network is there: returns when the pod may start. Raises NodeError when it may not."""
        self._sandboxes.add(attachment)
        pod = await self._known(attachment)
        if not self._enrolled(pod):
            return
        self._want()
        if reason := await self._enrolment.captured(uid_of(pod), _CAPTURED_WITHIN):
            raise NodeError(reason)

    async def check(self, attachment: Attachment) -> None:
        """Raises NodeError if the pod is to be captured, and the kernel does not do so."""
        pod = await self._known(attachment)
        if self._enrolled(pod) and (lack := await self._lacking(attachment.netns)):
            raise NodeError(f"pod {attachment} is not captured: {lack}")

    async def detach(self, container: str) -> None:
        """A sandbox is about to go: returns when its namespace is held no more, so that it really goes."""
        self._sandboxes.remove(container)
        self._want()
        await self._enrolment.released(container, _RELEASED_WITHIN)

    async def keep(self, containers: set[str]) -> None:
        """No sandboxes are there but these."""
        self._sandboxes.keep(containers)
        self._want()

    async def _known(self, attachment: Attachment) -> Pod:
        """The pod, as soon as it and its namespace's labels are known."""
        try:
            async with asyncio.timeout(_KNOWN_WITHIN), self._changed:
                while (pod := self._pod(attachment)) is None:
                    await self._changed.wait()
                return pod
        except TimeoutError:
            nothing = f"no object of this uid and of node {self._node} has come from the API server"
            reason = self.unready() or nothing
            raise NodeError(f"pod {attachment} is not known after {_KNOWN_WITHIN:.0f} s: {reason}") from None

    def _pod(self, attachment: Attachment) -> Pod | None:
        pod = self._model.store.get(Pod, attachment.namespace, attachment.name)
        if pod is None or not attachment.of(pod):
            return None
        # The kubelet may have heard before us that the pod is bound to this node.
        return pod if pod.spec.node_name == self._node and self._namespace(pod) else None

    def _namespace(self, pod: Pod) -> Namespace | None:
        return self._model.store.get(Namespace, "", pod.metadata.namespace)

    def _enrolled(self, pod: Pod) -> bool:
        return enrolled(pod, self._namespace(pod))

    def _concerns(self, former: Model, key: Key, item: Object | None) -> bool:
        if isinstance(item, Pod) and item.spec.node_name == self._node:
            return True
        return key.kind == "Namespace" or key in former.store.find("node", self._node)

    def _want(self) -> None:
        self.nowhere = {}
        self._enrolment.want(self._sandboxes_wanted())

    def _sandboxes_wanted(self) -> Iterator[Sandbox]:
        for pod in enrolled_on(self._model, self._node):
            if place := self._place(pod):
                yield place  # also when it seems to have gone: until there is another, nothing is let loose
            # Before it has addresses there is no namespace yet, and the runtime will call.
            if pod.addresses and not (place and place.netns.exists()):
                self.nowhere[uid_of(pod)] = pod

    def _place(self, pod: Pod) -> Sandbox | None:
        known = self._sandboxes.of(pod)
        netns = known.netns if known else self._stated and self._stated(pod)
        if netns is None:
            return None
        addresses = pod.addresses or (known.addresses if known else ())
        return Sandbox(
            uid_of(pod),
            pod.metadata.name,
            pod.metadata.namespace,
            pod.spec.service_account_name,
            netns,
            # The runtime and the kubelet may have them in different orders.
            tuple(sorted(addresses, key=lambda address: address.version)),
            known.container if known else "",
            pod.probe_ports,
        )


def uid_of(pod: Pod) -> str:
    """What no other pod is called; a manifest in a folder may be without a uid."""
    return pod.metadata.uid or f"{pod.metadata.namespace}/{pod.metadata.name}"
