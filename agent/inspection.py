"""The agent's admin socket: what it knows and serves, for the CLI.

Root may ask everything at `admin.sock`, and `--admin-group` whatever changes nothing at `read.sock`.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec
from msgspec import Struct

from agent import unix
from agent.analysis import analyze, findings
from agent.model.mesh import excluded
from agent.model.model import Model, pods_on
from agent.model.schema.kubernetes import Namespace
from agent.node.enrolment import Enrolment
from agent.node.view import NodeView
from agent.sources.source import Source
from agent.xds.server import Subscribed, XdsServer
from protocols import web
from protocols.agent import Configuration, Cost, Kernel, Logging, MapLink, PodState, Subscriber
from protocols.log_level import level, set_level
from protocols.proposal import File, Finding
from protocols.web import JSON, Request, Response

_LARGEST_BODY = 64 * 1024 * 1024  # manifests


class Inspected(Struct, frozen=True):
    """What is asked of an agent. from_where: its source, in a word or two.

    kernel: looks at the node, which takes a moment; changed: when the configuration did (time.monotonic).
    map_link: empty where no map is served.
    """

    node: str
    from_where: str
    model: Callable[[], Model]
    source: Source
    xds: XdsServer
    enrolment: Enrolment
    kernel: Callable[[], NodeView]
    cost: Callable[[], Cost]
    changed: Callable[[], float]
    map_link: Callable[[], str]


class AdminServer:
    """Answers at the two sockets."""

    def __init__(self, directory: Path, group: int | None, inspected: Inspected) -> None:
        self._directory = directory
        self._group = group
        self._inspected = inspected
        self._read: web.Routes = {
            ("GET", "/pods"): _answering(lambda: list(_pods(inspected))),
            ("GET", "/configuration"): _answering(lambda: _configuration(inspected)),
            ("GET", "/analysis"): _answering(lambda: _findings(inspected)),
            ("GET", "/kernel"): _answering(lambda: _kernel(inspected.kernel())),
            ("GET", "/cost"): _answering(inspected.cost),
            ("GET", "/dashboard"): _answering(lambda: MapLink(inspected.map_link())),
            ("GET", "/logging"): _answering(lambda: Logging(level())),
        }
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen. Raises SettingsError."""
        changing = {("POST", "/logging"): _set_level, ("POST", "/analysis"): _analyzing(self._inspected)}
        admin = web.connection({**self._read, **changing}, _LARGEST_BODY)
        self._servers.append(await unix.listen(self._directory / "admin.sock", admin))
        if self._group is not None:
            read = web.connection(self._read)
            self._servers.append(await unix.listen(self._directory / "read.sock", read, group=self._group))

    async def stop(self) -> None:
        """Listen no more."""
        for server in self._servers:
            server.close()
        for name in ("admin.sock", "read.sock"):
            (self._directory / name).unlink(missing_ok=True)


def _answering(answer: Callable[[], object]) -> web.Handler:
    async def handle(_: Request) -> Response:
        said = await asyncio.to_thread(answer)
        return Response(msgspec.json.encode(said).decode(), JSON)

    return handle


def _analyzing(inspected: Inspected) -> web.Handler:
    """The body: files, as JSON."""

    async def handle(request: Request) -> Response:
        try:
            files = msgspec.json.decode(request.body, type=list[File])
        except msgspec.MsgspecError as error:
            return Response(f"{error}\n", status=HTTPStatus.BAD_REQUEST)
        found = await asyncio.to_thread(analyze, inspected.model(), files)
        return Response(msgspec.json.encode(found).decode(), JSON)

    return handle


def _findings(inspected: Inspected) -> list[Finding]:
    refused = [(one.key, str(one)) for one in inspected.source.rejected]
    return findings(inspected.model(), refused)


async def _set_level(request: Request) -> Response:
    try:
        set_level(request.query.get("level", ""))
    except ValueError as error:
        return Response(f"{error}\n", status=HTTPStatus.BAD_REQUEST)
    logging.getLogger(__name__).warning("log level is now %s", level())
    return Response(msgspec.json.encode(Logging(level())).decode(), JSON)


def _pods(inspected: Inspected) -> Iterator[PodState]:
    model, enrolment = inspected.model(), inspected.enrolment
    sandboxes = {sandbox.uid: sandbox for sandbox in enrolment.wanted()}
    held = enrolment.held()
    for pod in sorted(
        pods_on(model, inspected.node), key=lambda pod: (pod.metadata.namespace, pod.metadata.name)
    ):
        metadata = pod.metadata
        sandbox = sandboxes.get(metadata.uid)
        yield PodState(
            namespace=metadata.namespace,
            name=metadata.name,
            service_account=pod.spec.service_account_name,
            addresses=tuple(map(str, pod.addresses)),
            excluded=excluded(pod, model.store.get(Namespace, "", metadata.namespace)),
            captured=metadata.uid in held,
            failing=enrolment.failing.get(metadata.uid, ""),
            netns=str(sandbox.netns) if sandbox else "",
        )


def _configuration(inspected: Inspected) -> Configuration:
    model, source, xds = inspected.model(), inspected.source, inspected.xds
    return Configuration(
        version=model.version,
        age=time.monotonic() - inspected.changed(),
        source=inspected.from_where,
        stale=source.health.age,
        objects=dict(Counter(key.kind for key in model.store.objects)),
        resources=xds.cache.versions(),
        subscribers=tuple(map(_subscriber, xds.subscribed())),
        refused=tuple(map(str, source.rejected)),
        partial=tuple(f"{key}: {text}" for key, text in sorted(model.problems.items())),
    )


def _kernel(view: NodeView) -> Kernel:
    pods = {str(cookie): msgspec.to_builtins(pod) for cookie, pod in view.pods.items()}
    return Kernel(view.programs, pods, view.verdicts, tuple(view.problems))


def _subscriber(one: Subscribed) -> Subscriber:
    rejected = one.rejection.reason if one.rejection else ""
    return Subscriber(one.client, one.type_url, one.current, one.version, rejected)
