"""What the core tells and forgets in time, although nobody asks for metrics."""

import asyncio
import socket
from functools import partial
from ipaddress import IPv4Address

import pytest
from google.protobuf.any_pb2 import Any

from agent.model.resources import ADDRESS
from agent.node.netns import NetnsFd
from protocols.discovery_pb2 import DeltaDiscoveryResponse
from protocols.workload_pb2 import Address, Workload
from tests.support.eventually import eventually
from tunnel import expiry
from tunnel._core import Core

OWN_PORT = 15001  # the tunnel's, in the pod: nobody is let through to it
CALLS = 150  # of one address; fewer of its refusals are logged


def call(netns: NetnsFd) -> None:
    """Be refused by the tunnel, at once or a moment later."""
    with (
        pytest.raises(ConnectionResetError),
        netns.run(partial(socket.create_connection, ("127.0.0.1", OWN_PORT), 5)) as sock,
    ):
        sock.recv(1)


async def test_refusals_that_were_withheld_are_told(
    netns: NetnsFd, capfd: pytest.CaptureFixture[str]
) -> None:
    core = Core(node="node1", workers=1, spin_us=0, access_log="errors")
    core.add_pod("uid", netns.fileno(), "own", "default", "own", "cluster.local")
    pod = Workload(uid="own", name="own", namespace="default", service_account="own", node="node1")
    pod.addresses.append(IPv4Address("127.0.0.1").packed)
    push = DeltaDiscoveryResponse(type_url=ADDRESS)
    address = Address(workload=pod).SerializeToString()
    push.resources.add(name="own", resource=Any(type_url=ADDRESS, value=address))
    assert core.apply(push.SerializeToString(), []).rejected == []
    for _ in range(CALLS):
        await asyncio.to_thread(call, netns)

    running, log = asyncio.create_task(expiry.run(core, every=0.01)), ""

    def told() -> bool:
        nonlocal log
        log += capfd.readouterr().err
        return "more refusals of this peer were not logged" in log

    try:
        await eventually(told)
    finally:
        running.cancel()
