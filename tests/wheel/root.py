"""A root of Debian's with Python and nothing else, on this machine's kernel."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from platform import freedesktop_os_release

from agent.lab import cgroups
from tests.support.archives import KEYS, archive
from tests.support.command import Said

REPOSITORY = Path(__file__).parents[2]
BUILD = REPOSITORY / "build" / "wheel"
VENV = "/opt/warren"
_PACKAGES = "python3,python3-venv"
_ENTER = Path(__file__).with_name("enter.sh")
_WITHIN = 300.0  # seconds
# Not this machine's: what a user has at first.
_ENVIRONMENT = {
    "PATH": f"{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "COLUMNS": "200",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Root:
    """path: of the root here; cgroup: of what runs in it, its root of cgroup v2."""

    def __init__(self, path: Path, cgroup: Path) -> None:
        self.path, self._cgroup = path, cgroup

    def run(self, *command: str, network: bool = False) -> Said:
        """Run a command; what it started and mounted is gone when it has ended.

        network: whether it has this machine's network, or none but a loopback.
        """
        own = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup", *([] if network else ["--net"])]
        up = [] if network else ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        apart = ["unshare", *own, *up, "sh", str(_ENTER), str(self.path), *command]
        joining = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self._cgroup)]
        done = subprocess.run(
            [*joining, *apart],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_WITHIN,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def install(self, wheel: Path) -> None:
        """As a user does, into an environment of its own; no compiler is there.

        This machine's pip fetches what the wheel needs, by its own settings: the root's has no network.
        """
        wheels = self.path / "wheels"
        _pip("download", "--only-binary=:all:", "--dest", wheels, wheel)
        pip = (f"{VENV}/bin/pip", "install", "-q", "--no-index", "--find-links=/wheels")
        for command in (("python3", "-m", "venv", VENV), (*pip, f"/wheels/{wheel.name}")):
            said = self.run(*command)
            assert said.code == 0, said


@contextmanager
def empty_root() -> Iterator[Root]:
    """A root that is taken away at the end, with its cgroup. Raises SystemExit where apt knows no Debian."""
    suite = freedesktop_os_release()["VERSION_CODENAME"]  # whose Python and glibc the wheel is built for
    place = archive(suite)
    packages = BUILD / "packages"  # kept: they need not be fetched a second time
    packages.mkdir(parents=True, exist_ok=True)
    group = cgroups.mount_point() / f"wt-wheel-{os.getpid()}"
    group.mkdir()
    try:
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="root-") as folder:
            options = ["--variant=minbase", f"--include={_PACKAGES}", f"--keyring={KEYS}"]
            make = ["debootstrap", *options, f"--cache-dir={packages}", suite, folder, place]
            _run("unshare", "--mount", "--pid", "--fork", "--kill-child", *make)
            yield Root(Path(folder), group)
    finally:
        cgroups.remove(group)


def build_wheel(into: Path) -> Path:
    """As it is released (deploy/daemonset/Dockerfile)."""
    _pip("wheel", "--no-deps", "--wheel-dir", into, REPOSITORY)
    [wheel] = into.glob("*.whl")
    return wheel


def _pip(*arguments: str | Path) -> None:
    _run(sys.executable, "-m", "pip", "-q", *arguments)


def _run(*command: str | Path) -> None:
    """What it says is shown when it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout.decode(errors='replace')[-4000:]}"
