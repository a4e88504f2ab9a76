"""Kernels come from where this machine gets its packages: no place is named here."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.kernels import packages

PACKAGES = "Package: a\nVersion: 1\nArchitecture: all\nFilename: a.deb\n\n"


@pytest.fixture(autouse=True)
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that apt knows is the list of sources in this folder."""
    (tmp_path / "conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources";\nDir::Etc::sourceparts "-";\n'
        f'Dir::State::lists "{tmp_path}/lists";\nDir::Cache "{tmp_path}";\nAPT::Sandbox::User "root";\n'
    )
    (tmp_path / "lists" / "partial").mkdir(parents=True)
    (tmp_path / "sources").touch()
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "conf"))
    return tmp_path


def publish(folder: Path, label: str) -> None:
    """An archive of one package."""
    folder.mkdir()
    (folder / "Packages").write_text(PACKAGES)
    digest = hashlib.sha256(PACKAGES.encode()).hexdigest()
    (folder / "Release").write_text(f"Label: {label}\nSHA256:\n {digest} {len(PACKAGES)} Packages\n")


def test_each_suite_is_looked_for_in_the_machines_own_archive_of_it(apt: Path) -> None:
    for label in ("Debian", "Debian-Security", "Somebody's"):
        publish(apt / label.lower(), label)
    names = ("somebody's", "debian-security", "debian")
    (apt / "sources").write_text("".join(f"deb [trusted=yes] file:{apt}/{name} ./\n" for name in names))
    subprocess.run(["apt-get", "-qq", "update"], check=True)
    assert packages.archive("bookworm") == f"file:{apt}/debian/"
    assert packages.archive("bullseye-security") == f"file:{apt}/debian-security/"


def test_a_machine_without_such_an_archive_is_told_what_to_add() -> None:
    with pytest.raises(SystemExit, match="apt knows no archive of Debian: add one below /etc/apt"):
        packages.archive("bookworm")


def test_no_place_is_named() -> None:
    files = [path for path in Path(packages.__file__).parent.iterdir() if path.is_file()]
    named = {path.name for path in files if "://" in path.read_text()}
    assert named == {Path(__file__).name}
