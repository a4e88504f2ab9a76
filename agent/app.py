"""The agent, put together: what there is, who tells whom, and in what order it starts and ends."""

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Set
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from agent import memory, web
from agent.ahead import Ahead
from agent.credentials.keeper import Keeper
from agent.credentials.listeners import ListenerKeeper
from agent.credentials.secrets import from_api, from_folder
from agent.dashboard.live import NodeMap
from agent.errors import SettingsError, WarrenError, describe
from agent.inspection import AdminServer, Inspected
from agent.kube.installation import Installation
from agent.lifetime import cancelled, told_to_end
from agent.metrics import Sources, exposition
from agent.model.engine.view import View
from agent.model.model import Model, pods_on
from agent.model.resources import LOCAL, Delta
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key
from agent.model.translation.peer_authentication import deciding
from agent.model.unread import Unread
from agent.node import conflist, kubelet
from agent.node.cni import CniServer
from agent.node.conflist import Conflist
from agent.node.cri import Cri
from agent.node.datapath import Datapath
from agent.node.enrolment import Enrolment, Sandbox, Tunnels
from agent.node.errors import NodeError
from agent.node.exclusive import exclusive
from agent.node.kubelet import Kubelet
from agent.node.netns import NetnsFd
from agent.node.pods import Pods
from agent.node.report import Report, encode, first, wanted
from agent.node.sandboxes import Sandboxes
from agent.node.search import Search
from agent.node.view import look
from agent.node.watch import Watch
from agent.proposals import ProposalServer
from agent.settings import Settings
from agent.sources.key_sets import KeySets
from agent.sources.opening import open_source
from agent.sources.proposal import propose
from agent.sources.source import Changes
from agent.xds.server import XdsServer
from agent.xds.upstream import Upstream
from agent.zds.server import ZdsServer
from agent.zds.tunnel import Local
from protocols.proposal import File, Proposal, Whose
from protocols.version import version
from protocols.web import JSON, PROMETHEUS, Request, Response

log = logging.getLogger(__name__)

_OF_CAPTURE = ("Pod", "Namespace")  # kinds that say which pods are to be captured

_RELEASED_WITHIN = 20.0  # seconds; a pod gets 30 to end


