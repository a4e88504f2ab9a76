"""What the lab has made or is about to make, on disk before it is made: `down` needs nothing else.

A lab's files are below /run/warren/<name>/:

    state.json      this file's State
    cluster/        the cluster: one YAML file per object, read by agents and the CA
    kubeconfig      or, with --api, the server from which they read it
    hosts/          names and addresses for the DNS servers, one file per Service
    bpf/            a bpffs with the pins, one folder per node
    ca/             the certificate authority's root and the nodes' tokens
    nodes/<node>/   an agent's run directory: its sockets
    pods/<pod>/     what a pod sees as /etc/resolv.conf, hosts, hostname, nsswitch.conf
    workloads/      Deployments and the like, as they were applied
    problems        what is wrong with the manifests that are watched
    log/            one file per process
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from agent.errors import naming
from agent.lab import addresses, cgroups
from agent.lab.errors import LabError
from agent.lab.kernel import NETNS_DIRECTORY
from agent.lab.waiting import wait

RUN = Path("/run/warren")


class NodeState(msgspec.Struct, frozen=True):
    """A node: `number` is 1 for the first, and a part of each of its addresses."""

    name: str
    number: int
    netns: str

    @property
    def address(self) -> str:
        return str(addresses.node_v4(self.number))


class PodState(msgspec.Struct, frozen=True):
    """A pod: `number` is that of its addresses in its node's ranges, 0 for one in the node's own network."""

    namespace: str
    name: str
    node: str
    number: int
    netns: str
    slug: str


class State(msgspec.Struct):
    """One lab. `name` is "lab" for the user's own."""

    name: str
    mesh: bool
    access_log: str
    ztunnels: dict[str, str]
    api: str = ""  # a kubeconfig; empty: agents and the CA read the folder
    direct: bool = True  # pods of one node connect without the tunnel, once allowed
    mesh_config: str = ""  # a file, which the agents read; empty: none
    server: tuple[str, int] = ("", 0)  # host and port of that API server
    mark: str = ""  # of the lab's objects there (`agent.lab.ownership`)
    found: list[str] | None = None  # what was there of what CA and agents write; None: they have not begun
    doors: dict[int, int] = {}  # ports of the machine's loopback that lead to a gateway's
    door: str = ""  # that gateway's network namespace
    manifests: list[str] = []  # files and folders that are watched
    nodes: list[NodeState] = []
    pods: list[PodState] = []
    netns_directory_made: bool = False
    complete: bool = False

    @property
    def run(self) -> Path:
        return RUN / self.name

    @property
    def problems(self) -> Path:
        return self.run / "problems"

    @property
    def cgroup(self) -> Path:
        return cgroups.mount_point() / f"warren-{self.name}"

    @property
    def prefix(self) -> str:
        """The start of the names of this lab's network namespaces."""
        return "warren" if self.name == "lab" else self.name

    def node(self, name: str) -> NodeState:
        """The node of that name, which must be there."""
        return next(node for node in self.nodes if node.name == name)

    def save(self) -> None:
        write_atomically(self.run / "state.json", msgspec.json.format(msgspec.json.encode(self)))


def slug(namespace: str, name: str) -> str:
    """A pod's name as a file name: unique, for "_" is in no Kubernetes name; at most 100 characters long."""
    text = f"{namespace}_{name}"
    if len(text) > 100:
        text = f"{text[:90]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return text


def load(name: str) -> State | None:
    """The state of a lab, None when there is none. Raises LabError when the file is damaged."""
    path = RUN / name / "state.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LabError(
            f"{path} cannot be read ({error}): remove /run/warren/{name} and {NETNS_DIRECTORY}/* "
            "of this lab by hand"
        ) from None


@contextmanager
def locked(name: str, *, within: float = 0) -> Iterator[Path]:
    """Hold the lab's run directory (made if need be), against others that change the lab.

    within: seconds for them to be done; then LabError is raised.
    """
    run = RUN / name
    try:
        run.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        raise LabError("a lab needs root: run it with `sudo`") from None
    fd = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not wait(lambda: _lock(fd), within):
            raise LabError("another `warren lab` command is at work: wait for its end")
        yield run
    finally:
        os.close(fd)
        for directory in (run, RUN):
            with suppress(OSError):  # not empty: somebody's lab is in it
                directory.rmdir()


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_atomically(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Write so that readers see the old file or the new one; a draft's name begins with a dot."""
    data = content.encode() if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with naming(path), os.fdopen(fd, "wb") as file:
        file.write(data)
    draft.rename(path)
