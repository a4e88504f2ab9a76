"""Spans and log records to OpenTelemetry's collectors: OTLP over gRPC, and over HTTP in protobuf.

The core makes the requests and keeps what waits, bounded in bytes; here they are sent, one at a time for each
provider and signal. A request that a collector cannot take now is sent again until it can (OTLP, "Failures");
meanwhile the core drops what finds no room, and tells how much. The tunnel connects from the node's own
network, like the kubelet: straight to an endpoint where the collector is a service of the mesh.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from tunnel._core import Core, Export, export_refused
from tunnel.backoff import Backoff
from tunnel.channel import Channel, Code, RpcError
from tunnel.counters import Counters

if TYPE_CHECKING:
    from urllib3 import PoolManager

log = logging.getLogger("warren.exporter")

_EVERY = 1.0  # seconds between two looks at what waits, where no request was full
_FULL = 512  # spans or records of a request
_FIRST_RETRY, _LAST_RETRY, _JITTER = 0.5, 30.0, 0.2
_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_PATHS = {"traces": "/v1/traces", "logs": "/v1/logs"}
# What may succeed later (OTLP, "Failures" of gRPC and of HTTP).
_LATER = (
    Code.CANCELLED,
    Code.DEADLINE_EXCEEDED,
    Code.ABORTED,
    Code.OUT_OF_RANGE,
    Code.UNAVAILABLE,
    Code.DATA_LOSS,
    Code.RESOURCE_EXHAUSTED,
)
_LATER_HTTP = (429, 502, 503, 504)
_Link: TypeAlias = tuple[str, Channel]  # to an address


class Unavailable(Exception):
    """The collector cannot take it now; the text says why."""


class Rejected(Exception):
    """The collector will never take it; the text says why."""


class Exporter:
    """Sends what the core makes. Collectors come and go with the configuration."""

    def __init__(self, core: Core, counters: Counters) -> None:
        self._core = core
        self._counters = counters
        self._sending: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._links: dict[tuple[str, str], _Link] = {}
        self._http: PoolManager | None = None
        self._more = asyncio.Event()

    async def run(self) -> NoReturn:
        """Look at what waits, for ever."""
        while True:
            self._more.clear()
            self._looking = asyncio.create_task(self._look())
            await asyncio.shield(self._looking)  # what it takes from the core is nowhere else
            try:
                await asyncio.wait_for(self._more.wait(), _EVERY)
            except TimeoutError:
                continue

    async def flush(self, deadline: float) -> None:
        """Send what waits, once, and end what was begun, within so many seconds; once `run` has ended."""
        try:
            async with asyncio.timeout(deadline):
                if self._looking:
                    await self._looking
                while exports := await asyncio.to_thread(self._core.exports, []):
                    await asyncio.gather(*(self._try(export) for export in exports))
                await asyncio.gather(*self._sending.values())
        except TimeoutError:
            log.warning("collectors did not take all that there was within %g s", deadline)
            for task in self._sending.values():
                task.cancel()

    async def _look(self) -> None:
        for export in await asyncio.to_thread(self._core.exports, [*self._sending]):
            self._send(export)

    def _send(self, export: Export) -> None:
        lane = (export.provider, export.signal)
        task = self._sending[lane] = asyncio.create_task(self._until_taken(export))

        def done(_: "asyncio.Task[None]") -> None:
            del self._sending[lane]
            if export.count >= _FULL:
                self._more.set()

        task.add_done_callback(done)

    async def _until_taken(self, export: Export) -> None:
        backoff = Backoff(_FIRST_RETRY, _LAST_RETRY, _JITTER)
        failures = 0
        while why := await self._try(export):
            failures += 1
            if failures == 1:
                log.warning("%s: %s, trying again", _name(export), why)
            await asyncio.sleep(backoff.next())
        if failures:
            log.info("%s: taken after %d failures", _name(export), failures)

    async def _try(self, export: Export) -> str | None:
        """Why it has to be sent again; None: that is over."""
        lane = (export.provider, export.signal)
        if export.dropped:
            self._counters.export_dropped.add(*lane, "queue", by=export.dropped)
            log.warning("%s: %d dropped, as the collector does not keep up", _name(export), export.dropped)
        if not export.count:
            return None
        try:
            body = await (self._over_grpc(export) if export.http_path is None else self._over_http(export))
            refused, why = export_refused(body)
        except Unavailable as error:
            self._counters.export_failures.add(*lane)
            return str(error)
        except (Rejected, ValueError) as error:
            log.warning("%s: %s", _name(export), error)
            self._counters.export_dropped.add(*lane, "rejected", by=export.count)
            return None
        if refused:
            log.warning("%s: %d rejected: %s", _name(export), refused, why)
            self._counters.export_dropped.add(*lane, "rejected", by=refused)
        self._counters.exported.add(*lane, by=export.count - refused)
        return None

    async def _over_grpc(self, export: Export) -> bytes:
        to = (export.collector, export.signal)
        address, channel = self._links.get(to) or self._connect(export)
        try:
            return await channel.call(_METHODS[export.signal], export.body, export.timeout, export.headers)
        except RpcError as error:
            self._links.pop(to, None)  # another endpoint may be there
            raise (Unavailable if error.code in _LATER else Rejected)(f"{address}: {error}") from error

    def _connect(self, export: Export) -> _Link:
        address = self._core.address_of(export)
        link = address, Channel(f"http://{address}")
        self._links[export.collector, export.signal] = link
        return link

    async def _over_http(self, export: Export) -> bytes:
        address = self._core.address_of(export)
        status, body = await asyncio.to_thread(self._post, export, address)
        if status in _LATER_HTTP:
            raise Unavailable(f"{address}: HTTP {status}")
        if not 200 <= status < 300:
            raise Rejected(f"{address}: HTTP {status}")
        return body

    def _post(self, export: Export, address: str) -> tuple[int, bytes]:
        from urllib3 import PoolManager  # noqa: PLC0415  it takes 4 MB, and most need none
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        self._http = self._http or PoolManager(retries=False)
        url = f"http://{address}{export.http_path or _PATHS[export.signal]}"
        headers = {"content-type": "application/x-protobuf", **dict(export.headers)}
        try:
            answer = self._http.request(
                "POST", url, body=export.body, headers=headers, timeout=export.timeout
            )
        except HTTPError as error:
            raise Unavailable(f"{address}: {error}") from error
        return answer.status, answer.data


def _name(export: Export) -> str:
    return f"{export.provider} ({export.signal})"
