"""`warren trace` on this kernel: BCC's programs at its tracepoints, in a network namespace of ours."""

import builtins
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main, probe
from agent.cli.btf import Btf
from agent.cli.probe import Event, watch
from agent.errors import SettingsError
from tests.support import sockets
from tests.support.netns import Node, Pod
from tests.support.wait import until

PORT = 7777


@pytest.fixture
def pod() -> Iterator[Pod]:
    node = Node()
    yield node.pod()
    node.close()


def talk() -> None:
    """A connection that is reset, and one that is refused."""
    with socket.create_server(("127.0.0.1", PORT)) as server:
        client = socket.create_connection(("127.0.0.1", PORT))
        accepted, _ = server.accept()
        sockets.reset_on_close(accepted)
        accepted.close()
        client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", PORT + 1))


def test_connects_resets_and_drops_are_told_with_the_kernels_reason(pod: Pod) -> None:
    events: list[Event] = []
    steps = watch(pod.path.stat().st_ino, events.append, lambda: pod.netns.run(talk))

    def told() -> bool:
        next(steps)
        return any(one.kind == "dropped" for one in events)

    until(told, what="the refusal")
    steps.close()
    kinds = {(one.kind, one.detail, one.destination_port) for one in events}
    assert {("state", "SYN_SENT", PORT), ("state", "ESTABLISHED", PORT)} <= kinds
    assert any(one.kind == "reset received" for one in events)
    [dropped] = [one for one in events if one.kind == "dropped"]
    assert (dropped.detail, dropped.destination_port) == ("NO_SOCKET", PORT + 1)
    assert all(one.source == "127.0.0.1" for one in events if one.destination_port)
    assert any(one.process for one in events)


def test_other_namespaces_are_not_told_of(pod: Pod) -> None:
    events: list[Event] = []
    elsewhere = Path("/proc/self/ns/net").stat().st_ino
    steps = watch(elsewhere, events.append, lambda: pod.netns.run(talk))
    next(steps)
    steps.close()
    assert not [one for one in events if PORT in (one.source_port, one.destination_port)]


def test_without_bcc_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "bcc":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(SettingsError, match="apt-get install python3-bpfcc"):
        next(watch(1, lambda _: None, lambda: None))


def test_without_an_agent_no_pod_is_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main.run(["trace", "web", "--run-dir", str(tmp_path), "--for", "0"]) == 2
    assert "no agent answers" in capsys.readouterr().err


def test_fields_are_where_the_kernel_has_them() -> None:
    btf = Btf()
    assert 0 < btf.offset("sock_common", "skc_net") < 256
    assert btf.offset("iphdr", "saddr") == 12
    with pytest.raises(ValueError, match=r"the kernel has no iphdr\.nothing"):
        btf.offset("iphdr", "nothing")
    assert probe.KINDS[4] == "dropped"
