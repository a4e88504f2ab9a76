"""The CNI plugin's place on a node, in folders like the runtime's and with the rules by which it chooses."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import SettingsError
from agent.node import conflist
from agent.node.conflist import Conflist, Entry
from cni import BINARY
from tests.support.eventually import eventually

ENTRY = Entry("/run/warren/cni.sock", "warren-system/warren-node", ("kube-system",))
BRIDGE = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}


class Folders:
    """The runtime's."""

    def __init__(self, root: Path) -> None:
        self.conf, self.bin = root / "net.d", root / "bin"
        self.conf.mkdir()
        self.plugin = Conflist(self.conf, self.bin, ENTRY)

    def write(self, name: str, content: object = BRIDGE) -> Path:
        path = self.conf / name
        path.write_text(json.dumps(content))
        return path

    def chosen(self) -> dict[str, Any]:
        """What the runtime would use: the first that it reads, by name."""
        read = [path for path in self.conf.iterdir() if path.suffix in (".conf", ".conflist", ".json")]
        content: dict[str, Any] = json.loads(min(read, key=lambda path: path.name).read_bytes())
        return content

    def types(self) -> list[str]:
        return [plugin["type"] for plugin in self.chosen().get("plugins", [{"type": ""}])]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
async def kept(folders: Folders) -> AsyncIterator[Folders]:
    """With somebody who repairs them."""
    keeping = asyncio.create_task(folders.plugin.keep())
    yield folders
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


def test_at_the_end_of_the_chain_that_the_runtime_chooses(folders: Folders) -> None:
    folders.write("99-other.conflist", BRIDGE | {"name": "other"})
    original = folders.write("10-net.conflist")
    before = original.read_bytes()
    folders.plugin.install()
    assert folders.types() == ["bridge", "portmap", "warren-cni"]
    chosen = folders.chosen()
    assert (chosen["name"], chosen["cniVersion"]) == ("net", "1.0.0")
    assert chosen["plugins"][-1] == {
        "type": "warren-cni",
        "socket": "/run/warren/cni.sock",
        "agent": "warren-system/warren-node",
        "excludedNamespaces": ["kube-system"],
    }
    assert original.read_bytes() == before
    assert (folders.bin / "warren-cni").read_bytes() == BINARY.read_bytes()
    assert os.access(folders.bin / "warren-cni", os.X_OK)


@pytest.mark.parametrize("suffix", ["conf", "json"])
def test_a_single_plugin_becomes_a_list(folders: Folders, suffix: str) -> None:
    folders.write(f"10-net.{suffix}", {"cniVersion": "0.3.1", "name": "net", "type": "bridge", "mtu": 1400})
    folders.plugin.install()
    chosen = folders.chosen()
    assert (chosen["name"], chosen["cniVersion"]) == ("net", "0.3.1")
    assert chosen["plugins"][0] == {"type": "bridge", "mtu": 1400}
    assert folders.types() == ["bridge", "warren-cni"]


@pytest.mark.parametrize(("stated", "used"), [("", "0.3.1"), ("0.2.0", "0.3.1"), ("0.4.0", "0.4.0")])
def test_versions_from_before_chaining(folders: Folders, stated: str, used: str) -> None:
    folders.write("10-net.conflist", BRIDGE | {"cniVersion": stated})
    folders.plugin.install()
    assert folders.chosen()["cniVersion"] == used


def test_nothing_is_written_that_is_right_already(folders: Folders) -> None:
    folders.write("10-net.conflist")
    folders.plugin.install()
    before = {path: path.stat().st_ino for folder in (folders.conf, folders.bin) for path in folder.iterdir()}
    folders.plugin.repair()
    after = {path: path.stat().st_ino for folder in (folders.conf, folders.bin) for path in folder.iterdir()}
    assert after == before


async def test_it_follows_the_network_plugin(kept: Folders) -> None:
    await asyncio.sleep(0)
    assert list(kept.conf.iterdir()) == [], "there is no network yet"
    net = kept.write("10-net.conflist")
    await eventually(lambda: kept.types() == ["bridge", "portmap", "warren-cni"])
    kept.write("10-net.conflist", BRIDGE | {"plugins": [{"type": "ptp"}]})
    await eventually(lambda: kept.types() == ["ptp", "warren-cni"])
    first = kept.write("05-first.conflist", BRIDGE | {"plugins": [{"type": "first"}]})
    await eventually(lambda: kept.types() == ["first", "warren-cni"])
    await eventually(lambda: not (kept.conf / "10-net-warren.conflist").exists())
    first.unlink()
    net.unlink()
    await eventually(lambda: list(kept.conf.iterdir()) == [])


async def test_what_is_taken_away_comes_back(kept: Folders) -> None:
    kept.write("10-net.conflist")
    ours = kept.conf / "10-net-warren.conflist"
    await eventually(ours.exists)
    ours.rename(ours.with_suffix(".bak"))
    await eventually(ours.exists)
    ours.write_text("{}")
    await eventually(lambda: kept.types()[-1] == "warren-cni")
    (kept.bin / "warren-cni").unlink()
    await eventually((kept.bin / "warren-cni").exists)


async def test_folders_that_are_made_anew(kept: Folders) -> None:
    await eventually((kept.bin / "warren-cni").exists)
    for folder in (kept.conf, kept.bin):
        shutil.rmtree(folder)
        await eventually(folder.exists)
    kept.write("10-net.conflist")
    await eventually(lambda: kept.types() == ["bridge", "portmap", "warren-cni"])
    await eventually((kept.bin / "warren-cni").exists)


async def test_a_file_half_written(kept: Folders, caplog: pytest.LogCaptureFixture) -> None:
    original = kept.write("10-net.conflist")
    await eventually(lambda: kept.types()[-1] == "warren-cni")
    for broken in ('{"cniVersion": "1.0.0", "plug', "[]", '{"plugins": []}', '{"name": "a", "plugins": [1]}'):
        caplog.clear()
        original.write_text(broken)
        await eventually(lambda: "the chain is left as it was" in caplog.text)
        assert kept.types() == ["bridge", "portmap", "warren-cni"]
    kept.write("10-net.conflist", BRIDGE | {"plugins": [{"type": "ptp"}]})
    await eventually(lambda: kept.types() == ["ptp", "warren-cni"])


def test_uninstalled_it_leaves_nothing(folders: Folders) -> None:
    original = folders.write("10-net.conflist")
    folders.plugin.install()
    ours = [folders.conf / "10-net-warren.conflist", folders.bin / "warren-cni"]
    assert conflist.uninstall(folders.conf, folders.bin, keep_binary=True) == ours[:1]
    assert ours[1].exists()
    assert conflist.uninstall(folders.conf, folders.bin) == ours[1:]
    assert conflist.uninstall(folders.conf, folders.bin) == []
    assert list(folders.conf.iterdir()) == [original]


async def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"--cni-conf-dir.*file"):
        await Conflist(tmp_path / "file", tmp_path / "bin", ENTRY).keep()
