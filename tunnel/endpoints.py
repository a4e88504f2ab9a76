"""What a tunnel tells over HTTP: to people (admin port), to Prometheus, to the kubelet."""

import asyncio
import json
import re
import resource
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from http import HTTPStatus

from protocols.report import Generation, Report, Version
from protocols.web import JSON, OPENMETRICS, PROMETHEUS, Request, Response, Routes, serve
from tunnel import authorization, inspection, routing
from tunnel._core import Core, __version__
from tunnel.counters import Counters
from tunnel.retired import END, counted, joined
from tunnel.settings import ADMIN_ADDRESS, Listen
from tunnel.succession import lines
from tunnel.usage import usage
from tunnel.xds import XdsClient

_COUNTER = re.compile(r"^# TYPE (\w+) counter$", re.MULTILINE)
_LARGEST_BODY = 64 * 1024 * 1024  # of what only this host may ask: a mesh's policies, and this node's pods


class Endpoints:
    """The three ports. `quit` is called for POST /quitquitquit.

    `pending` says what readiness waits for, `warnings` what it mentions beside, `report` what `warren check`
    is told, `generations` which processes carry connections of this node, `retired` what those have counted
    that serve no more, by their numbers.
    """

    def __init__(
        self,
        core: Core,
        counters: Counters,
        xds: XdsClient,
        *,
        pending: Callable[[], list[str]],
        warnings: Callable[[], list[str]],
        report: Callable[[], Awaitable[Report]],
        quit: Callable[[], None],
        generations: Callable[[], list[Generation]],
        retired: Callable[[], Mapping[int, str]],
    ) -> None:
        self._core = core
        self._counters = counters
        self._xds = xds
        self._pending = pending
        self._warnings = warnings
        self._report = report
        self._quit = quit
        self._generations = generations
        self._retired = retired

    async def serve(self, listen: Listen) -> list[asyncio.Server]:
        """Listen: admin, metrics, readiness. Raises OSError, which names the address."""
        metrics: Routes = {("GET", path): self._metrics for path in ("/metrics", "/stats/prometheus")}
        return [
            await serve(self._admin(), ADMIN_ADDRESS, listen.admin_port, _LARGEST_BODY),
            await serve(metrics, listen.address, listen.metrics_port),
            await serve({("GET", "/healthz/ready"): self._ready}, listen.address, listen.ready_port),
        ]

    def _admin(self) -> Routes:
        return {
            ("GET", "/config_dump"): self._config_dump,
            ("GET", "/connections"): self._connections,
            **authorization.routes(self._core),
            **routing.routes(self._core),
            **inspection.routes(self._core, self._xds),
            ("GET", "/check"): self._check,
            ("GET", "/version"): self._version,
            ("POST", "/quitquitquit"): self._quitquitquit,
        }

    async def _config_dump(self, _: Request) -> Response:
        return Response(await asyncio.to_thread(self._core.dump), JSON)

    async def _connections(self, _: Request) -> Response:
        return Response(await asyncio.to_thread(self._core.connections), JSON)

    async def _check(self, _: Request) -> Response:
        return Response(json.dumps(asdict(await self._report())), JSON)

    async def _version(self, _: Request) -> Response:
        return Response(json.dumps(asdict(Version("warren-tunnel", __version__))) + "\n", JSON)

    async def _quitquitquit(self, _: Request) -> Response:
        self._quit()
        return Response("draining\n")

    async def _metrics(self, request: Request) -> Response:
        """OpenMetrics; in Prometheus' older text format for whoever asks for that alone."""
        core = await asyncio.to_thread(lambda: joined(counted(self._core), self._retired()))
        ours = "\n".join([*self._counters.lines(), *_process(), *lines(self._generations())])
        text = f"{core}{ours}\n"
        accepted = request.headers.get("accept", "*/*")
        if "openmetrics" in accepted or "*/*" in accepted:
            return Response(text + END, OPENMETRICS)
        # There a counter's family has the name of its samples.
        return Response(_older_format(text), PROMETHEUS)

    async def _ready(self, _: Request) -> Response:
        if pending := self._pending():
            text = "waiting for: " + ", ".join(pending) + "\n"
            return Response(text, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response("; ".join(["ready", *self._warnings()]) + "\n")


def _older_format(text: str) -> str:
    """Text format 0.0.4, where a counter's family has the name of its samples."""
    for name in _COUNTER.findall(text):
        text = re.sub(rf"^# (HELP|TYPE) {name} ", rf"# \1 {name}_total ", text, flags=re.MULTILINE)
    return text


def _process() -> Iterator[str]:
    """The process's own figures, under the names that every client library uses for them."""
    used = usage()
    gauges = {
        "resident_memory_bytes": ("Memory that is in use.", used.resident),
        "open_fds": ("File descriptors that are open.", used.descriptors),
        "max_fds": ("File descriptors that may be.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        "start_time_seconds": ("Unix time at which the process started.", used.since),
    }
    yield "# HELP process_cpu_seconds CPU time used, of user and system."
    yield "# TYPE process_cpu_seconds counter"
    yield f"process_cpu_seconds_total {used.cpu:.6f}"
    for name, (text, value) in gauges.items():
        yield f"# HELP process_{name} {text}"
        yield f"# TYPE process_{name} gauge"
        yield f"process_{name} {value}"
