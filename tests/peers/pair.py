"""Two pods, each with a tunnel's core of its own: `client` makes connections, `server` takes them."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.node import routing
from agent.node.datapath import Datapath
from protocols import workload_pb2 as workload
from tests.support import conversation, core
from tests.support.certificates import USUAL, Authority, Terms
from tests.support.netns import Node, Pod
from tests.support.resident import Resident
from tests.support.tunnels import TunnelProcess

PORT = 7000  # of the server's application, which sends back what comes


@dataclass(frozen=True)
class Face:
    """What a pod shows to its peers; without `by` it is certified by the authority that both believe."""

    account: str = ""  # its own name
    domain: str = "cluster.local"
    terms: Terms = USUAL
    by: Authority | None = None


USUAL_FACE = Face()


@dataclass
class Side:
    """A pod, its tunnel and its application."""

    name: str
    pod: Pod
    tunnel: TunnelProcess
    app: Resident
    certificate: str = field(default="", init=False)  # that it shows now

    def show(self, face: Face, authority: Authority) -> None:
        """Have the tunnel serve the pod, anew if it did already, with this face."""
        account = face.account or self.name
        if self.certificate:
            self.tunnel.call(core.leave, self.name)
        self.tunnel.call(core.adopt, self.pod.path, self.name, "demo", account, face.domain)
        identity = f"spiffe://{face.domain}/ns/demo/sa/{account}"
        self.certificate = (face.by or authority).sign(self.tunnel.call(core.request, identity), face.terms)
        self.tunnel.call(core.certify, identity, [self.certificate], authority.root)
        # Of each other they know what is usual; of itself a pod knows what it is.
        self.learn(_workload(self.name, "node", self.pod, account, face.domain))

    def learn(self, *resources: tuple[str, bytes]) -> None:
        assert self.tunnel.call(core.apply, "workload.Address", list(resources), []) == []


class Pair:
    """As a context manager; at the end nothing is left."""

    def __init__(self, folder: Path, bpffs: Path) -> None:
        self._exits = ExitStack()
        self._folder = folder
        self._uids = itertools.count(1)
        self._uid = ""
        self.authority = Authority(folder / "authority")
        try:
            self._make(bpffs)
        except BaseException:
            self._exits.close()
            raise

    def _make(self, bpffs: Path) -> None:
        self._node = Node()
        self._exits.callback(self._node.close)
        self._exits.callback(Datapath.remove, bpffs)
        self._datapath = Datapath.open(self._node.cgroup, bpffs)
        self._exits.callback(self._datapath.close)
        self.client, self.server = self._side("client"), self._side("server")
        for side, other in ((self.client, self.server), (self.server, self.client)):
            if side is self.server:
                side.learn(_workload(other.name, "elsewhere", other.pod, other.name))
            assert side.tunnel.call(core.apply, "security.Authorization", [], []) == []
            side.show(USUAL_FACE, self.authority)
        self.meet()
        self.server.app.call(conversation.serve_echo, PORT)

    def _side(self, name: str) -> Side:
        pod = self._node.pod()
        tunnel = TunnelProcess(self._node.make_cgroup(name), self._folder / f"{name}.log")
        self._exits.callback(tunnel.close)
        self._datapath.trust_tunnel(tunnel.pid)
        cookie = self._datapath.prepare(pod.netns, pod.addresses)
        routing.install(pod.netns)
        self._datapath.capture(pod.netns, cookie)
        app = Resident(pod.cgroup, pod.path)
        self._exits.callback(app.close)
        return Side(name, pod, tunnel, app)

    def meet(self) -> None:
        """For the client the server is a new workload now: no tunnel to an earlier one is used for it."""
        before, self._uid = self._uid, f"server-{next(self._uids)}"
        _, resource = _workload("server", "elsewhere", self.server.pod, "server", uid=self._uid)
        removed = [before] if before else []
        call = self.client.tunnel.call
        assert call(core.apply, "workload.Address", [(self._uid, resource)], removed) == []

    @contextmanager
    def faces(self, client: Face = USUAL_FACE, server: Face = USUAL_FACE) -> Iterator[None]:
        """Within it the two show these. A side that shows what is usual notices nothing of it."""
        shown = [
            (side, face)
            for side, face in ((self.client, client), (self.server, server))
            if face != USUAL_FACE
        ]
        try:
            for side, face in shown:
                side.show(face, self.authority)
            yield
        finally:
            for side, _ in shown:
                side.show(USUAL_FACE, self.authority)

    def exchange(self) -> None:
        """Bytes there and back on a new connection. Raises OSError."""
        self.client.app.call(conversation.exchange, self.address)

    @property
    def address(self) -> tuple[str, int]:
        """Of the server's application."""
        return str(self.server.pod.v4), PORT

    def close(self) -> None:
        self._exits.close()

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _workload(
    name: str, node: str, pod: Pod, account: str, domain: str = "cluster.local", *, uid: str = ""
) -> tuple[str, bytes]:
    resource = workload.Address()
    own = resource.workload
    own.uid, own.name, own.namespace, own.service_account = uid or name, name, "demo", account
    own.trust_domain, own.node = domain, node
    own.addresses.extend(address.packed for address in pod.addresses)
    own.tunnel_protocol = workload.TunnelProtocol.HBONE
    return own.uid, resource.SerializeToString()
