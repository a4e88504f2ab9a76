"""Puts the CNI plugin on this node: its binary, and a conflist in which it is the last of the chain.

The runtime takes the first file of its folder by name. We leave the files of the network's own plugin alone,
and put a copy with our entry before it: `10-net.conflist` (or .conf, .json) gets `10-net-warren.conflist`,
first in the order of ASCII. So there is no moment at which that plugin's agent, writing its file anew, takes
us out of the chain. When it does, or another file becomes the first, our copy follows as soon as the kernel
tells. It stays while no agent runs: through an upgrade, and through a boot, when it holds pods until the
agent is there.

A runtime that attaches pods to more than the first file (containerd's max_conf_num) is not supported.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent.errors import SettingsError, describe, naming
from agent.inotify import Watch
from agent.model.mesh import NEVER_ENROLLED
from agent.node.errors import NodeError
from cni import BINARY

log = logging.getLogger(__name__)

TYPE = BINARY.name
_READ = (".conf", ".conflist", ".json")  # by the runtimes
_OURS = "-warren.conflist"
_OLDEST, _CHAINED_SINCE = "0.3.1", (0, 3, 1)


class Entry(Struct, frozen=True, rename="camel"):
    """Ours in the chain; `cni/src/config.rs` reads it.

    socket: the agent's; agent: NAMESPACE/NAME of its DaemonSet, whose pods are not held, or empty.
    """

    socket: str
    agent: str
    excluded_namespaces: tuple[str, ...]
    type: str = TYPE


def entry(run_dir: Path, daemon_set: str) -> Entry:
    """Of the agent with that --run-dir."""
    return Entry(str(run_dir.resolve() / "cni.sock"), daemon_set, tuple(sorted(NEVER_ENROLLED)))


class Conflist:
    """The plugin in `conf_dir` and `bin_dir`, as they are seen from here."""

    def __init__(self, conf_dir: Path, bin_dir: Path, entry: Entry) -> None:
        self._conf_dir = conf_dir
        self._bin_dir = bin_dir
        self._entry = entry
        self._complaint = ""

    async def keep(self) -> None:
        """Install, and repair whenever something in the folder changes. Ends only by being cancelled.

        Raises SettingsError when it cannot be installed.
        """
        watch = Watch()
        touched = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            self.install(watch.add)
            loop.add_reader(watch.fileno(), touched.set)
            while True:
                await touched.wait()
                touched.clear()
                watch.read()
                try:
                    self.install(watch.add)  # also where a folder itself was taken away
                except SettingsError as error:
                    log.error("the CNI plugin cannot be repaired: %s", error)
        finally:
            loop.remove_reader(watch.fileno())
            watch.close()

    def install(self, prepare: Callable[[Path], object] = lambda directory: None) -> None:
        """Put it there; `prepare` is called with each folder before that. Raises SettingsError."""
        try:
            for directory in (self._conf_dir, self._bin_dir):
                directory.mkdir(parents=True, exist_ok=True)
                prepare(directory)
            self.repair()
        except OSError as error:
            raise SettingsError(f"--cni-conf-dir, --cni-bin-dir: {describe(error)}") from error

    def repair(self) -> None:
        """Make everything as it should be; writes only what is not. Raises OSError."""
        self._copy_binary()
        first = _first(self._conf_dir)
        try:
            wanted = _chained(first, self._entry) if first else None
        except NodeError as error:
            # Half written, most likely: what we made of its last good state stays.
            self._complain(f"{error}; the chain is left as it was")
            return
        target = first.with_name(f"{first.stem}{_OURS}") if first else None
        if target and wanted and _content(target) != wanted:
            _put(target, wanted, 0o644)
            log.info("pods are held until they are captured: %s is before %s", target, first)
        for path in _ours(self._conf_dir):
            if path != target:
                path.unlink(missing_ok=True)
        self._complain("" if first else f"no network is configured in {self._conf_dir} yet")

    def _copy_binary(self) -> None:
        target = self._bin_dir / TYPE
        binary = BINARY.read_bytes()
        if _content(target) != binary:
            _put(target, binary, 0o755)

    def _complain(self, text: str) -> None:
        if text and text != self._complaint:
            log.warning("CNI: %s", text)
        self._complaint = text


def uninstall(conf_dir: Path, bin_dir: Path, keep_binary: bool = False) -> list[Path]:
    """Take away what `Conflist` made, first the conflist, and say what. Raises OSError."""
    taken = _ours(conf_dir)
    if not keep_binary and (bin_dir / TYPE).exists():
        taken.append(bin_dir / TYPE)
    for path in taken:
        path.unlink(missing_ok=True)
    return taken


def _ours(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*{_OURS}"))


def _first(directory: Path) -> Path | None:
    """The file that the runtime would take without us."""
    names = sorted(os.listdir(directory))  # noqa: PTH208  (by name, as the runtimes sort them)
    theirs = (name for name in names if name.endswith(_READ) and not name.endswith(_OURS))
    return next((directory / name for name in theirs), None)


def _chained(path: Path, entry: Entry) -> bytes:
    """Their configuration with our entry at its end. Raises NodeError when it is none."""
    try:
        content = json.loads(path.read_bytes())
        conflist = content if path.suffix == ".conflist" else _wrapped(content)
        plugins = [plugin for plugin in conflist["plugins"] if plugin["type"] != TYPE]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NodeError(f"{path} is no configuration of a network: {type(error).__name__} {error}") from error
    if not plugins:
        raise NodeError(f"{path} lists no plugins")
    chained = conflist | {
        "cniVersion": _version(conflist.get("cniVersion", "")),
        "plugins": [*plugins, msgspec.to_builtins(entry)],
    }
    return json.dumps(chained, indent=2).encode() + b"\n"


def _wrapped(plugin: dict[str, Any]) -> dict[str, Any]:
    """A list of one plugin, from the old form in which a file is one."""
    inside = {key: value for key, value in plugin.items() if key not in ("cniVersion", "name")}
    return {"cniVersion": plugin.get("cniVersion", ""), "name": plugin["name"], "plugins": [inside]}


def _version(stated: str) -> str:
    """The list's, raised to the first one in which plugins hear of the result before them in our form."""
    with contextlib.suppress(ValueError):
        if tuple(int(part) for part in stated.split(".")) >= _CHAINED_SINCE:
            return stated
    return _OLDEST


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _put(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, also when the machine stops: the runtime must never read a part."""
    fresh = path.with_name(f".{path.name}.new")
    with naming(path), fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    fresh.rename(path)
