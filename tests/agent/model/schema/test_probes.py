"""The ports that the kubelet calls, as it finds them itself."""

from typing import Any

import msgspec
import pytest

from agent.model.schema.kubernetes import Pod


def ports(container: dict[str, Any], kind: str = "containers") -> set[int]:
    named = [{"name": "web", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}]
    spec = {kind: [{"name": "main", "ports": named, **container}]}
    return set(msgspec.convert({"metadata": {"name": "pod"}, "spec": spec}, Pod).probe_ports)


@pytest.mark.parametrize("kind", ["livenessProbe", "readinessProbe", "startupProbe"])
@pytest.mark.parametrize("handler", ["httpGet", "tcpSocket", "grpc"])
@pytest.mark.parametrize("containers", ["containers", "initContainers"])
def test_every_kind_of_probe(kind: str, handler: str, containers: str) -> None:
    probe = {handler: {"port": 7000}, "periodSeconds": 10}
    assert ports({kind: probe}, containers) == {7000}


@pytest.mark.parametrize("hook", ["postStart", "preStop"])
def test_lifecycle_handlers(hook: str) -> None:
    assert ports({"lifecycle": {hook: {"httpGet": {"path": "/", "port": "web"}}}}) == {8080}


@pytest.mark.parametrize(
    ("port", "found"),
    [("web", {8080}), ("8081", {8081}), ("none", set()), ("", set()), (0, set()), (70000, set())],
)
def test_names_are_the_containers_own(port: int | str, found: set[int]) -> None:
    assert ports({"livenessProbe": {"httpGet": {"port": port}}}) == found


def test_all_of_a_pod_together() -> None:
    several = {
        "livenessProbe": {"httpGet": {"port": "web"}},
        "readinessProbe": {"tcpSocket": {"port": "metrics"}},
        "startupProbe": {"grpc": {"port": 50051, "service": "s"}},
        "lifecycle": {"postStart": {"sleep": {"seconds": 1}}, "preStop": {"httpGet": {"port": 8090}}},
    }
    assert ports(several) == {8080, 9090, 50051, 8090}


def test_command_needs_no_port() -> None:
    assert ports({"livenessProbe": {"exec": {"command": ["true"]}}}) == set()


def test_host_of_a_handlers_own_opens_nothing() -> None:
    """Else a pod could have the kubelet call another one past its policy, or declare what is not its own."""
    assert ports({"livenessProbe": {"httpGet": {"host": "10.0.0.9", "port": 8080}}}) == set()
