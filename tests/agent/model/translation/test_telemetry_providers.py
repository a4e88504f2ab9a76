"""What of a provider of telemetry does nothing."""

from typing import Any

import msgspec
import pytest

from agent.model.schema.istio.mesh_config import ExtensionProvider
from agent.model.translation.telemetry import ignored

_WHERE = {"service": "otel.observe.svc.cluster.local", "port": 4317}


@pytest.mark.parametrize(
    "provider, fields",
    [
        ({"opentelemetry": _WHERE}, []),
        (
            {"opentelemetry": {**_WHERE, "resourceDetectors": {"environment": {}}}},
            ["opentelemetry.resourceDetectors"],
        ),
        ({"envoyFileAccessLog": {"path": "/dev/stdout"}}, []),
        (
            {"envoyFileAccessLog": {"path": "/var/log/access", "logFormat": {"text": "%PROTOCOL%"}}},
            ["envoyFileAccessLog.path", "envoyFileAccessLog.logFormat"],
        ),
        ({"envoyOtelAls": {**_WHERE, "logFormat": {"labels": {"a": "b"}}}}, ["envoyOtelAls.logFormat"]),
    ],
)
def test_fields_without_effect_are_named(provider: dict[str, Any], fields: list[str]) -> None:
    assert [*ignored(msgspec.convert({"name": "one", **provider}, ExtensionProvider))] == fields
