"""A pod's client: by what the kubelet gives to a container."""

import base64
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from agent.errors import SettingsError
from agent.kube import in_cluster
from agent.kube.client import Client
from tests.agent.kube.test_client import NAMESPACES, admin_token
from tests.support.apiserver import Fake


@pytest.fixture
def mounted(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a service account, and the variables beside it."""
    server = yaml.safe_load(fake.kubeconfig.read_text())["clusters"][0]["cluster"]
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(server["certificate-authority-data"]))
    (tmp_path / "token").write_text(f"{admin_token(fake.kubeconfig)}\n")
    monkeypatch.setattr(in_cluster, "FOLDER", tmp_path)
    monkeypatch.setenv(in_cluster.HOST, urlsplit(server["server"]).hostname or "")
    monkeypatch.setenv(in_cluster.PORT, str(urlsplit(server["server"]).port))
    return tmp_path


def test_it_asks_as_its_service_account(mounted: Path) -> None:
    client = Client.load(None)
    assert client.read(NAMESPACES)["kind"] == "NamespaceList"
    client.close()


def test_a_token_that_was_replaced_is_read_again(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (mounted / "token").read_text()
    (mounted / "token").write_text("nobody's")
    client = Client.load(None)
    (mounted / "token").write_text(good)
    client.read(NAMESPACES)  # refused: all of it is read anew
    monkeypatch.setattr(in_cluster, "_READ_EVERY", 0.0)
    (mounted / "token").write_text("another")
    assert client.session.headers()["authorization"] == "Bearer another"
    client.close()


@pytest.mark.parametrize("file", ["token", "ca.crt"])
def test_what_is_not_mounted_is_named(mounted: Path, file: str) -> None:
    (mounted / file).write_text("")
    with pytest.raises(SettingsError, match=f"^as a pod of the cluster: {mounted}.+mounted"):
        Client.load(None)
    (mounted / file).unlink()
    with pytest.raises(SettingsError, match=f"^as a pod of the cluster: {mounted}.+No such file.+mounted"):
        Client.load(None)


def test_it_needs_no_megabytes(mounted: Path) -> None:
    """Each node has an agent: the package that reads kubeconfigs stays out of it."""
    script = f"""
import sys
from pathlib import Path
from agent.kube import in_cluster
in_cluster.FOLDER = Path({str(mounted)!r})
from agent.sources.opening import open_source
open_source("kube", None, "n1", own_pods=True)
assert "kubernetes" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
