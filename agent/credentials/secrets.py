"""Secrets and ConfigMaps one by one, from an API server or a folder. The agent never lists them."""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import yaml

from agent.credentials.material import Data, ReadSecret, UnreachableError, UnusableError

if TYPE_CHECKING:
    from agent.kube.client import Client

_TIMEOUT = 5.0  # seconds
Kind: TypeAlias = Literal["Secret", "ConfigMap"]


def from_api(client: "Client", kind: Kind = "Secret") -> ReadSecret:
    """The agent may read a Secret only where somebody grants it, namespace by namespace."""
    from agent.kube.client import path_of  # noqa: PLC0415 - megabytes that a folder does without
    from agent.kube.errors import ApiError  # noqa: PLC0415

    def read(namespace: str, name: str) -> Data | None:
        path = path_of("api", "v1", "namespaces", namespace, f"{kind.lower()}s", name)
        try:
            return _data({"kind": kind, **client.read(path, timeout=_TIMEOUT)})
        except ApiError as error:
            if error.status == 404:
                return None
            if error.status in (401, 403):
                reason = f"may not be read: grant the agent `get` on it by a Role in {namespace}"
                raise UnusableError(f"{kind} {namespace}/{name} {reason}") from error
            raise UnreachableError(f"{kind} {namespace}/{name}: {error}") from error

    return read


def from_folder(root: Path, kind: Kind = "Secret") -> ReadSecret:
    """A folder is small: it is looked through for each."""

    def read(namespace: str, name: str) -> Data | None:
        found = (_find(file, kind, namespace, name) for file in sorted(root.rglob("[!.]*.y*ml")))
        return next((data for data in found if data is not None), None)

    return read


def _find(file: Path, kind: Kind, namespace: str, name: str) -> Data | None:
    try:
        text = file.read_bytes()
        documents = [*yaml.safe_load_all(text)] if kind.encode() in text else []
    except (OSError, yaml.YAMLError):
        return None
    for body in documents:
        if isinstance(body, dict) and body.get("kind") == kind:
            metadata = body.get("metadata") or {}
            if (metadata.get("namespace", "default"), metadata.get("name")) == (namespace, name):
                return _data(body)
    return None


def _data(body: Mapping[str, Any]) -> dict[str, bytes]:
    """Raises UnusableError."""
    if body.get("kind") == "ConfigMap":
        return {key: value.encode() for key, value in (body.get("data") or {}).items()}
    try:
        data = {
            key: b64decode("".join(value.split()), validate=True)
            for key, value in (body.get("data") or {}).items()
        }
    except (binascii.Error, AttributeError, ValueError) as error:
        raise UnusableError(f"its data is not base64: {error}") from error
    return data | {key: value.encode() for key, value in (body.get("stringData") or {}).items()}
