"""The file of `--mesh-config`."""

import logging
from pathlib import Path

import pytest

from agent.errors import SettingsError
from agent.model.schema.istio.mesh_config import MeshConfig
from agent.sources.mesh_config import read

FILE = """
accessLogFile: /dev/stdout
defaultConfig:
  holdApplicationUntilProxyStarts: true
  tracing: {sampling: 50, max_path_tag_length: 7}
defaultProviders: {tracing: [otel]}
extensionProviders:
- name: otel
  opentelemetry: {service: collector.observe.svc.cluster.local, port: 4317}
- name: authz
  envoyExtAuthzGrpc: {service: authz.ops.svc.cluster.local, port: 9000, timeout: 0.5s}
- name: old
  skywalking: {service: sky, port: 1}
"""
BAD = [
    (
        "extensionProviders: [{name: a}]",
        "1: extensionProviders[0].name: provider 'a' is nothing; write one kind",
    ),
    (
        "extensionProviders:\n- name: a\n  opentelemetry: {service: x, port: 0}",
        "3: extensionProviders[0].opentelemetry.port: Expected int >= 1 (found 0)",
    ),
    (
        "extensionProviders:\n- name: a\n  prometheus: {}\n  zipkin: {service: x, port: 1}",
        "2: extensionProviders[0].name: provider 'a' is prometheus and zipkin; write one kind of provider",
    ),
    (
        "extensionProviders:\n- {name: a, prometheus: {}}\n- {name: a, prometheus: {}}",
        "3: extensionProviders[1].name: another provider is called 'a'",
    ),
    ("extensionProviders: [{name: a, envoyExtAuthz: {}}]", "unknown field envoyExtAuthz; correct it"),
    ("defaultConfig: {tracing: {sampling: 101}}", "defaultConfig.tracing.sampling: Expected float <= 100.0"),
    ("{", "not YAML"),
    ("- a", "one MeshConfig belongs here"),
    ("", "one MeshConfig belongs here"),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "mesh"
    path.write_text(text)
    return path


def test_what_is_known_is_read_and_the_rest_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        config = read(written(tmp_path, FILE))
    assert config.default_config.tracing.sampling == 50
    assert config.default_providers.tracing == ("otel",)
    assert config.default_providers.metrics is None
    kinds = {one.name: (one.kind, one.is_supported) for one in config.extension_providers}
    assert kinds == {
        "otel": ("opentelemetry", True),
        "authz": ("envoyExtAuthzGrpc", True),
        "old": ("skywalking", False),
    }
    idle = "not acted on by this version: accessLogFile, defaultConfig.holdApplicationUntilProxyStarts"
    assert [message.partition(": ")[2] for message in caplog.messages] == [idle]


def test_some_providers_nobody_has_to_write() -> None:
    config = read(None)
    assert config == MeshConfig()
    known = {name: config.provider(name) for name in ("prometheus", "envoy", "zipkin")}
    assert {name: one and one.kind for name, one in known.items()} == {
        "prometheus": "prometheus",
        "envoy": "envoyFileAccessLog",
        "zipkin": None,
    }


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_a_bad_file_is_refused_by_line_and_field(tmp_path: Path, text: str, reason: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        read(path)
    assert str(refused.value).startswith(f"--mesh-config: {path}:")
    assert reason in str(refused.value)
