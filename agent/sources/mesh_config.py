"""`--mesh-config`: a file with Istio's MeshConfig."""

import logging
from pathlib import Path

from agent.errors import SettingsError, describe
from agent.model.schema.istio.mesh_config import MeshConfig, not_acted_on
from agent.model.schema.objects import Key
from agent.sources.documents import Problem, Refused, convert, items

log = logging.getLogger(__name__)


def read(path: Path | None) -> MeshConfig:
    """What a file says; None: nothing is said. Logs what does nothing.

    Raises SettingsError with all that is wrong.
    """
    if path is None:
        return MeshConfig()
    problems: list[Problem] = []
    try:
        found = list(items(path.read_bytes(), problems))
    except OSError as error:
        raise SettingsError(f"--mesh-config: {describe(error)}") from error
    if problems:
        raise SettingsError("\n".join(f"--mesh-config: {path}:{one.line}: {one.reason}" for one in problems))
    if len(found) != 1 or not isinstance(found[0].value, dict):
        raise SettingsError(
            f"--mesh-config: {path}: one MeshConfig belongs here, such as extensionProviders: []"
        )
    item = found[0]
    try:
        config = convert(item.value, MeshConfig, Key("MeshConfig", "", path.name))
    except Refused as refused:
        raise SettingsError(f"--mesh-config: {path}:{item.line(refused.steps)}: {refused}") from refused
    if idle := not_acted_on(item.value):
        log.warning("%s: not acted on by this version: %s", path, ", ".join(idle))
    return config
