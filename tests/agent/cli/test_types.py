"""Values of options."""

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import click
import pytest

from agent.cli import types


@pytest.mark.parametrize("text", ["10.0.0.1:15012", "[fd00::1]:0"])
def test_an_address_and_a_port(text: str) -> None:
    host, _, port = text.rpartition(":")
    assert types.ip_port(text) == (ip_address(host.strip("[]")), int(port))


def test_servers(tmp_path: Path) -> None:
    for url in ("https://istiod.istio-system.svc:15012", "https://[::1]:1"):
        assert types.https_url(url) == types.unix_or_https_url(url) == url
    assert types.unix_or_https_url("unix:/run/x") == "unix:/run/x"
    assert types.ip_address("::1") == "::1"
    assert types.source(f"dir:{tmp_path}") == tmp_path
    assert types.source("kube") == "kube"


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (
            types.ip_port,
            ["", "1", "localhost:1", "1.2.3.4", "1.2.3.4:", "1.2.3.4:70000", "a@1.2.3.4:1", "::1:1"],
        ),
        (types.ip_address, ["", "localhost", "1.2.3"]),
        (types.https_url, ["", "http://a:1", "https://a", "https://a:1/x", "https://u@a:1", "https://a:x"]),
        (types.unix_or_https_url, ["unix:", "tcp://a:1"]),
        (types.source, ["/tmp", "kubernetes", "dir:", "dir:/none"]),
    ],
)
def test_what_is_wrong_is_quoted(read: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(click.BadParameter) as caught:
            read(text)
        assert text.removeprefix("dir:") in caught.value.message
