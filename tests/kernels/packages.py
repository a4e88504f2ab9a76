"""Debian's kernels: the newest package of a suite, from where this machine gets its packages, unpacked."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.archives import KEYS, archive

NEWEST = "newest"
SUITES = {"5.10": "bullseye-security", "6.1": "bookworm", "6.12": "trixie", NEWEST: "sid"}


def fetch(version: str, kernel: Path) -> None:
    """Unpack it at `kernel`. Raises CalledProcessError, and SystemExit where apt knows no archive."""
    work = kernel.with_name(f"{kernel.name}.apt")
    (work / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (work / "list").write_text(f"deb [signed-by={KEYS}] {archive(SUITES[version])} {SUITES[version]} main\n")
    places = {
        "Dir::Etc::sourcelist": work / "list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": work / "lists",
    }
    options = [
        f"-o{name}={place}"
        for name, place in {**places, "Dir::Cache": work, "APT::Sandbox::User": "root"}.items()
    ]
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
    number = "[0-9]" if version == NEWEST else re.escape(version)
    pattern = f"^linux-(image|binary|modules)-{number}.*-amd64$"  # older ones have all in the first
    found = _output("apt-cache", *options, "search", "--names-only", pattern)
    of_release: dict[str, list[str]] = {}
    for name in (line.split()[0] for line in found.splitlines()):
        if not re.search("cloud|-rt-|unsigned|dbg", name):
            of_release.setdefault(name.split("-", 2)[2], []).append(name)
    newest = max(of_release, key=lambda release: [int(number) for number in re.findall(r"\d+", release)])
    subprocess.run(["apt-get", *options, "-qq", "download", *of_release[newest]], cwd=work, check=True)
    shutil.rmtree(work / "tree", ignore_errors=True)
    for package in work.glob(f"linux-*-{newest}_*.deb"):
        subprocess.run(["dpkg", "-x", package, work / "tree"], check=True)
    if not (work / "tree" / "lib").exists():  # newer packages have it below /usr only
        (work / "tree" / "lib").symlink_to("usr/lib")
    (work / "tree").rename(kernel)
    shutil.rmtree(work)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
