"""Where the pods of this node have their network namespaces: what the runtime told, through CNI or CRI.

Kept on disk, so that an agent that comes back has it before it has asked anyone. A record is believed as long
as its path leads to the same namespace: the kernel gives no cookie twice until the machine starts anew.
"""

from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.errors import naming
from agent.model.schema.kubernetes import STATIC_POD, Pod
from agent.model.schema.objects import IPAddress, to_address
from agent.node.errors import NoNamespace
from agent.node.netns import NetnsFd

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_REMEMBERED = 4096  # containers that are known to have ended


class Attachment(Struct, frozen=True):
    """A pod's network namespace, as the runtime made it; the pod gets another one with a new sandbox.

    container: the runtime's id of the sandbox; uid: the pod's as the kubelet knows it, empty when it was not
    told; netns: a path in the agent's own mount namespace; ips: addresses; created: nanoseconds since 1970.
    """

    container: str
    namespace: str
    name: str
    uid: str
    netns: Path
    ips: tuple[str, ...]
    created: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        return tuple(to_address(ip) for ip in self.ips)

    def of(self, pod: Pod) -> bool:
        """Whether this is the pod's: another one may have had its name."""
        uids = {pod.metadata.uid, pod.metadata.annotations.get(STATIC_POD, "")} - {""}
        return not self.uid or not uids or self.uid in uids


class _Record(Struct, frozen=True):
    """A file's content."""

    attachment: Attachment
    cookie: int
    boot: str


class Sandboxes:
    """All that are known. Files are named by container, in a directory that is this object's own."""

    def __init__(self, directory: Path) -> None:
        """Reads what is there; what is not true any more is removed.

        Raises NodeError, OSError when that cannot be told: a pod that is forgotten would be let loose.
        """
        self._directory = directory
        self._boot = _BOOT_ID.read_text().strip()
        self._known: dict[str, Attachment] = {}
        self._of_pod: dict[tuple[str, str], list[Attachment]] = {}
        self._ended: dict[str, None] = {}  # in the order in which they did
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in directory.iterdir():
            if attachment := self._read(path):
                self._put(attachment)
            else:
                path.unlink()

    def of(self, pod: Pod) -> Attachment | None:
        """The pod's newest one."""
        named = self.named(pod.metadata.namespace, pod.metadata.name)
        return max((one for one in named if one.of(pod)), key=lambda one: one.created, default=None)

    def named(self, namespace: str, name: str) -> Sequence[Attachment]:
        """Those of all pods that have, or had, this name."""
        return self._of_pod.get((namespace, name), ())

    def add(self, attachment: Attachment) -> None:
        """One that the runtime has made. Raises NodeError when there is no such namespace, OSError."""
        with closing(NetnsFd.open(attachment.netns)) as netns:
            record = _Record(attachment, netns.cookie(), self._boot)
        path = self._path(attachment.container)
        fresh = path.with_suffix(".new")
        with naming(path):
            fresh.write_bytes(msgspec.json.encode(record, enc_hook=str))
            fresh.rename(path)
        self._put(attachment)

    def found(self, attachment: Attachment) -> None:
        """One that the runtime lists, which may be on its way out. Raises like `add`."""
        known = self._known.get(attachment.container)
        if attachment.container not in self._ended and not (known and known.netns.exists()):
            self.add(attachment)

    def remove(self, container: str) -> None:
        """One that is about to go; it does not come back, whoever still lists it."""
        self._ended[container] = None
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        if container in self._known:
            self._drop(container)
            self._path(container).unlink(missing_ok=True)

    def keep(self, containers: Collection[str]) -> None:
        """All others have ended."""
        for container in self._known.keys() - set(containers):
            self.remove(container)

    def _put(self, attachment: Attachment) -> None:
        self._drop(attachment.container)
        self._known[attachment.container] = attachment
        self._of_pod.setdefault((attachment.namespace, attachment.name), []).append(attachment)

    def _drop(self, container: str) -> None:
        if (former := self._known.pop(container, None)) is None:
            return
        named = self._of_pod[former.namespace, former.name]
        named.remove(former)
        if not named:
            del self._of_pod[former.namespace, former.name]

    def _path(self, container: str) -> Path:
        return self._directory / f"{container}.json"

    def _read(self, path: Path) -> Attachment | None:
        """What the file says, if it is still true."""
        with suppress(msgspec.MsgspecError, NoNamespace):
            record = msgspec.json.decode(path.read_bytes(), type=_Record, dec_hook=lambda _, text: Path(text))
            if record.boot == self._boot:
                with closing(NetnsFd.open(record.attachment.netns)) as netns:
                    return record.attachment if record.cookie == netns.cookie() else None
        return None
