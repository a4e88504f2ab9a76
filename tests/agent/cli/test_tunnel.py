"""`warren tunnel` as a process: what it needs, what it tells, how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.model.resources import Delta, address_resource
from agent.node.netns import NetnsFd
from agent.xds.server import XdsServer
from agent.zds.server import ZdsServer
from agent.zds.tunnel import Local
from protocols.version import version
from protocols.workload_pb2 import Address, Workload
from tests.support.authority import WEB, RunningAuthority, authority, csr
from tests.support.eventually import eventually
from tests.support.http2 import Http2
from tests.support.running_tunnel import RunningTunnel, command, tunnel
from tests.support.wait import PATIENCE

_OWN_MB = 18  # 15.9
_WITH_KEEPER_MB = 24  # 21.9, in two processes


class Surroundings:
    """All that a tunnel needs, real, and its settings."""

    def __init__(self, directory: Path, ca: RunningAuthority, zds: ZdsServer) -> None:
        self.directory = directory
        self.ca = ca
        self.zds = zds
        self.settings = {
            "node": "node1", "zds": directory / "zds", "xds": f"unix:{directory}/xds", "ca": ca.url,
            "ca-root": ca.root, "ca-token": directory / "token", "workers": 2,
        }  # fmt: skip

    @contextlib.asynccontextmanager
    async def tunnel(
        self, more: Mapping[str, object] | None = None, measured: bool = True
    ) -> AsyncIterator[RunningTunnel]:
        async with tunnel(self.directory / "log", {**self.settings, **(more or {})}, measured) as running:
            yield running


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Surroundings]:
    async def trust(_pid: int) -> None:
        """Any process is the tunnel."""

    (tmp_path / "token").write_text("token1")
    zds, xds = ZdsServer(tmp_path / "zds", trust), XdsServer()
    workload = Workload(uid="uid1", name="web-1", namespace="default", service_account="web", node="node1")
    message = Address(workload=workload)
    xds.update(Delta(changed=(address_resource("uid1", message, ()),)), "1")
    await zds.start()
    await xds.start(tmp_path / "xds", IPv4Address("127.0.0.1"), 0)
    async with authority(tmp_path) as ca:
        yield Surroundings(tmp_path, ca, zds)
    await zds.stop()
    await xds.stop()


@pytest.fixture
def netns() -> Iterator[NetnsFd]:
    name = f"wt-cli-tunnel-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    with contextlib.closing(NetnsFd.open(Path("/run/netns") / name)) as opened:
        yield opened
    subprocess.run(["ip", "netns", "del", name], check=True)


def own_mb(*pids: int) -> float:
    """Memory without that of files: how large these are is up to how the core was built.

    What processes share counts in part in each.
    """
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss_Anon:"))


def connect() -> None:
    """Raises ConnectionRefusedError when nobody listens. A connection to nowhere is reset, early or late."""
    with contextlib.suppress(ConnectionResetError):
        socket.create_connection(("127.0.0.1", 15006), timeout=5).close()


async def test_a_life(node: Surroundings, netns: NetnsFd) -> None:
    async with node.tunnel() as running:
        await running.becomes_ready()
        pod = Local(uid="uid1", name="web-1", namespace="default", service_account="web", netns=netns)
        await node.zds.add(pod)
        await running.becomes_ready()
        dump = json.loads((await running.ask(running.admin, "/config_dump")).body)
        assert dump["pods"] == ["uid1"]
        assert [one["identity"] for one in dump["certificates"]] == [WEB]
        assert (await running.ask(running.admin, "/connections")).body == "[]"
        told = json.loads((await running.ask(running.admin, "/version")).body)
        assert told == {"name": "warren-tunnel", "version": version()}

        assert (await running.ask(running.metrics, "/metrics")).status == 200
        answer = await running.ask(running.metrics, "/stats/prometheus")
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(answer.body)  # type: ignore[no-untyped-call]
            for sample in family.samples
        }
        assert samples["workload_manager_active_proxy_count"] == 1
        assert samples["warren_certificate_requests_total"] == 1
        assert samples["process_open_fds"] > 10
        assert "istio_build" in samples
        netns.run(connect)

        running.process.terminate()
        assert await asyncio.wait_for(running.process.wait(), PATIENCE) == 0
        assert "Traceback" not in running.log.read_text()
        with pytest.raises(ConnectionRefusedError):
            netns.run(connect)


async def says(running: RunningTunnel, text: str) -> int:
    """Waits until readiness says that; gives its status."""
    async with asyncio.timeout(PATIENCE):
        while text not in (answer := await running.ask(running.ready, "/healthz/ready")).body:
            pass
    return answer.status


async def test_it_waits_for_a_revocation_list_that_can_be_used(node: Surroundings, tmp_path: Path) -> None:
    crl = tmp_path / "ca-crl.pem"
    crl.write_text("no list")
    async with node.tunnel({"crl": crl}) as running:
        assert await says(running, f"certificate revocation list ({crl}: no certificate") == 503
        crl.unlink()
        await running.becomes_ready()
        crl.write_text("no list again")
        assert await says(running, "ready; certificate revocation list") == 200


async def test_at_rest_it_is_small(node: Surroundings, netns: NetnsFd) -> None:
    async with node.tunnel(measured=False) as running:
        pod = Local(uid="uid1", name="web-1", namespace="default", service_account="web", netns=netns)
        await running.becomes_ready()
        await node.zds.add(pod)
        await running.becomes_ready()
        assert own_mb(running.process.pid) <= _OWN_MB


async def test_a_keeper_adds_little(
    node: Surroundings, netns: NetnsFd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARREN_KEEP_LISTENERS", "true")
    async with node.tunnel(measured=False) as running:
        pod = Local(uid="uid1", name="web-1", namespace="default", service_account="web", netns=netns)
        await running.becomes_ready()
        await node.zds.add(pod)
        await running.becomes_ready()
        report = json.loads((await running.ask(running.admin, "/check")).body)
        [generation] = report["generations"]
        memory = own_mb(running.process.pid, generation["pid"])
        running.process.send_signal(signal.SIGINT)  # a generation outlasts a keeper that is killed
        await running.process.wait()
    assert memory <= _WITH_KEEPER_MB


async def test_only_this_host_may_use_the_admin_port(node: Surroundings) -> None:
    there = "127.0.0.2"
    async with node.tunnel({"http-address": there}) as running:
        async with asyncio.timeout(PATIENCE):
            while not (await running.ask(running.ready, "/healthz/ready", address=there)).status:
                pass
        assert (await running.ask(running.admin, "/version")).status == 200
        assert (await running.ask(running.admin, "/version", address=there)).status == 0
        assert (await running.ask(running.metrics, "/metrics", address=there)).status == 200
        assert (await running.ask(running.metrics, "/metrics")).status == 0


async def test_it_says_what_it_waits_for(node: Surroundings) -> None:
    nowhere = {"zds": node.directory / "none", "xds": f"unix:{node.directory}/none"}
    async with node.tunnel(nowhere) as running:
        async with asyncio.timeout(PATIENCE):
            while not (answer := await running.ask(running.ready, "/healthz/ready")).status:
                pass
        text = "waiting for: configuration (Authorization), configuration (Address), pods (agent)\n"
        assert answer == (503, text)
        quitting = await running.ask(running.admin, "/quitquitquit", "POST")
        assert quitting == (200, "draining\n")
        assert await asyncio.wait_for(running.process.wait(), PATIENCE) == 0


async def test_a_drain_waits_for_connections_and_a_second_signal_does_not(
    node: Surroundings, netns: NetnsFd
) -> None:
    async with node.tunnel({"drain-deadline": 60}) as running:
        await running.becomes_ready()
        await node.zds.add(
            Local(uid="uid1", name="web-1", namespace="default", service_account="web", netns=netns)
        )
        await running.becomes_ready()
        key = ec.generate_private_key(ec.SECP256R1())
        chain = await node.ca.ask(csr(key=key))
        client, application = await asyncio.to_thread(netns.run, lambda: hbone_stream(node, chain, key))
        with client, application:
            running.process.terminate()
            await eventually(lambda: "draining for at most 60 s" in running.log.read_text())
            answer = await running.ask(running.ready, "/healthz/ready")
            assert answer == (503, "waiting for: the end of the drain\n")
            running.process.terminate()
            assert await asyncio.wait_for(running.process.wait(), PATIENCE) == 1


async def test_a_generation_that_cannot_outlast_its_container_drains_with_it(
    node: Surroundings, netns: NetnsFd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No `--cgroup` was given: the end of the keeper's container would cut it off."""
    monkeypatch.setenv("WARREN_KEEP_LISTENERS", "true")
    async with node.tunnel() as running:
        await running.becomes_ready()
        report = json.loads((await running.ask(running.admin, "/check")).body)
        [generation] = report["generations"]
        assert (generation["number"], generation["stage"], generation["outlasts"]) == (1, "serving", False)
        assert generation["pid"] != running.process.pid
        running.process.terminate()
        assert await asyncio.wait_for(running.process.wait(), PATIENCE) == 0
        assert "drained; 0 connections were cut" in running.log.read_text()
        with pytest.raises(ProcessLookupError):
            os.kill(generation["pid"], 0)


