"""Two pods: `ours` is captured, and served by the tunnel's core; at `peer` is what a test puts there."""

import ctypes
import itertools
import os
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from agent.node import routing
from agent.node.datapath import Datapath
from protocols import workload_pb2 as workload
from protocols.security_pb2 import Action, Authorization, Clause, Match, Rule, Scope
from tests.support import core
from tests.support.certificates import Authority, Certificate
from tests.support.http2 import TIMEOUT, Http2, client_context, server_context
from tests.support.netns import Node, Pod
from tests.support.resident import Resident
from tests.support.tunnels import Counts, TunnelProcess

HBONE = 15008
PORT = 7000  # of applications
OURS, PEER = (f"spiffe://cluster.local/ns/demo/sa/{name}" for name in ("ours", "peer"))
Address = tuple[str, int]
Refusals = list[tuple[str, str]]
_SYS_PIDFD_GETFD = 438


class Stage:
    """As a context manager; at the end nothing is left."""

    def __init__(self, folder: Path, bpffs: Path) -> None:
        self.folder = folder
        self.log = folder / "tunnel.log"
        self.exits = ExitStack()
        self._uids = itertools.count(1)
        self._uid = ""
        try:
            self._make(bpffs)
        except BaseException:
            self.exits.close()
            raise

    def _make(self, bpffs: Path) -> None:
        self.node = Node()
        self.exits.callback(self.node.close)
        self.ours, self.peer = self.node.pod(), self.node.pod()
        self.exits.callback(Datapath.remove, bpffs)
        datapath = Datapath.open(self.node.cgroup, bpffs)
        self.exits.callback(datapath.close)
        self.authority = Authority(self.folder / "authority")
        self.certificate = self.authority.issue(PEER)
        self.tunnel = TunnelProcess(self.node.make_cgroup("tunnel"), self.log)
        self.exits.callback(self.tunnel.close)
        datapath.trust_tunnel(self.tunnel.pid)
        self.authorize([])
        self.apply([_workload("ours", "ours", self.ours)])
        self.meet()
        request = self.tunnel.call(core.request, OURS)
        self.tunnel.call(core.certify, OURS, [self.authority.sign(request)], self.authority.root)
        cookie = datapath.prepare(self.ours.netns, self.ours.addresses)
        routing.install(self.ours.netns)
        self.tunnel.call(core.adopt, self.ours.path, "ours")
        datapath.capture(self.ours.netns, cookie)
        self._app = self._resident(self.ours.cgroup, self.ours.path)

    def close(self) -> None:
        self.exits.close()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- the mesh, as the tunnel knows it

    def apply(self, resources: list[tuple[str, bytes]], removed: list[str] | None = None) -> None:
        assert self.tunnel.call(core.apply, "workload.Address", resources, removed or []) == []

    def authorize(self, policies: list[Authorization], removed: list[str] | None = None) -> Refusals:
        """Policies as the tunnel is to know them; gives those that it refuses, with its reasons."""
        resources = [(f"{one.namespace}/{one.name}", one.SerializeToString()) for one in policies]
        return self.tunnel.call(core.apply, "security.Authorization", resources, removed or [])

    @contextmanager
    def policy(self, match: Match, action: Action = Action.DENY) -> Iterator[str]:
        """Within it a policy of one rule holds for our pod; gives its name."""
        with self.no_policies():
            assert self.authorize([policy(match, action)]) == []
            yield "demo/p"

    @contextmanager
    def no_policies(self) -> Iterator[None]:
        """At the end the policy `demo/p` is gone."""
        try:
            yield
        finally:
            self.authorize([], ["demo/p"])

    def name_policies(self, names: list[str]) -> None:
        """The policies that select our pod."""
        self.apply([_workload("ours", "ours", self.ours, names)])

    def meet(self, account: str = "peer") -> None:
        """The peer's pod is a new workload now: no tunnel to an earlier one is used for it."""
        before, self._uid = self._uid, f"peer-{next(self._uids)}"
        self.apply([_workload(self._uid, account, self.peer)], [before] if before else [])

    # ---- applications of our pod

    def dial(self, port: int, version: int = 4) -> socket.socket:
        """What an application of ours connects to the peer's pod."""
        fd = self._app.call(_dial, (str(address(self.peer, version)), port))
        sock = _taken(self._app.pid, fd)
        self._app.call(os.close, fd)
        return sock

    def is_refused(self, port: int) -> bool:
        """Whether an application of ours that connects to the peer's pod sees a reset, sooner or later."""
        return self._app.call(is_refused, (str(self.peer.v4), port))

    @contextmanager
    def listen(self, pod: Pod, port: int, version: int = 0) -> Iterator[socket.socket]:
        """A listener in a pod, for both families or one."""
        with pod.netns.run(lambda: _listener(port, version)) as listener:
            if pod is self.ours:  # as bpf/sockops.bpf.c does for what is accepted below the agent's cgroup
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            listener.settimeout(TIMEOUT)
            yield listener

    # ---- the peer's ends of tunnels

    def connect(self, version: int = 4) -> socket.socket:
        """From the peer's pod to our tunnel's port."""
        to = (str(address(self.ours, version)), HBONE)
        return self.peer.netns.run(lambda: socket.create_connection(to, TIMEOUT))

    def tls(self, certificate: Certificate | None, version: int = 4, **limits: Any) -> ssl.SSLSocket:
        """As `connect`, behind a TLS handshake as the client."""
        context = client_context(certificate, self.authority.root)
        for name, value in limits.items():
            setattr(context, name, value)
        with self.connect(version) as plain:
            return context.wrap_socket(plain)

    @contextmanager
    def client(self, version: int = 4) -> Iterator[Http2]:
        """A tunnel that the peer has opened to us; nobody has said anything in it."""
        with Http2(self.tls(self.certificate, version), client=True) as http2:
            yield http2

    @contextmanager
    def servers(self, certificate: Certificate | None = None, curve: str = "") -> "Iterator[Servers]":
        """Takes the tunnels that our side opens."""
        context = server_context(certificate or self.certificate, self.authority.root)
        if curve:
            context.set_ecdh_curve(curve)
        with self.listen(self.peer, HBONE) as listener, ExitStack() as exits:
            yield Servers(listener, context, exits)

    # ---- what the tunnel tells of it

    def counted(self, family: str) -> Counts:
        return self.tunnel.counted(family)

    def logged(self, start: int) -> list[dict[str, Any]]:
        return self.tunnel.logged(start)

    def refusal(
        self, reporter: str, reason: str, handshake: bool = False, within: float = TIMEOUT
    ) -> AbstractContextManager[dict[str, Any]]:
        return self.tunnel.refusal(reporter, reason, handshake, within)

    def _resident(self, cgroup: Path, netns: Path | None = None) -> Resident:
        resident = Resident(cgroup, netns)
        self.exits.callback(resident.close)
        return resident


