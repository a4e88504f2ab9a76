"""What a tunnel tells over HTTP: to people (admin port), to Prometheus, to the kubelet."""

import asyncio
import json
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path

from protocols.admin import Report, Version
from protocols.version import version
from protocols.web import JSON, OPENMETRICS, Request, Response, Routes, serve
from tunnel import authorization, inspection, routing
from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.settings import ADMIN_ADDRESS, Listen
from tunnel.xds import XdsClient

_END = "# EOF\n"
_LARGEST_BODY = 64 * 1024 * 1024  # of what only this host may ask: a mesh's policies, and this node's pods
_STARTED = time.time()


class Endpoints:
    """The three ports. `quit` is called for POST /quitquitquit.

    `pending` says what readiness waits for, `warnings` what it mentions beside, `report` what `warren check`
    is told.
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
    ) -> None:
        self._core = core
        self._counters = counters
        self._xds = xds
        self._pending = pending
        self._warnings = warnings
        self._report = report
        self._quit = quit

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
        return Response(json.dumps(asdict(Version("warren-tunnel", version()))) + "\n", JSON)

    async def _quitquitquit(self, _: Request) -> Response:
        self._quit()
        return Response("draining\n")

    async def _metrics(self, _: Request) -> Response:
        core = await asyncio.to_thread(self._core.metrics)
        ours = "\n".join([*self._counters.lines(), *_process()])
        return Response(f"{core.removesuffix(_END)}{ours}\n{_END}", OPENMETRICS)

    async def _ready(self, _: Request) -> Response:
        if pending := self._pending():
            text = "waiting for: " + ", ".join(pending) + "\n"
            return Response(text, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response("; ".join(["ready", *self._warnings()]) + "\n")


def _process() -> Iterator[str]:
    """The process's own figures, under the names that every client library uses for them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    gauges = {
        "process_resident_memory_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "process_open_fds": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - lighter than iterdir
        "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "process_start_time_seconds": _STARTED,
    }
    yield "# TYPE process_cpu_seconds counter"
    yield f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime:.6f}"
    for name, value in gauges.items():
        yield f"# TYPE {name} gauge"
        yield f"{name} {value}"
