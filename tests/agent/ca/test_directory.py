"""The root on disk: made once, kept, and never used when something about it is wrong."""

from pathlib import Path

import pytest
from cryptography import x509

from agent.ca.directory import open_root
from agent.ca.errors import AuthorityError


def test_it_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first = open_root(tmp_path / "ca", "cluster.local")
    second = open_root(tmp_path / "ca", "cluster.local")
    assert first.certificate == second.certificate
    assert (tmp_path / "ca" / "root.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca" / "root.pem").stat().st_mode & 0o777 == 0o644
    assert first.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    years = first.certificate.not_valid_after_utc - first.certificate.not_valid_before_utc
    assert 3649 < years.days < 3652
    assert not list((tmp_path / "ca").glob(".*"))


def test_a_start_that_was_cut_short_is_finished_with_the_same_key(tmp_path: Path) -> None:
    key = open_root(tmp_path, "cluster.local").key
    (tmp_path / "root.pem").unlink()
    assert open_root(tmp_path, "cluster.local").key.public_key() == key.public_key()


def test_more_roots_in_the_bundle_are_trusted_and_the_one_of_the_key_signs(tmp_path: Path) -> None:
    other, ours = (
        open_root(tmp_path / "other", "cluster.local"),
        open_root(tmp_path / "ours", "cluster.local"),
    )
    (tmp_path / "ours" / "root.pem").write_text(other.bundle + ours.bundle)
    both = open_root(tmp_path / "ours", "cluster.local")
    assert both.certificate == ours.certificate
    assert both.bundle == other.bundle + ours.bundle


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    open_root(tmp_path, "cluster.local")
    (tmp_path / "root.key").chmod(0o644)
    with pytest.raises(AuthorityError, match="chmod 600"):
        open_root(tmp_path, "cluster.local")


def test_a_certificate_of_another_key_is_not_used(tmp_path: Path) -> None:
    open_root(tmp_path / "a", "cluster.local")
    open_root(tmp_path / "b", "cluster.local")
    (tmp_path / "a" / "root.pem").write_text((tmp_path / "b" / "root.pem").read_text())
    with pytest.raises(AuthorityError, match="no certificate for the key"):
        open_root(tmp_path / "a", "cluster.local")


@pytest.mark.parametrize(("file", "text"), [("root.pem", "no certificates"), ("root.key", "no private key")])
def test_files_that_are_none_are_named(tmp_path: Path, file: str, text: str) -> None:
    open_root(tmp_path, "cluster.local")
    (tmp_path / file).write_text("nonsense")
    with pytest.raises(AuthorityError, match=f"{file} holds {text}"):
        open_root(tmp_path, "cluster.local")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    open_root(tmp_path, "cluster.local")
    (tmp_path / "root.key").unlink()
    with pytest.raises(AuthorityError, match=r"root\.key"):
        open_root(tmp_path, "cluster.local")
