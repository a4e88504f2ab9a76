"""A folder as a cluster: re-read on change, the last good state kept, rejections named."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.errors import SettingsError
from agent.model.schema.istio.policy import Policy
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key, Object
from agent.sources.folder import Folder, netns_of
from agent.sources.manifests import parse
from agent.sources.source import Changes
from tests.support.eventually import eventually
from tests.support.wait import PATIENCE


def text(name: str, ip: str = "10.0.0.1", labels: str = "{}") -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {labels}\n"
        f"status: {{podIPs: [{{ip: {ip}}}]}}\n"
    )


def key(name: str) -> Key:
    return Key("Pod", "default", name)


def item(*args: str) -> Object:
    return parse(text(*args).encode()).objects[key(args[0])]


@pytest.fixture
async def following(tmp_path: Path) -> AsyncIterator["Following"]:
    it = Following(tmp_path)
    yield it
    await it.changes.aclose()
    it.folder.close()


class Following:
    """A folder, and the changes it tells."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = Folder(root)
        self.changes = self.folder.changes()

    async def next(self) -> Changes:
        return await asyncio.wait_for(anext(self.changes), PATIENCE)

    def write(self, name: str, content: str) -> None:
        (self.root / name).write_text(content)


async def test_first_everything_then_what_changes(following: Following) -> None:
    following.write("a.yaml", text("a") + "---\n" + text("b"))
    following.write("notes.txt", "a: [")
    following.write(".hidden.yaml", "a: [")
    assert await following.next() == [(key("a"), item("a")), (key("b"), item("b"))]

    following.write("a.yaml", text("a", "10.0.0.2"))
    assert await following.next() == [(key("a"), item("a", "10.0.0.2")), (key("b"), None)]

    (following.root / "a.yaml").unlink()
    assert await following.next() == [(key("a"), None)]


async def test_an_empty_folder_is_told(following: Following) -> None:
    assert await following.next() == []


async def test_atomic_rename_and_a_new_subfolder(following: Following) -> None:
    await following.next()
    following.write("tmp", text("a"))
    (following.root / "tmp").rename(following.root / "a.yml")
    assert await following.next() == [(key("a"), item("a"))]

    nested = following.root / "deep" / "deeper"
    nested.mkdir(parents=True)
    (nested / "b.yaml").write_text(text("b"))
    assert await following.next() == [(key("b"), item("b"))]
    (nested / "b.yaml").write_text(text("b", "10.0.0.2"))
    assert await following.next() == [(key("b"), item("b", "10.0.0.2"))]
    shutil.rmtree(following.root / "deep")
    assert await following.next() == [(key("b"), None)]


async def test_a_file_that_moves_changes_nothing(following: Following) -> None:
    following.write("a.yaml", text("a"))
    await following.next()
    (following.root / "a.yaml").rename(following.root / "z.yaml")
    following.write("b.yaml", text("b"))
    assert await following.next() == [(key("b"), item("b"))]


async def test_the_last_good_version_stays(following: Following, caplog: pytest.LogCaptureFixture) -> None:
    following.write("a.yaml", text("a") + "---\n" + text("b"))
    await following.next()
    following.write("a.yaml", text("a", labels="{x: 1}") + "---\n" + text("b", "10.0.0.2"))
    assert await following.next() == [(key("b"), item("b", "10.0.0.2"))]
    [rejected] = following.folder.rejected
    assert str(rejected) == (
        f"{following.root}/a.yaml:5: Pod default/a: metadata.labels.x: "
        "this is a string: put it in quotes (found 1)"
    )
    assert f"rejected {rejected}; a good version stays in force" in caplog.text

    following.write("a.yaml", text("a", "10.0.0.3"))
    assert await following.next() == [(key("a"), item("a", "10.0.0.3")), (key("b"), None)]
    assert following.folder.rejected == []


async def test_a_file_that_is_no_yaml_keeps_all_of_its_objects(following: Following) -> None:
    following.write("a.yaml", text("a") + "---\n" + text("b"))
    await following.next()
    following.write("a.yaml", text("a", "10.0.0.2") + "---\na: [")
    assert await following.next() == [(key("a"), item("a", "10.0.0.2"))]
    assert following.folder.rejected[0].key is None


async def test_one_object_in_two_files_the_first_stays(following: Following) -> None:
    following.write("b.yaml", text("a"))
    await following.next()
    following.write("a.yaml", text("a", "10.0.0.2") + "---\n" + text("c"))
    assert await following.next() == [(key("c"), item("c"))]
    [rejected] = following.folder.rejected
    assert rejected.file.name == "a.yaml"
    assert "b.yaml, which takes precedence" in rejected.reason
    (following.root / "b.yaml").unlink()
    assert await following.next() == [(key("a"), item("a", "10.0.0.2"))]
    assert following.folder.rejected == []


