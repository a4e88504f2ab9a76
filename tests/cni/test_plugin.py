"""The CNI plugin's binary, with the agent's server for it and without."""

import asyncio
import json
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.errors import WarrenError
from agent.node.cni import CniServer
from agent.node.sandboxes import Attachment
from cni import BINARY
from tests.support.cni import Plugin, result, run, sandbox
from tests.support.eventually import eventually

NETNS = Path("/run/netns/a")


@dataclass
class Pods:
    """A node's pods, which are captured when the test says so."""

    ready: bool = True
    refusal: str = ""
    calls: list[str] = field(default_factory=list)
    attached: list[Attachment] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def unready(self) -> str:
        return self.refusal

    async def attach(self, attachment: Attachment) -> None:
        self.attached.append(attachment)
        await self._answer(f"attach {attachment}")

    async def check(self, attachment: Attachment) -> None:
        await self._answer(f"check {attachment}")

    async def detach(self, container: str) -> None:
        await self._answer(f"detach {container}")

    async def keep(self, containers: set[str]) -> None:
        await self._answer(f"keep {sorted(containers)}")

    async def _answer(self, call: str) -> None:
        self.calls.append(call)
        await self.open.wait()
        if self.refusal:
            raise WarrenError(self.refusal)


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path / "cni.sock")


@pytest.fixture
async def pods(plugin: Plugin) -> AsyncIterator[Pods]:
    pods = Pods()
    pods.open.set()
    server = CniServer(plugin.socket, pods)
    await server.start()
    yield pods
    await server.stop()


def test_it_is_whole_in_itself() -> None:
    linked = subprocess.run(["ldd", BINARY], capture_output=True, text=True, check=False)
    assert "statically linked" in linked.stdout or "not a dynamic executable" in linked.stderr
    assert BINARY.stat().st_size < 2 << 20


