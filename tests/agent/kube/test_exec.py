"""Commands in containers through an API server: output, exit codes, refusals, in both sub-protocols."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.kube.exec import exit_code, run
from tests.support.execserver import Command, ExecServer, pod

WHERE = ("warren-system", "warren-node-a", "agent")


def command(pod: str, words: list[str]) -> Command:
    return [sys.executable, "-c", *words], None


@pytest.fixture(params=["v5.channel.k8s.io", "v4.channel.k8s.io"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExecServer]:
    pods = [pod("warren-node-a", "warren-system", "a")]
    server = ExecServer(tmp_path, pods, command, [request.param])
    yield server
    server.close()


def said(server: ExecServer, code: str, where: tuple[str, str, str] = WHERE) -> tuple[int, bytes, bytes]:
    out, err = bytearray(), bytearray()
    client = Client.load(server.kubeconfig)
    try:
        return run(client, where, [code], out.extend, err.extend), bytes(out), bytes(err)
    finally:
        client.close()


def test_output_and_exit_code(server: ExecServer) -> None:
    script = "import sys; print('a & b' * 3); print('oh', file=sys.stderr); sys.exit(3)"
    assert said(server, script) == (3, b"a & ba & ba & b\n", b"oh\n")
    assert said(server, "print('x' * 300_000)") == (0, b"x" * 300_000 + b"\n", b"")


def test_what_is_refused_is_told_as_the_server_says_it(server: ExecServer) -> None:
    with pytest.raises(ApiError, match='404 pods "nobody" not found'):
        said(server, "", ("warren-system", "nobody", "agent"))
    text = server.kubeconfig.read_text()
    server.kubeconfig.write_text(text.replace("who-i-am", "somebody"))
    with pytest.raises(ApiError, match="401 Unauthorized"):
        said(server, "")
    server.kubeconfig.write_text(text.replace("127.0.0.1", "127.0.0.2"))
    with pytest.raises(ApiError, match="Connection refused"):
        said(server, "")


def test_a_connection_that_was_cut_is_no_success() -> None:
    with pytest.raises(ApiError, match="was cut before the command ended"):
        exit_code("GET /x", b"")
    with pytest.raises(ApiError, match="no such container"):
        exit_code("GET /x", b'{"status": "Failure", "message": "no such container"}')