async def test_a_setting_that_cannot_work_ends_the_keeper_too(
    node: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARREN_KEEP_LISTENERS", "true")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with node.tunnel({"metrics-port": taken.getsockname()[1]}) as running:
            assert await asyncio.wait_for(running.process.wait(), PATIENCE) == 1
            assert str(taken.getsockname()[1]) in running.log.read_text()


def hbone_stream(
    node: Surroundings, chain: list[str], key: ec.EllipticCurvePrivateKey
) -> tuple[Http2, socket.socket]:
    """A tunnel to the pod with a connection in it, and the end of it that an application in the pod has."""
    shown = node.directory / "shown.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown.write_text(chain[0] + private.decode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(node.ca.root)
    context.load_cert_chain(shown)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_server(("127.0.0.1", 9000)) as application,
        socket.create_connection(("127.0.0.1", 15008)) as plain,
    ):
        tunnel = Http2(context.wrap_socket(plain), client=True)
        tunnel.greet()
        assert tunnel.status(tunnel.connect("127.0.0.1:9000")) == 200
        connection, _ = application.accept()
        return tunnel, connection


def test_all_bad_settings_are_named_at_once(tmp_path: Path) -> None:
    settings = {"xds": "http://a", "ca": "https://a", "ca-root": "/none", "http-address": "a", "spin": -1}
    done = subprocess.run(command(settings), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    named = {line.split(" ")[2].rstrip(":") for line in done.stderr.splitlines()}
    assert named == {*(f"--{name}" for name in settings), "--node", "--zds", "--ca-token"}


async def test_a_port_in_use_is_one_line(node: Surroundings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {**node.settings, "metrics-port": taken.getsockname()[1], "admin-port": 0, "ready-port": 0}
        done = await asyncio.to_thread(
            subprocess.run, command(settings), capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "address already in use" in done.stderr
