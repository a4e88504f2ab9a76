"""The agent's socket for proposals, asked as the command line does."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.cli.admin_client import NoAgent
from agent.cli.proposals import ask, deciding
from agent.errors import SettingsError
from agent.proposals import ProposalServer
from protocols.proposal import File, Proposal, Remark, Whose
from tests.support.wait import PATIENCE


async def answer(files: list[File]) -> Proposal:
    return Proposal(invalid=[Remark(file.name, "", file.text) for file in files], pushes=[b"\0\xff"])


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    server = ProposalServer(tmp_path / "authz.sock", answer, lambda pod: f"{pod.namespace}/of-{pod.name}")
    await server.start()
    yield tmp_path / "authz.sock"
    await server.stop()


async def test_files_go_in_and_a_proposal_comes_out(socket: Path) -> None:
    files = [File("a.yaml", "ä" * 100_000), File("b.yaml", "")]
    assert await asyncio.to_thread(ask, socket, files) == await answer(files)


async def test_a_pod_goes_in_and_who_decides_comes_out(socket: Path) -> None:
    assert await asyncio.to_thread(deciding, socket, Whose("shop", "web")) == "shop/of-web"


async def test_only_its_owner_may_ask(socket: Path) -> None:
    status = await asyncio.to_thread(socket.stat)
    assert stat.S_IMODE(status.st_mode) == 0o600


@pytest.mark.parametrize("nonsense", [b"", b"{", b'[{"name": 1}]', b"\xff"])
async def test_what_is_no_question_is_not_answered(socket: Path, nonsense: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(nonsense)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    assert (await asyncio.to_thread(ask, socket, [])).invalid == [], "it goes on"


async def test_no_agent_answers(tmp_path: Path) -> None:
    with pytest.raises(NoAgent, match=r"no agent answers at .*authz.sock: No such file .*--run-dir") as error:
        await asyncio.to_thread(ask, tmp_path / "authz.sock", [])
    assert error.value.exit_code == 2


async def test_an_agent_that_says_something_else(tmp_path: Path) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_unix_server(other, tmp_path / "authz.sock")
    with pytest.raises(NoAgent, match="of another version"):
        await asyncio.to_thread(ask, tmp_path / "authz.sock", [])
    server.close()


async def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--run-dir: cannot listen at"):
        await ProposalServer(tmp_path / "none" / "authz.sock", answer, str).start()