class Agent:
    """One node's agent."""

    def __init__(self, settings: Settings) -> None:
        """Opens what may be refused. Raises WarrenError."""
        self._settings = settings
        try:
            settings.run_dir.mkdir(parents=True, exist_ok=True)
            self._lock = exclusive(settings.run_dir)  # another agent would take our sockets' places
            sandboxes = Sandboxes(settings.run_dir / "sandboxes")
            self._map = NodeMap(settings.node, settings.run_dir) if settings.dashboard_port else None
        except (OSError, NodeError) as error:
            raise SettingsError(f"--run-dir: {describe(error)}") from error
        self._model, self._ahead = Model(settings.mesh), Ahead(settings.mesh)
        self._changed = time.monotonic()
        self._source, netns_of, client = open_source(
            settings.source, settings.kubeconfig, settings.node,
            own_pods=settings.discovery is not None, listed=self._ahead.begin,
        )  # fmt: skip
        self._installation = (
            Installation(client, settings.daemon_set) if client and settings.daemon_set else None
        )
        self._datapath = Datapath.open(settings.cgroup, settings.bpffs)
        self._upstream = Upstream(settings.discovery, self._learn) if settings.discovery else None
        self._keys = KeySets(settings.jwks_reach, redirects=settings.jwks_redirects)
        self._xds = XdsServer(self._upstream, self._keys.renew)
        read_secret = from_api(client) if client else from_folder(Path(settings.source))
        self._credentials = Keeper(read_secret, settings.tls_folders, self._namespaces)
        # In a cluster gateways have agents of their own.
        maps = from_folder(Path(settings.source), "ConfigMap")
        self._listeners = None if client else ListenerKeeper(read_secret, maps)
        self._zds = ZdsServer(settings.run_dir / "ztunnel.sock", self._trust)
        tunnels = Tunnels(self._announce, self._zds.remove)
        self._enrolment = Enrolment(self._datapath, tunnels, settings.proc)
        self._watch = Watch(self._datapath, self._enrolment)
        self._pods = Pods(
            settings.node,
            sandboxes,
            self._enrolment,
            lacking=self._watch.lacking,
            stated=netns_of,
            unready=lambda: "; ".join(self._unready()),
        )
        self._cri = Cri(settings.cri_socket, settings.proc) if settings.cri_socket else None
        self._search = Search(self._pods, self._cri)
        self._opened = asyncio.Event()
        self._cni = CniServer(settings.run_dir / "cni.sock", self._pods)
        inspected = Inspected(
            node=settings.node,
            from_where="API server" if settings.source == "kube" else str(settings.source),
            model=lambda: self._model,
            source=self._source,
            xds=self._xds,
            enrolment=self._enrolment,
            kernel=lambda: look(settings.cgroup, settings.bpffs, wanted(self._enrolment)),
            cost=self._datapath.cost,
            changed=lambda: self._changed,
            map_link=lambda: self._map.link if self._map else "",
        )
        self._admin = AdminServer(settings.run_dir, settings.admin_group, inspected)
        self._proposals = ProposalServer(settings.run_dir / "authz.sock", self._propose, self._deciding)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. What is captured stays so afterwards, with every connection."""
        ended = told_to_end()
        async with AsyncExitStack() as exits:
            exits.callback(self._lock.close)
            exits.callback(self._datapath.close)
            exits.callback(self._source.close)
            if self._cri:
                exits.push_async_callback(self._cri.close)
            exits.push_async_callback(self._enrolment.close)
            exits.push_async_callback(self._proposals.stop)
            exits.push_async_callback(self._admin.stop)
            exits.push_async_callback(self._zds.stop)
            exits.push_async_callback(self._xds.stop)
            await self._serve_web(exits)
            exits.push_async_callback(self._cni.stop)
            await self._cni.start()
            await self._admin.start()
            await self._until(
                ended.wait(),
                self._follow(),
                self._keep_plugin(),
                self._search.run(),
                self._trust_kubelet(),
                self._watch.run(),
                self._credentials.run(self._publish),
                *([self._map.run()] if self._map else []),
                *([self._listeners.run(self._publish)] if self._listeners else []),
                *([self._upstream.watch()] if self._upstream else []),
            )
            if removed := await self._removed():
                await self._take_away()
            else:
                log.info("ending; captured pods stay captured")
        if removed:
            Datapath.remove(self._settings.bpffs)

    async def _until(self, end: Coroutine[Any, Any, object], *work: Coroutine[Any, Any, None]) -> None:
        """All of it at once until `end`, or until one of them raises: that is raised."""
        ending, *_ = tasks = [asyncio.create_task(one) for one in (end, *work)]
        running = set(tasks)
        try:
            while ending in running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
        finally:
            await cancelled(*tasks)

    async def _follow(self) -> None:
        """The source, from the first whole state on; tunnels hear nothing before there is one."""
        sweeping: asyncio.Task[None] | None = None
        swept: Collection[Key | None] | None = None
        async for changes in self._keys.follow(self._source.changes()):
            rejected = await self._take(changes)
            if not self._pods.ready:
                await asyncio.to_thread(memory.after_loading)
                await self._open()
            unread = {key for key in rejected if key is None or key.kind in _OF_CAPTURE}
            if unread != swept and (sweeping is None or sweeping.done()):
                swept, sweeping = unread, asyncio.create_task(self._sweep(unread))

    def _unread(self) -> Unread:
        rejected = (one.key for one in self._source.rejected)
        return Unread.of(self._settings.mesh, self._model.store.objects, rejected)

    async def _take(self, changes: Changes) -> frozenset[Key | None]:
        """Let all know of changes; gives the objects of which no version is in force."""
        since, known = time.monotonic(), self._model.problems
        self._model, delta = await self._ahead.apply(self._model, changes)
        if self._model.problems != known:
            for key in sorted(key for key, text in self._model.problems.items() if known.get(key) != text):
                log.warning("%s: %s", key, self._model.problems[key])
        unread = self._unread()
        told = delta if self._upstream else await self._credentials.follow(delta)
        told = await self._listeners.follow(told) if self._listeners else told
        self._xds.update(told, self._model.version, unread, since)
        await self._pods.update(self._model, changes)
        if delta:
            self._changed = time.monotonic()
            changed, removed = len(delta.changed), len(delta.removed)
            log.debug("configuration %s: %d changed, %d removed", self._model.version, changed, removed)
        return unread.keys

    async def _learn(self, delta: Delta) -> None:
        """What discovery tells a tunnel: its routes may name credentials that are ours to read."""
        told = await self._credentials.follow(delta)
        ours = Delta(
            tuple(one for one in told.changed if one.type_url in LOCAL),
            tuple(name for name in told.removed if name[0] in LOCAL),
        )
        if ours:
            self._publish(ours)

    def _publish(self, delta: Delta) -> None:
        self._xds.update(delta, self._model.version, self._unread())

    def _namespaces(self) -> Set[str]:
        """Of this node's pods."""
        return {pod.metadata.namespace for pod in pods_on(self._model, self._settings.node)}

    async def _open(self) -> None:
        """Let tunnels in, once all pods are there for their first snapshot."""
        await self._search.once()
        await self._enrolment.tried()
        await self._zds.start()
        await self._xds.start(self._settings.run_dir / "xds.sock", *self._settings.xds_address)
        await self._proposals.start()
        self._pods.ready = True
        self._opened.set()
        log.info("ready: %d pods captured on node %s", self._enrolment.enrolled(), self._settings.node)

    async def _sweep(self, unread: Collection[Key | None]) -> None:
        """Release pods that were deleted while the agent was down, except those that cannot be read."""
        try:
            if self._pods.nowhere:
                await self._search.concluded.wait()
            uncertain = self._pods.uncertain(unread)
            if uncertain is not None:
                await self._enrolment.sweep(self._pods.others(), uncertain, self._pods.lost_addresses())
        except (WarrenError, OSError) as error:
            log.error("could not clean up pods deleted while the agent was down: %s", describe(error))

    async def _trust(self, pid: int) -> None:
        await self._enrolment.in_kernel(partial(self._datapath.trust_tunnel, pid))

    async def _removed(self) -> bool:
        return self._installation is not None and await asyncio.to_thread(self._installation.removed)

    async def _take_away(self) -> None:
        """Leave the node as it was before us: its pods talk as if there were no mesh."""
        log.info("ending for good, for the DaemonSet is gone: releasing all pods")
        if directory := self._settings.cni_conf_dir:
            conflist.uninstall(directory, self._settings.cni_bin_dir)
        await self._cni.stop()
        if left := await self._enrolment.release_all(_RELEASED_WITHIN):
            log.error("could not release pods %s: they have no network until they restart", ", ".join(left))

    async def _trust_kubelet(self) -> None:
        stated = self._settings.kubelet_cgroup
        if stated is None and self._settings.source != "kube":
            return  # a folder is a cluster without kubelets

        async def trust(cgroup: Path) -> None:
            await self._enrolment.in_kernel(partial(self._datapath.trust_kubelet, cgroup))

        await kubelet.follow(Kubelet(self._settings.cgroup, stated, self._settings.proc), trust)

    async def _announce(self, sandbox: Sandbox, netns: NetnsFd) -> None:
        local = Local(sandbox.uid, sandbox.name, sandbox.namespace, sandbox.service_account, netns)
        await self._zds.add(local)

    async def _keep_plugin(self) -> None:
        """The CNI plugin on this node, from when its calls can be answered."""
        await self._opened.wait()
        if directory := self._settings.cni_conf_dir:
            ours = conflist.entry(self._settings.run_dir, self._settings.daemon_set)
            await Conflist(directory, self._settings.cni_bin_dir, ours).keep()

    async def _propose(self, files: list[File]) -> Proposal:
        """For `warren authz check`. Only an API server writes when an object was created."""
        now = datetime.now(UTC).strftime("%FT%TZ") if self._settings.source == "kube" else ""
        return await asyncio.to_thread(propose, self._model, self._settings.node, files, now)

    def _deciding(self, whose: Whose) -> str:
        """For `warren authz explain`."""
        pod = self._model.store.get(Pod, whose.namespace, whose.name)
        view = View.of(self._model.mesh, self._model.store)
        item = deciding(view, whose.namespace, pod.metadata.labels) if pod else None
        return f"{item.metadata.namespace}/{item.metadata.name}" if item else ""

    async def _serve_web(self, exits: AsyncExitStack) -> None:
        if port := self._settings.metrics_port:
            routes = {
                ("GET", "/metrics"): self._metrics,
                ("GET", "/healthz/ready"): self._readiness,
                ("GET", "/check"): self._check,
            }
            server = await web.serve(self._settings.http_address, port, routes)
            exits.callback(server.close)
        if self._map:
            exits.callback((await self._map.serve(self._settings.dashboard_port)).close)

    def _unready(self) -> list[str]:
        """Why nothing new is let in, a line for each reason; empty when all is well."""
        reasons = [f"{kind}: {why}" for kind, why in self._source.health.unsynced.items()]
        if self._upstream and self._upstream.reason:
            reasons.append(f"discovery: {self._upstream.reason}")
        return reasons if reasons or self._pods.ready else ["starting: pods are being captured"]

    async def _readiness(self, _: Request) -> Response:
        if reasons := self._unready():
            text = "".join(f"not ready: {one}\n" for one in reasons)
            return Response(text, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response("ready\n")

    async def _check(self, _: Request) -> Response:
        """For `warren check`, in JSON."""
        settings, pods = self._settings, wanted(self._enrolment)
        view = await asyncio.to_thread(look, settings.cgroup, settings.bpffs, pods)
        refused, problems = self._source.rejected, self._model.problems
        rejections = [
            f"{', '.join(one.rejection.names) or 'all of it'}: {one.rejection.reason}"
            for one in self._xds.subscribed()
            if one.rejection
        ]
        report = Report(
            unready=tuple(self._unready()),
            wanted=pods,
            refused=first(refused, len(refused)),
            partial=first((f"{key}: {problems[key]}" for key in sorted(problems)), len(problems)),
            rejected=first(rejections, len(rejections)),
            version=version(),
            stale=self._source.health.age,
            objects=len(self._model.store.objects),
            view=view,
        )
        return Response(encode(report), JSON)

    async def _metrics(self, _: Request) -> Response:
        verdicts = await self._enrolment.in_kernel(self._datapath.verdicts)
        sources = Sources(
            self._model,
            self._source,
            self._xds,
            self._zds,
            self._enrolment,
            self._watch,
            self._pods,
            self._cni,
            verdicts,
            await self._enrolment.in_kernel(self._datapath.fill),
        )
        return Response(exposition(sources), PROMETHEUS)
