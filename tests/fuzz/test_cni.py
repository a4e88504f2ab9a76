"""Whatever the plugin's end of the CNI socket says: it is answered, and what is refused changes nothing."""

import asyncio
import json
from pathlib import Path
from tempfile import mkdtemp

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from agent.node.cni import Answer, CniServer
from agent.node.sandboxes import Attachment, Sandboxes
from tests.fuzz.messages import damaged, fuzzed
from tests.support.wait import PATIENCE

NETNS = "/proc/self/ns/net"
TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=10,
)
ADDRESSES = st.fixed_dictionaries(
    {"address": st.one_of(st.sampled_from(["10.0.0.2/24", "::1", "::ffff:10.0.0.1/64", "/", ""]), TEXT)},
    optional={"interface": st.one_of(st.none(), st.integers(-3, 3))},
)
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "interfaces": st.lists(st.fixed_dictionaries({}, optional={"sandbox": TEXT}), max_size=2),
        "ips": st.lists(ADDRESSES, max_size=3),
    },
)
CALLS = st.fixed_dictionaries(
    {"command": st.sampled_from(["ADD", "CHECK", "DEL", "GC", "STATUS", "add", ""])},
    optional={
        "container": st.one_of(st.sampled_from(["c1", "c2", "../c", "c/..", "c\n", ".c"]), TEXT),
        "netns": st.one_of(st.just(NETNS), st.sampled_from(["", "/", "/nowhere", "a\0b", "\ud800"])),
        "namespace": TEXT,
        "name": TEXT,
        "uid": TEXT,
        "result": st.one_of(st.none(), RESULTS, JSON),
        "attachments": st.one_of(
            st.none(), st.lists(st.fixed_dictionaries({"containerID": TEXT}), max_size=2), JSON
        ),
    },
)
MESSAGES = damaged(st.one_of(CALLS, JSON).map(lambda call: json.dumps(call).encode()))
NESTED = b'{"command": "ADD", "other": ' + b"[" * 5000 + b"]" * 5000 + b"}"


def call(**fields: str) -> bytes:
    """An ADD, as the plugin sends it but for these fields."""
    whole = {"command": "ADD", "container": "c1", "netns": NETNS, "namespace": "a", "name": "b"}
    return json.dumps({**whole, **fields}).encode()


class Pods:
    """A node's pods as far as the sandboxes go: each is let in."""

    ready = True

    def __init__(self, folder: Path) -> None:
        self.sandboxes = Sandboxes(folder)

    def unready(self) -> str:
        raise AssertionError("it is ready")

    async def attach(self, attachment: Attachment) -> None:
        self.sandboxes.add(attachment)

    async def check(self, attachment: Attachment) -> None:
        assert all(attachment.addresses)

    async def detach(self, container: str) -> None:
        self.sandboxes.remove(container)

    async def keep(self, containers: set[str]) -> None:
        self.sandboxes.keep(containers)


@fuzzed
@example(message=NESTED)
@example(message=call(netns="a\0b"))
@example(message=call(container=""))
@example(message=call(container="c\n"))
@given(message=MESSAGES)
def test_a_plugin_that_says_anything(tmp_path: Path, message: bytes) -> None:
    own = Path(mkdtemp(dir=tmp_path))
    folder = own / "sandboxes"
    answer = asyncio.run(_ask(tmp_path / "cni.sock", Pods(folder), message))
    assert answer.code == 0 or answer.msg
    assert [path.name for path in own.iterdir()] == ["sandboxes"], "files are nowhere else"
    kept = list(folder.iterdir())
    assert all(path.suffix == ".json" and path.name.isprintable() for path in kept)
    Sandboxes(folder)  # an agent that starts anew removes what it cannot read
    assert list(folder.iterdir()) == kept


async def _ask(path: Path, pods: Pods, message: bytes) -> Answer:
    server = CniServer(path, pods)
    await server.start()
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(message)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(-1), PATIENCE)
        writer.close()
        return msgspec.json.decode(answer, type=Answer)
    finally:
        await server.stop()
