"""Credentials out of files and Secrets, and what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest

from agent.credentials.material import Data, read
from agent.credentials.secrets import from_folder
from protocols.routes_pb2 import Credential


def no_secret(namespace: str, name: str) -> Data | None:
    raise AssertionError(f"{namespace}/{name} is not asked for")


def of_files(folder: Path, **files: str) -> Credential:
    paths = {part: str(folder / name) for part, name in files.items()}
    return read(f"Files/{urlencode(paths)}", no_secret, [folder])


def of_secret(name: str, secrets: Mapping[str, Data]) -> Credential:
    def lookup(namespace: str, name: str) -> Data | None:
        return secrets.get(f"{namespace}/{name}")

    return read(f"Secret/{name}", lookup, [])


def test_files_are_read(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).write_text(name)
    found = of_files(tmp_path, certificate="a", key="b", roots="c", crl="d")
    parts = found.certificate, found.private_key, found.ca_certificates, found.ca_crl
    assert (parts, found.problem) == ((b"a", b"b", b"c", b"d"), "")


def test_files_elsewhere_are_nobodys(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    for name in ("../secret", "link", "/etc/passwd"):
        found = of_files(folder, key=name)
        assert "privateKey" in found.problem and "is not below" in found.problem
        assert not found.private_key
    assert "cannot be read" in of_files(folder, roots="missing").problem
    assert "is no file" in of_files(tmp_path, roots="certs").problem


@pytest.mark.parametrize(
    "keys", [("tls.crt", "tls.key", "ca.crt", "ca.crl"), ("cert", "key", "cacert", "crl")]
)
def test_secrets_of_both_kinds(keys: tuple[str, ...]) -> None:
    found = of_secret("n/s", {"n/s": dict(zip(keys, (b"a", b"b", b"c", b"d"), strict=True))})
    parts = found.certificate, found.private_key, found.ca_certificates, found.ca_crl
    assert (parts, found.problem) == ((b"a", b"b", b"c", b"d"), "")


def test_the_ca_may_be_in_a_secret_of_its_own() -> None:
    pair = {"tls.crt": b"a", "tls.key": b"b"}
    found = of_secret("n/s", {"n/s": pair, "n/s-cacert": {"cacert": b"c"}})
    assert (found.certificate, found.ca_certificates, found.problem) == (b"a", b"c", "")
    assert of_secret("n/s", {"n/s-cacert": {"ca.crt": b"c"}}).ca_certificates == b"c"


def test_what_is_missing_is_named() -> None:
    assert of_secret("n/s", {"other/s": {"ca.crt": b"c"}}).problem == "there is no Secret n/s"
    assert "Secret n/s has no CA" in of_secret("n/s", {"n/s": {"tls.crt": b"a", "tls.key": b"b"}}).problem


def test_a_folders_secrets(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "kind: Service\nmetadata: {name: s}\n---\n"
        "kind: Secret\nmetadata: {name: s, namespace: n}\ndata: {ca.crt: Yw==}\nstringData: {crl: d}\n"
    )
    (tmp_path / "y.yaml").write_text("kind: Secret\nmetadata: {name: t}\ndata: {ca.crt: '*'}\n")
    (tmp_path / "z.yaml").write_text("Secret: [\n")
    lookup = from_folder(tmp_path)
    assert lookup("n", "s") == {"ca.crt": b"c", "crl": b"d"}
    assert lookup("default", "s") is None
    assert "not base64" in read("Secret/default/t", lookup, []).problem
