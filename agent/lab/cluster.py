"""The cluster's objects: one YAML file each in a folder, for agents, the CA and people to read.

With an API server they are there as well, and agents and the CA read them from it; the folder is then the
lab's own memory of what it has made.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import yaml

from agent.lab.api import Api
from agent.lab.controllers import Body, key_of
from agent.lab.state import State, write_atomically
from agent.model import mesh
from agent.model.schema.kubernetes import Namespace, Node, Pod, Service
from agent.model.schema.objects import Key, Object
from agent.sources import documents, kubeyaml
from agent.sources.documents import Refused

_RELIED_ON: dict[str, type[Object]] = {type_.__name__: type_ for type_ in (Namespace, Node, Pod, Service)}


class Cluster:
    """The objects by key, in memory, in `folder`, and on the API server where there is one."""

    def __init__(self, folder: Path, api: Api | None = None) -> None:
        self.folder, self.api = folder, api
        self.objects: dict[Key, Body] = {}
        self.problems: list[str] = []  # files that are of no use, and why
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.glob("[!.]*.yaml")):
            try:
                body = _read(file)
                self.objects[key_of(body)] = body
            except (OSError, yaml.YAMLError, Refused) as error:
                self.problems.append(f"{file} is not used: {' '.join(str(error).split())}")

    @classmethod
    def of(cls, state: State) -> "Cluster":
        """A lab's. Raises SettingsError when its kubeconfig is of no use any more."""
        return cls(state.run / "cluster", Api(Path(state.api), state.mark) if state.api else None)

    def put(self, bodies: Iterable[Body]) -> None:
        """Add or replace objects."""
        for body in self.api.put(bodies) if self.api else bodies:
            key = key_of(body)
            self.objects[key] = body
            write_atomically(self._file(key), kubeyaml.dump(body))

    def delete(self, key: Key) -> None:
        """Take an object away. Raises KeyError when it is not there."""
        body = self.objects.pop(key)
        if self.api:
            self.api.delete(body)
        self._file(key).unlink()

    def of_kind(self, kind: str) -> list[Body]:
        return [body for key, body in sorted(self.objects.items()) if key.kind == kind]

    def _file(self, key: Key) -> Path:
        return self.folder / ("_".join(part for part in key if part) + ".yaml")


def _read(file: Path) -> Body:
    """One object, checked as far as the lab's own code relies on it. Raises OSError, YAMLError, Refused."""
    body = kubeyaml.load(file.read_bytes())
    kind = documents.kind_of(body)
    key = documents.key_of(kind, body)
    if kind in _RELIED_ON:
        documents.convert(body, _RELIED_ON[kind], key)
    return dict(body)


def enrolled(cluster: Cluster, pod: Body) -> bool:
    """Whether this pod is in the mesh."""
    namespace = cluster.objects[Key("Namespace", "", pod["metadata"]["namespace"])]
    return mesh.enrolled(msgspec.convert(pod, Pod), msgspec.convert(namespace, Namespace))
