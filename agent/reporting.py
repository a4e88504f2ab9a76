"""The reporter's process: of several replicas the one that holds the lease reads all objects and writes."""

import asyncio
import logging
from functools import partial

from agent import memory
from agent.kube.client import Client
from agent.kube.lease import Lease
from agent.lifetime import cancelled, told_to_end, until_first
from agent.model.mesh import Mesh
from agent.model.model import Model, allotted, apply, gateway_statuses, parents
from agent.sources.address_writer import AddressWriter
from agent.sources.gateway_writer import GatewayWriter
from agent.sources.reporter import Reporter

log = logging.getLogger(__name__)

_LEASE = "warren-status"
_LOOK = 0.5  # seconds between two looks at the lease


async def report(client: Client, namespace: str, holder: str, mesh: Mesh) -> None:
    """Until SIGTERM or SIGINT. namespace: of the lease. holder: our name, which no other replica has."""
    lease = Lease(client, namespace, _LEASE, holder)
    try:
        await until_first(told_to_end().wait(), lease.keep(), _lead_at_times(client, lease, mesh))
    finally:
        await asyncio.to_thread(lease.leave)


async def _lead_at_times(client: Client, lease: Lease, mesh: Mesh) -> None:
    """Whenever the lease is ours. A replica that stands by reads nothing."""
    while True:
        if lease.held:
            await _lead(client, lease, mesh)
        await asyncio.sleep(_LOOK)


async def _lead(client: Client, lease: Lease, mesh: Mesh) -> None:
    """Write as long as the lease is ours."""
    reporter = Reporter(client)
    addresses, gateways = AddressWriter(client, reporter.kube), GatewayWriter(client, reporter.kube)
    work = [
        asyncio.create_task(reporter.run()),
        asyncio.create_task(addresses.run()),
        asyncio.create_task(gateways.run()),
        asyncio.create_task(_follow(reporter, mesh, addresses, gateways)),
    ]
    try:
        while lease.held:
            done, _ = await asyncio.wait(work, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        reporter.kube.close()
        await cancelled(*work)


async def _follow(reporter: Reporter, mesh: Mesh, addresses: AddressWriter, gateways: GatewayWriter) -> None:
    model, loaded = Model(mesh), False
    async for changes in reporter.kube.changes():
        model, _ = await asyncio.to_thread(apply, model, changes)
        if not loaded:
            loaded = True
            await asyncio.to_thread(memory.after_loading)
        reporter.tell(model.problems, partial(parents, model), [key for key, _ in changes])
        addresses.tell(partial(allotted, model), [key for key, _ in changes])
        gateways.tell(partial(gateway_statuses, model), [key for key, _ in changes])
