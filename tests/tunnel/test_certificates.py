"""Certificates from a real authority, made short-lived where a test waits for their renewal."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from agent.ca.authority import DAY, Authority
from agent.ca.directory import open_root
from agent.model.schema.objects import Key
from protocols.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from tests.support.authority import DB, WEB, RunningAuthority, authority, pod
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.wait import PATIENCE
from tunnel._core import Core
from tunnel.certificates import METHOD, AuthorityClient, Certificates
from tunnel.counters import Counters
from tunnel.settings import CertificateAuthority


def ends(core: Core) -> dict[str, int]:
    return {one["identity"]: one["not_after"] for one in json.loads(core.dump())["certificates"]}


@asynccontextmanager
async def certificates(
    core: Core, counters: Counters, directory: Path, port: int, token: str = "token1"
) -> AsyncIterator[Certificates]:
    """Asks the authority in `directory`."""
    (directory / "token").write_text(token + "\n")
    where = CertificateAuthority(f"https://127.0.0.1:{port}", directory / "root.pem", directory / "token")
    asking = Certificates(core, AuthorityClient(core, where, "Kubernetes"), counters)
    try:
        yield asking
    finally:
        asking.use(set())


@asynccontextmanager
async def both(
    core: Core, counters: Counters, directory: Path, longest: timedelta = DAY
) -> AsyncIterator[tuple[RunningAuthority, Certificates]]:
    async with (
        authority(directory, longest) as ca,
        certificates(core, counters, directory, ca.port) as asking,
    ):
        yield ca, asking


async def test_what_is_in_use_has_a_certificate(core: Core, counters: Counters, tmp_path: Path) -> None:
    async with both(core, counters, tmp_path) as (ca, asking):
        asking.use({WEB})
        assert asking.pending == [WEB]
        await eventually(lambda: not asking.pending)
        assert ends(core)[WEB] == pytest.approx(time.time() + 86400, abs=10)
        assert counters.certificate_ends.get(WEB) == ends(core)[WEB]
        asking.use({WEB})
        asking.use(set())
        assert ends(core) == {}
        assert asking.pending == []
        assert counters.certificate_ends.get(WEB) == 0
        assert ca.counted("ok") == 1


async def test_a_revoked_one_is_exchanged_at_once(core: Core, counters: Counters, tmp_path: Path) -> None:
    async with both(core, counters, tmp_path) as (ca, asking):
        asking.use({WEB})
        await eventually(lambda: ca.counted("ok") == 1)
        asking.renew([DB])  # nobody's here
        asking.renew([WEB])
        await eventually(lambda: ca.counted("ok") == 2)
        await eventually(lambda: not asking.pending)


async def test_it_is_renewed_at_half_of_its_life(core: Core, counters: Counters, tmp_path: Path) -> None:
    async with both(core, counters, tmp_path, timedelta(seconds=6)) as (ca, asking):
        begun = time.monotonic()
        asking.use({WEB})
        await eventually(lambda: ca.counted("ok") == 1)
        await eventually(lambda: ca.counted("ok") == 2)
        assert 1.5 < time.monotonic() - begun < 6
        assert not asking.pending


async def test_while_the_authority_is_away_the_certificate_stays(
    core: Core, counters: Counters, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    async with certificates(core, counters, tmp_path, port) as asking:
        async with authority(tmp_path, timedelta(seconds=3), port) as ca:
            asking.use({WEB})
            await eventually(lambda: not asking.pending)
            first = ends(core)[WEB]
            await ca.server.stop(None)
        await eventually(lambda: counters.certificates.get("UNAVAILABLE") >= 1)
        assert ends(core)[WEB] == first
        assert asking.pending == []
        assert f"no certificate for {WEB}: UNAVAILABLE" in caplog.text
        async with authority(tmp_path, port=port):
            await eventually(lambda: ends(core)[WEB] > first)


async def test_the_token_is_read_each_time(core: Core, counters: Counters, tmp_path: Path) -> None:
    async with authority(tmp_path) as ca, certificates(core, counters, tmp_path, ca.port, "old") as asking:
        asking.use({WEB})
        await eventually(lambda: counters.certificates.get("UNAUTHENTICATED") == 1)
        assert asking.pending == [WEB]
        (tmp_path / "token").unlink()
        await eventually(lambda: counters.certificates.get("FILE") == 1)
        (tmp_path / "token").write_text("token1")
        await eventually(lambda: not asking.pending)


async def test_a_refused_identity_holds_up_no_other(core: Core, counters: Counters, tmp_path: Path) -> None:
    async with both(core, counters, tmp_path) as (_, asking):
        asking.use({WEB, DB})
        await eventually(lambda: asking.pending == [DB])
        await eventually(lambda: counters.certificates.get("PERMISSION_DENIED") >= 1)
        assert list(ends(core)) == [WEB]


async def test_another_root_in_the_file_has_all_renewed(
    core: Core, counters: Counters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnel.certificates._LOOK_AT_ROOT", 0.01)
    monkeypatch.setattr("tunnel.certificates._SPREAD", 0.01)
    identities = {WEB, WEB.replace("default", "other")}
    async with both(core, counters, tmp_path) as (ca, asking):
        ca.placement.apply([(Key("Pod", "other", "a"), pod("a", "node1", "web"))])
        following = asyncio.create_task(asking.follow_root())
        asking.use(identities)
        await eventually(lambda: ca.counted("ok") == 2)
        known = ca.root.read_text()
        for count, text in ((4, known + open_root(tmp_path / "other", "x").bundle), (6, known)):
            ca.root.unlink()  # for a moment: what there was goes on
            ca.root.write_text(text)
            await eventually(lambda: ca.counted("ok") == count)  # noqa: B023
        following.cancel()


async def test_why_the_authority_cannot_be_reached(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnel.certificates._REACHED", PATIENCE)
    other = tmp_path / "other.pem"
    other.write_text(open_root(tmp_path / "other", "cluster.local").bundle)

    async def why(root: Path) -> str:
        where = CertificateAuthority(ca.url, root, tmp_path / "token")
        return await AuthorityClient(core, where, "Kubernetes").unreachable()

    async with authority(tmp_path) as ca:
        assert await why(ca.root) == ""
        assert (await why(other)).startswith("no connection: TLS: ")
        assert "No such file" in await why(tmp_path / "none.pem")
    assert "refused" in await why(ca.root)


class Odd:
    """An authority that answers as it is told to."""

    def __init__(self, chain: list[str]) -> None:
        self.chain = chain
        self.under_way = self.most = 0
        self.go_on = asyncio.Event()

    async def answer(self, _: IstioCertificateRequest, __: object) -> IstioCertificateResponse:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go_on.wait()
        self.under_way -= 1
        return IstioCertificateResponse(cert_chain=self.chain)

    async def serve(self, directory: Path) -> tuple[grpc.aio.Server, int]:
        root = open_root(directory, "cluster.local")
        key, issued = Authority(lambda: root).serving(["localhost"], [])
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            self.answer, IstioCertificateRequest.FromString, IstioCertificateResponse.SerializeToString
        )
        service, method = METHOD[1:].split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        port = server.add_secure_port(
            "localhost:0", grpc.ssl_server_credentials([(key, issued.pem.encode())])
        )
        await server.start()
        return server, port


async def test_few_requests_are_under_way_and_a_useless_answer_is_named(
    core: Core, counters: Counters, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = Odd([])
    server, port = await odd.serve(tmp_path)
    (tmp_path / "token").write_text("any")
    where = CertificateAuthority(f"https://localhost:{port}", tmp_path / "root.pem", tmp_path / "token")
    asking = Certificates(core, AuthorityClient(core, where, "Kubernetes"), counters)
    asking.use({f"spiffe://cluster.local/ns/default/sa/a{number}" for number in range(20)})
    await eventually(lambda: odd.under_way == 8)
    odd.go_on.set()
    await eventually(lambda: counters.certificates.get("UNUSABLE") == 20)
    assert odd.most == 8
    assert "the authority sent no chain" in caplog.text
    odd.chain = ["nonsense", open_root(tmp_path, "cluster.local").bundle]
    await eventually(lambda: "the certificate chain is empty" in caplog.text)
    asking.use(set())
    await server.stop(None)
