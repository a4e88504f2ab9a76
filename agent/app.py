"""The agent, put together: what there is, who tells whom, and in what order it starts and ends."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from msgspec import Struct

from agent import web
from agent.errors import SettingsError, WarrenError
from agent.metrics import Sources, exposition
from agent.model.mesh import Mesh
from agent.model.model import Model, apply, enrolled_on, pods_on
from agent.model.objects import IPAddress, Pod
from agent.node.datapath import Datapath
from agent.node.enrolment import Enrolment, Sandbox, Tunnels
from agent.node.netns import NetnsFd
from agent.sources.folder import NETNS, Changes, Folder, netns_of
from agent.xds.server import XdsServer
from agent.zds.server import ZdsServer
from agent.zds.tunnel import Local

log = logging.getLogger(__name__)


class Settings(Struct, frozen=True):
    """What the command line says.

    source: folder of manifests; run_dir: for the sockets; cgroup: a cgroup v2 directory, whose processes are
    redirected; bpffs: directory for the pins; metrics_port: 0 for none.
    """

    source: Path
    node: str
    run_dir: Path
    cgroup: Path
    bpffs: Path
    xds_address: tuple[IPAddress, int]
    http_address: str
    metrics_port: int
    mesh: Mesh


class Agent:
    """One node's agent."""

    def __init__(self, settings: Settings) -> None:
        """Opens what may be refused. Raises WarrenError."""
        self._settings = settings
        try:
            settings.run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"--run-dir {settings.run_dir}: {error.strerror}") from error
        self._model = Model(settings.mesh)
        self._source = Folder(settings.source)
        self._datapath = Datapath.open(settings.cgroup, settings.bpffs)
        self._xds = XdsServer()
        self._zds = ZdsServer(settings.run_dir / "ztunnel.sock", self._trust)
        self._enrolment = Enrolment(self._datapath, Tunnels(self._announce, self._zds.remove))
        self._nowhere: set[str] = set()  # pods that are to be captured, and whose namespace nobody names
        self._ready = False

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. What is captured stays so afterwards, with every connection."""
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        async with AsyncExitStack() as exits:
            exits.callback(self._datapath.close)
            exits.callback(self._source.close)
            exits.push_async_callback(self._enrolment.close)
            exits.push_async_callback(self._zds.stop)
            exits.push_async_callback(self._xds.stop)
            await self._serve_web(exits)
            following = asyncio.create_task(self._follow())
            exits.callback(following.cancel)
            waiting = asyncio.create_task(ended.wait())
            await asyncio.wait({following, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                waiting.cancel()
                await following
            log.info("ending; captured pods stay captured")

    async def _follow(self) -> None:
        """The source, from the first whole state on; tunnels hear nothing before there is one."""
        sweeping: asyncio.Task[None] | None = None
        async for changes in self._source.changes():
            await self._take(changes)
            if not self._ready:
                await self._open()
            # Until then it is not known which pods are to stay captured.
            if sweeping is None and self._source.complete:
                sweeping = asyncio.create_task(self._sweep())

    async def _take(self, changes: Changes) -> None:
        self._model, delta = await asyncio.to_thread(apply, self._model, changes)
        self._xds.update(delta, self._model.version, self._source.complete)
        self._enrolment.want(self._sandboxes())
        if delta:
            changed, removed = len(delta.changed), len(delta.removed)
            log.info("configuration %s: %d changed, %d removed", self._model.version, changed, removed)

    async def _open(self) -> None:
        """Let tunnels in, once all pods are there for their first snapshot."""
        await self._enrolment.tried()
        await self._zds.start()
        await self._xds.start(self._settings.run_dir / "xds.sock", *self._settings.xds_address)
        self._ready = True
        log.info("ready: %d pods captured on node %s", self._enrolment.enrolled(), self._settings.node)

    async def _sweep(self) -> None:
        try:
            await self._enrolment.sweep(self._not_enrolled())
        except WarrenError as error:
            log.error("pods that went while no agent was here: %s", error)

    async def _trust(self, pid: int) -> None:
        await self._enrolment.in_kernel(partial(self._datapath.trust_tunnel, pid))

    async def _announce(self, sandbox: Sandbox, netns: NetnsFd) -> None:
        local = Local(sandbox.uid, sandbox.name, sandbox.namespace, sandbox.service_account, netns)
        await self._zds.add(local)

    def _sandboxes(self) -> Iterator[Sandbox]:
        nowhere = set()
        for pod in enrolled_on(self._model, self._settings.node):
            if netns := netns_of(pod):
                yield _sandbox(pod, netns)
                continue
            nowhere.add(_uid(pod))
            if _uid(pod) not in self._nowhere:
                log.warning("pod %s cannot be captured: it has no annotation %s", _uid(pod), NETNS)
        self._nowhere = nowhere

    def _not_enrolled(self) -> list[Path]:
        """Namespaces of the other pods of this node."""
        enrolled = {_uid(pod) for pod in enrolled_on(self._model, self._settings.node)}
        others = (pod for pod in pods_on(self._model, self._settings.node) if _uid(pod) not in enrolled)
        return [netns for pod in others if not pod.spec.host_network and (netns := netns_of(pod))]

    async def _serve_web(self, exits: AsyncExitStack) -> None:
        if port := self._settings.metrics_port:
            pages = {"/metrics": self._metrics, "/healthz/ready": self._readiness}
            server = await web.serve(self._settings.http_address, port, pages)
            exits.callback(server.close)

    async def _readiness(self) -> web.Page:
        if self._ready:
            return web.Page("200 OK", "ready\n")
        return web.Page("503 Service Unavailable", "starting\n")

    async def _metrics(self) -> web.Page:
        verdicts = await self._enrolment.in_kernel(self._datapath.verdicts)
        rejected = len(self._source.rejected)
        sources = Sources(self._model, rejected, self._xds, self._zds, self._enrolment, verdicts)
        return web.Page("200 OK", exposition(sources))


def _uid(pod: Pod) -> str:
    return pod.metadata.uid or f"{pod.metadata.namespace}/{pod.metadata.name}"


def _sandbox(pod: Pod, netns: Path) -> Sandbox:
    account = pod.spec.service_account_name or "default"
    return Sandbox(_uid(pod), pod.metadata.name, pod.metadata.namespace, account, netns, pod.addresses)
