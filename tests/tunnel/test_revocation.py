"""The file of revocation lists: when it is there, when it changes, and when it cannot be used."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.revocation import RevocationLists


@pytest.fixture
def core() -> Core:
    return Core(node="node1", workers=1, spin_us=0, access_log="off", crl=True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ca-crl.pem"


@asynccontextmanager
async def followed(core: Core, file: Path, counters: Counters) -> AsyncIterator[RevocationLists]:
    lists = RevocationLists(core, file, counters, lambda _: None)
    task = asyncio.create_task(lists.follow())
    try:
        yield lists
    finally:
        task.cancel()


def in_force(core: Core) -> int | None:
    """How many lists."""
    found: int | None = json.loads(core.dump())["crl"]["lists"]
    return found


def put(file: Path, content: bytes) -> None:
    """In place of what is there, at once."""
    new = file.with_name("new")
    new.write_bytes(content)
    new.rename(file)


def mount(file: Path, authority: Authority) -> None:
    """Two versions of the file, as a kubelet lays them out; the first one is there."""
    for number in (1, 2):
        version = file.with_name(f"..{number}")
        version.mkdir()
        (version / file.name).write_bytes(authority.crl() * number)
    lead(file.with_name("..data"), "..1")
    file.symlink_to(Path("..data") / file.name)


def lead(link: Path, target: str) -> None:
    """Have a link lead elsewhere, at once."""
    new = link.with_name("..new")
    new.symlink_to(target)
    new.rename(link)


def take_away(file: Path, folder: bool) -> None:
    file.unlink()
    if folder:
        file.mkdir()


def give_way(folder: Path) -> None:
    folder.rmdir()


@pytest.mark.parametrize("empty", [False, True])
async def test_no_file_is_no_list(core: Core, file: Path, counters: Counters, empty: bool) -> None:
    if empty:
        put(file, b"\n")
    assert in_force(core) is None, "nobody is believed yet"
    async with followed(core, file, counters) as lists:
        assert lists.pending
        await eventually(lambda: in_force(core) == 0)
        await eventually(lambda: not lists.pending)
        assert not lists.warnings


async def test_a_change_is_in_force_soon(
    core: Core, file: Path, counters: Counters, authority: Authority
) -> None:
    async with followed(core, file, counters) as lists:
        await eventually(lambda: in_force(core) == 0)
        put(file, authority.crl())
        await eventually(lambda: in_force(core) == 1)
        put(file, authority.crl() * 2)
        await eventually(lambda: in_force(core) == 2)
        assert counters.crl_next_update.get() > 0
        assert not lists.problem


async def test_a_link_is_followed_as_a_configmap_changes_it(
    core: Core, file: Path, counters: Counters, authority: Authority, tmp_path: Path
) -> None:
    mount(file, authority)
    async with followed(core, file, counters):
        await eventually(lambda: in_force(core) == 1)
        lead(tmp_path / "..data", "..2")
        await eventually(lambda: in_force(core) == 2)


@pytest.mark.parametrize("how", ["no list", "empty", "gone", "a folder"])
async def test_what_cannot_be_used_changes_nothing_and_is_told(
    core: Core, file: Path, counters: Counters, authority: Authority, how: str
) -> None:
    put(file, authority.crl())
    async with followed(core, file, counters) as lists:
        await eventually(lambda: in_force(core) == 1)
        if how in ("no list", "empty"):
            put(file, b"no list" if how == "no list" else b"")
        else:
            take_away(file, folder=how == "a folder")
        await eventually(lambda: bool(lists.problem))
        assert in_force(core) == 1
        assert not lists.pending
        assert str(file) in lists.warnings[0]
        assert json.loads(core.dump())["crl"]["problem"] == lists.problem
        assert (counters.crl_reads.get("FAILED"), counters.crl_current.get()) == (1, 0)
        if how == "a folder":
            give_way(file)
        put(file, authority.crl() * 2)
        await eventually(lambda: in_force(core) == 2)
        await eventually(lambda: not lists.problem and not lists.warnings)
        assert counters.crl_current.get() == 1


async def test_what_cannot_be_used_at_the_start_lets_nobody_in(
    core: Core, file: Path, counters: Counters, authority: Authority
) -> None:
    put(file, b"no list")
    async with followed(core, file, counters) as lists:
        await eventually(lambda: bool(lists.problem))
        assert in_force(core) is None
        assert "no certificate revocation list in it" in lists.pending[0]
        put(file, authority.crl())
        await eventually(lambda: not lists.pending)
        assert in_force(core) == 1