async def test_the_folder_goes_away_and_comes_back(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    following.write("a.yaml", text("a"))
    following.write("b.yaml", text("b"))
    await following.next()
    away = following.root.with_name("away")
    following.root.rename(away)
    waiting = asyncio.create_task(following.next())
    await eventually(lambda: "source unreachable" in caplog.text)
    (away / "b.yaml").unlink()
    away.rename(following.root)
    assert await waiting == [(key("b"), None)]


async def test_a_file_that_cannot_be_read(following: Following) -> None:
    (following.root / "a.yaml").symlink_to("/proc/self/mem")
    following.write("b.yaml", text("b"))
    assert await following.next() == [(key("b"), item("b"))]
    assert "cannot be read" in following.folder.rejected[0].reason


async def test_a_file_that_is_being_written_keeps_what_it_held(following: Following) -> None:
    """Half of it is as good as YAML as the whole, and says something else."""
    following.write("a.yaml", text("a") + "---\n" + text("b"))
    await following.next()
    with (following.root / "a.yaml").open("w") as writer:
        writer.write(text("a", "10.0.0.2"))
        writer.flush()
        following.write("c.yaml", text("c"))
        assert await following.next() == [(key("c"), item("c"))]
        [rejected] = following.folder.rejected
        assert rejected.reason == "cannot be read: it is being written"
        writer.write("---\n" + text("b", "10.0.0.3"))
    assert await following.next() == [(key("a"), item("a", "10.0.0.2")), (key("b"), item("b", "10.0.0.3"))]
    assert following.folder.rejected == []


async def test_kinds_of_the_mesh_that_are_not_read_are_named_once(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    route = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: x}\n"
    following.write("a.yaml", route + "---\n" + route + "---\napiVersion: apps/v1\nkind: Deployment\n")
    following.write("b.yaml", route)
    await following.next()
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        f"not acted on by this version: EnvoyFilter (networking.istio.io), in {following.root}/a.yaml"
    ]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no folder that can be read"):
        Folder(tmp_path / "absent")


def test_hundreds_of_pods_are_read_fast(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number}.yaml").write_text(text(f"p{number}"))
    folder = Folder(tmp_path)
    start = time.process_time()
    assert len(folder.refresh()) == 500
    assert time.process_time() - start < 1
    folder.close()


def test_netns_of_a_pod() -> None:
    pod = item("a")
    assert isinstance(pod, Pod)
    assert netns_of(pod) is None
    named = parse(text("a").replace("labels: {}", "annotations: {warren.dev/netns: /run/netns/x}").encode())
    [pod] = named.objects.values()
    assert isinstance(pod, Pod)
    assert netns_of(pod) == Path("/run/netns/x")


POLICY = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n"
GOOD = f"{POLICY}spec: {{action: DENY, rules: [{{}}]}}\n"
BAD = f"{POLICY}spec: {{action: DENY, rules: [{{when: [{{key: source.tomorrow, values: [x]}}]}}]}}\n"
REASON = "spec.rules[0].when[0].key: 'source.tomorrow' is no attribute; see Istio's list of conditions"
P = Key("AuthorizationPolicy", "default", "p")


async def policy_of(following: Following) -> Policy:
    [(key, item)] = await following.next()
    assert key == P and isinstance(item, Policy)
    return item


async def test_a_refused_policy_holds_strictly_until_it_is_mended(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    following.write("p.yaml", BAD)
    assert (await policy_of(following)).strictest
    [rejected] = following.folder.rejected
    told = f"{following.root}/p.yaml:4: AuthorizationPolicy default/p: {REASON}; nobody is let in"
    assert str(rejected) == told
    assert f"rejected {told}\n" in caplog.text
    following.write("p.yaml", f"{BAD}---\n{text('x')}")
    assert [key.kind for key, _ in await following.next()] == ["Pod"], "the same again changes nothing"
    following.write("p.yaml", GOOD)
    assert {key: item is not None for key, item in await following.next()} == {P: True, key("x"): False}
    assert following.folder.rejected == []
    (following.root / "p.yaml").unlink()
    assert await following.next() == [(P, None)]


async def test_a_refused_policy_that_is_deleted_is_gone(following: Following) -> None:
    following.write("p.yaml", BAD)
    await following.next()
    (following.root / "p.yaml").unlink()
    assert await following.next() == [(P, None)]
    assert following.folder.rejected == []


@pytest.mark.parametrize(
    "bad",
    [BAD, f"{POLICY}spec: [", GOOD.replace("security.istio.io/v1", "v1"), GOOD.replace("Author", "Autor")],
)
async def test_the_last_good_version_of_a_policy_stays_and_says_so(following: Following, bad: str) -> None:
    following.write("p.yaml", GOOD)
    good = await policy_of(following)
    following.write("p.yaml", bad)
    kept = await policy_of(following)
    assert (kept.refusal and not kept.strictest) and replace(kept, refusal=None) == good
    assert any(str(one).endswith("; a good version stays in force") for one in following.folder.rejected), (
        following.folder.rejected
    )
    following.write("p.yaml", GOOD)
    assert await policy_of(following) == good


async def test_a_policy_that_was_refused_before_it_cannot_be_read_stays(following: Following) -> None:
    following.write("p.yaml", BAD)
    strict = await policy_of(following)
    following.write("p.yaml", "a: [")
    following.write("q.yaml", text("q"))
    assert [key.name for key, _ in await following.next()] == ["q"], "it may be there"
    following.write("p.yaml", BAD.replace("security.istio.io/v1", "v1"))
    assert (await policy_of(following)).strictest, "one more mistake opens nothing"
    assert strict.strictest


async def test_documents_behind_a_broken_one_are_read(following: Following) -> None:
    following.write("a.yaml", f"a: [\n---\n{GOOD}")
    assert not (await policy_of(following)).refusal