async def test_versions() -> None:
    done = await run('{"cniVersion": "0.4.0"}', {"CNI_COMMAND": "VERSION"})
    assert done.code == 0
    assert json.loads(done.output) == {
        "cniVersion": "0.4.0",
        "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


async def test_add_waits_for_the_agents_word(plugin: Plugin, pods: Pods) -> None:
    pods.open.clear()
    adding = asyncio.create_task(plugin.add("c1", NETNS, "default/web", "u1", ["10.0.0.2", "fd00::2"]))
    await eventually(lambda: pods.calls == ["attach default/web"])
    [attachment] = pods.attached
    assert (attachment.container, attachment.uid, attachment.netns) == ("c1", "u1", NETNS)
    assert attachment.ips == ("10.0.0.2", "fd00::2"), "not the host's end"
    assert not adding.done()
    pods.open.set()
    done = await adding
    assert (done.code, json.loads(done.output)) == (0, result(["10.0.0.2", "fd00::2"]))


async def test_the_result_is_handed_on_byte_for_byte(plugin: Plugin, pods: Pods) -> None:
    before = '{ "cniVersion":"1.0.0",\n "ips" : [], "later": [1.50, "\\u00e9"] }'
    config = f'{{"cniVersion": "1.0.0", "socket": "{plugin.socket}", "prevResult": {before}}}'
    done = await run(config, {"CNI_COMMAND": "ADD", **sandbox("c1", NETNS, "default/web")})
    assert done.output == before
    assert pods.calls == ["attach default/web"]


async def test_a_refusal_fails_the_pods_start(plugin: Plugin, pods: Pods) -> None:
    pods.refusal = "no namespace"
    done = await plugin.add("c1", NETNS, "default/web")
    assert done.code == 1
    assert {key: done.error[key] for key in ("cniVersion", "code", "msg")} == {
        "cniVersion": "1.0.0",
        "code": 11,
        "msg": "no namespace",
    }
    assert "log of Warren's agent" in done.error["details"]
    assert (await plugin.check("c1", NETNS, "default/web")).error["msg"] == "no namespace"
    assert (await plugin.delete("c1", NETNS, "default/web")).code == 0


async def test_without_an_agent_pods_are_held(plugin: Plugin) -> None:
    plugin.timeout = 1
    done = await plugin.add("c1", NETNS, "default/web")
    assert done.error["code"] == 11
    assert "No such file" in done.error["msg"]
    assert "pod default/web is held until it is captured" in done.error["details"]


async def test_without_an_agent_a_node_comes_back(plugin: Plugin) -> None:
    for pod in ("kube-system/coredns-1", "warren-system/warren-node-x7k2p"):
        done = await plugin.add("c1", NETNS, pod)
        assert (done.code, json.loads(done.output)) == (0, result([]))
    assert (await plugin.delete("c1", NETNS, "default/web")).code == 0
    assert (await plugin.call("ADD", {"CNI_CONTAINERID": "c", "CNI_NETNS": "/n"}, prevResult={})).code == 0


async def test_an_agent_that_restarts_costs_no_failure(plugin: Plugin, tmp_path: Path) -> None:
    refusing = socket.socket(socket.AF_UNIX)
    refusing.bind(str(plugin.socket))  # and nobody listens
    adding = asyncio.create_task(plugin.add("c1", NETNS, "default/web"))
    first, second = Pods(), Pods()
    second.open.set()
    plugin.socket.unlink()
    server = CniServer(plugin.socket, first)
    await server.start()
    await eventually(lambda: first.calls == ["attach default/web"])
    await server.stop()
    server = CniServer(plugin.socket, second)
    await server.start()
    assert (await adding).code == 0
    assert second.calls == ["attach default/web"]
    await server.stop()
    refusing.close()


@pytest.mark.parametrize("backlog", [8, 0])
async def test_an_agent_that_hangs(plugin: Plugin, backlog: int) -> None:
    plugin.timeout = 1
    with socket.socket(socket.AF_UNIX) as hanging, socket.socket(socket.AF_UNIX) as queued:
        hanging.bind(str(plugin.socket))
        hanging.listen(backlog)
        queued.connect(str(plugin.socket))
        assert "no answer within 1 s" in (await plugin.add("c1", NETNS, "default/web")).error["msg"]
        assert (await plugin.delete("c1", NETNS, "default/web")).code == 0


async def test_status_and_garbage(plugin: Plugin, pods: Pods) -> None:
    plugin.version = "1.1.0"
    assert (await plugin.call("STATUS")).code == 0
    pods.ready = False
    assert (await plugin.call("STATUS")).error["code"] == 50
    assert (await plugin.garbage("c1", "c2")).code == 0
    assert pods.calls == ["keep ['c1', 'c2']"]
    assert (await plugin.call("GC")).code == 0, "nothing is said, nothing is taken away"
    assert len(pods.calls) == 1


async def test_status_without_an_agent(plugin: Plugin) -> None:
    plugin.version, plugin.timeout = "1.1.0", 1
    assert (await plugin.call("STATUS")).error["code"] == 50


async def test_bad_calls_are_named(plugin: Plugin, pods: Pods) -> None:
    pod = sandbox("c1", NETNS, "default/web")
    for done, code, text in [
        (await plugin.call("ADD", pod), 7, "prevResult"),
        (await plugin.call("ADD", {**pod, "CNI_NETNS": ""}, prevResult={}), 4, "CNI_NETNS"),
        (await plugin.call("ADD", {**pod, "CNI_CONTAINERID": ""}, prevResult={}), 4, "CNI_CONTAINERID"),
        (await plugin.call("ADD", {**pod, "CNI_CONTAINERID": "../c"}, prevResult={}), 6, "container"),
        (await plugin.call("ADD", pod, prevResult={"ips": [{"address": "x/1"}]}), 6, "'x'"),
        (await plugin.call("ADD", pod, prevResult={"ips": [{"address": "::1", "interface": 3}]}), 6, "index"),
        (await plugin.call("DANCE"), 4, "DANCE"),
        (await run("{", {"CNI_COMMAND": "ADD", **pod}), 7, "entry"),
        (await run('{"cniVersion": "9.0.0"}', {"CNI_COMMAND": "ADD"}), 1, "not supported"),
    ]:
        assert done.error["code"] == code, done
        assert text in done.error["msg"], done
        assert done.error["details"], done
    assert pods.calls == []


def _ask_as(user: int, path: Path) -> bytes:
    child = (
        "import os, socket, sys\n"
        f"os.setuid({user})\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        f"s.connect({str(path)!r})\n"
        's.sendall(b\'{"command": "STATUS"}\'); s.shutdown(1)\n'
        "sys.stdout.buffer.write(s.recv(100))\n"
    )
    return subprocess.run(["python3", "-c", child], capture_output=True, check=False).stdout


@pytest.fixture
def shown() -> Iterator[Path]:
    """A folder that anybody can enter."""
    with tempfile.TemporaryDirectory(prefix="wt-cni-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


def _open(path: Path) -> int:
    """Let anybody connect; what the mode was."""
    before = path.stat().st_mode & 0o777
    path.chmod(0o666)
    return before


async def test_only_root_may_ask(shown: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = shown / "cni.sock"
    server = CniServer(path, Pods())
    await server.start()
    assert _open(path) == 0o600
    # The mode is no obstacle now: it is the kernel's word on the peer that counts.
    assert await asyncio.to_thread(_ask_as, 0, path) == b'{"code":0,"msg":"","details":""}'
    assert await asyncio.to_thread(_ask_as, 65534, path) == b""
    assert "from user 65534: only root may" in caplog.text
    await server.stop()