class Servers:
    """Ends of tunnels at the peer's pod, as they come."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext, exits: ExitStack) -> None:
        self._listener, self._context, self._exits = listener, context, exits

    def tls(self) -> ssl.SSLSocket:
        """The next tunnel, behind its handshake. Raises SSLError when it fails."""
        plain, _ = self._listener.accept()
        with plain:
            plain.settimeout(TIMEOUT)
            return self._exits.enter_context(self._context.wrap_socket(plain, server_side=True))

    def accept(self, settings: dict[int, int] | None = None) -> Http2:
        """The next tunnel, greeted."""
        http2 = self._exits.enter_context(Http2(self.tls(), client=False))
        http2.greet(settings)
        return http2


def policy(match: Match, action: Action = Action.DENY) -> Authorization:
    """A policy of one rule for all pods of our namespace."""
    rules = [Rule(clauses=[Clause(matches=[match])])]
    return Authorization(name="p", namespace="demo", scope=Scope.NAMESPACE, action=action, rules=rules)


def address(pod: Pod, version: int) -> Any:
    return pod.v6 if version == 6 else pod.v4


def is_reset(sock: socket.socket) -> bool:
    """Waits for the connection's end: whether it is a reset."""
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    return False


def _workload(uid: str, account: str, pod: Pod, policies: Iterable[str] = ()) -> tuple[str, bytes]:
    resource = workload.Address()
    own = resource.workload
    own.uid, own.name, own.namespace, own.service_account = uid, account, "demo", account
    own.trust_domain, own.node = "cluster.local", "node" if account == "ours" else "elsewhere"
    own.addresses.extend(each.packed for each in pod.addresses)
    own.authorization_policies.extend(policies)
    own.tunnel_protocol = workload.TunnelProtocol.HBONE
    return uid, resource.SerializeToString()


def _dial(to: Address) -> int:
    sock = socket.create_connection(to, TIMEOUT)
    return sock.detach()


def is_refused(to: Address) -> bool:
    """Whether a connection ends in a reset, sooner or later."""
    try:
        with socket.create_connection(to, TIMEOUT) as sock:
            return is_reset(sock)
    except ConnectionResetError:
        return True


def _taken(pid: int, fd: int) -> socket.socket:
    """A socket that another process has made, for both of them."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        own = libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)
    assert own >= 0, os.strerror(ctypes.get_errno())
    sock = socket.socket(fileno=own)
    sock.settimeout(TIMEOUT)
    return sock


def _listener(port: int, version: int) -> socket.socket:
    host = "0.0.0.0" if version == 4 else "::"
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=version == 0)
