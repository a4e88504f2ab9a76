"""Secrets on an API server: read one by one, as far as the agent may."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agent.credentials.material import UnreachableError, UnusableError, read
from agent.credentials.secrets import from_api
from agent.kube.client import Client
from tests.support import apiserver
from tests.support.apiserver import Fake
from tests.support.ports import free_port

SECRETS = "/api/v1/namespaces/default/secrets"


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    with apiserver.fake() as server:
        data = {"ca.crt": b64encode(b"root").decode()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "known"}, "data": data}
        Client.load(server.kubeconfig).request("POST", SECRETS, body=body)
        yield server


def changed(fake: Fake, target: Path, token: str = "", server: str = "") -> Client:
    """As somebody else, or at another server."""
    config = yaml.safe_load(fake.kubeconfig.read_text())
    if token:
        config["users"][0]["user"] = {"token": token}
    if server:
        config["clusters"][0]["cluster"]["server"] = server
    target.write_text(yaml.safe_dump(config))
    return Client.load(target)


def test_a_secret_is_read_by_its_name(fake: Fake) -> None:
    lookup = from_api(Client.load(fake.kubeconfig))
    assert lookup("default", "known") == {"ca.crt": b"root"}
    assert lookup("default", "unknown") is None
    assert lookup("default", "../namespaces") is None
    assert read("Secret/default/known", lookup, []).ca_certificates == b"root"


def test_what_may_not_be_read_says_how_it_could(fake: Fake, tmp_path: Path) -> None:
    lookup = from_api(changed(fake, tmp_path / "config", token="stranger"))
    with pytest.raises(UnusableError, match="Secret default/known may not be read: grant the agent `get`"):
        lookup("default", "known")


def test_a_server_that_does_not_answer_says_nothing_of_a_secret(fake: Fake, tmp_path: Path) -> None:
    away = changed(fake, tmp_path / "config", server=f"https://127.0.0.1:{free_port()}")
    with pytest.raises(UnreachableError, match=r"Secret default/known: .*refused"):
        from_api(away)("default", "known")
