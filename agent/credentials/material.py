"""A credential's parts out of files and Secrets, under the names that these have in Istio."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qs

from agent.errors import WarrenError, describe
from agent.model.translation.routes.policy import FILES, SECRET
from protocols.routes_pb2 import Credential

Data = Mapping[str, bytes]
# A Secret's data by namespace and name; None: there is none. Raises UnusableError, or UnreachableError.
ReadSecret = Callable[[str, str], Data | None]

_FIELDS = {"certificate": "certificate", "key": "private_key", "roots": "ca_certificates", "crl": "ca_crl"}
_IN_FILES = {
    "certificate": "clientCertificate",
    "key": "privateKey",
    "roots": "caCertificates",
    "crl": "caCrl",
}
# Of kubernetes.io/tls and of a generic Secret.
_IN_SECRET = {
    "certificate": ("tls.crt", "cert"),
    "key": ("tls.key", "key"),
    "roots": ("ca.crt", "cacert"),
    "crl": ("ca.crl", "crl"),
}
_CA = "-cacert"  # ends the name of the Secret that has the CA alone
_LARGEST = 1 << 20  # bytes of a file


class UnusableError(WarrenError):
    """A credential that cannot be used, and why."""


class UnreachableError(WarrenError):
    """It cannot be told now: what was known holds."""


def read(name: str, read_secret: ReadSecret, folders: Iterable[Path]) -> Credential:
    """A credential by its resource's name; what is wrong with it is in `problem`. Raises UnreachableError."""
    credential = Credential(name=name)
    try:
        parts = _parts(name, read_secret, [*folders])
    except UnusableError as error:
        credential.problem = str(error)
        return credential
    for part, content in parts.items():
        setattr(credential, _FIELDS[part], content)
    return credential


def _parts(name: str, read_secret: ReadSecret, folders: list[Path]) -> dict[str, bytes]:
    if name.startswith(FILES):
        return _of_files(name.removeprefix(FILES), folders)
    namespace, _, secret = name.removeprefix(SECRET).partition("/")
    return _of_secret(namespace, secret, read_secret)


def _of_files(query: str, folders: list[Path]) -> dict[str, bytes]:
    paths = {part: Path(values[0]) for part, values in parse_qs(query).items()}
    return {part: _file(_IN_FILES[part], path, folders) for part, path in paths.items()}


def _file(field: str, path: Path, folders: list[Path]) -> bytes:
    """A file's content.

    Whoever writes a DestinationRule may use the files of some folders, never others of the node: with the
    kubelet's key they would be the kubelet.
    """
    try:
        real = path.resolve(strict=True)
        if not any(real.is_relative_to(folder.resolve()) for folder in folders):
            names = " or ".join(map(str, folders))
            raise UnusableError(f"{field} {path} is not below {names} (--tls-folder)")
        if not real.is_file() or real.stat().st_size > _LARGEST:
            raise UnusableError(f"{field} {path} is no file of at most {_LARGEST} bytes")
        return real.read_bytes()
    except (OSError, ValueError) as error:
        raise UnusableError(f"{field} {path} cannot be read: {describe(error)}") from error


def _of_secret(namespace: str, name: str, read_secret: ReadSecret) -> dict[str, bytes]:
    data = read_secret(namespace, name)
    whole = {**(data or {})}
    found = {part: content for part, keys in _IN_SECRET.items() if (content := _first(whole, keys))}
    if "roots" not in found and (ca := read_secret(namespace, name + _CA)):
        found |= {part: content for part in ("roots", "crl") if (content := _first(ca, _IN_SECRET[part]))}
    if data is None and not found:
        raise UnusableError(f"there is no Secret {namespace}/{name}")
    if "roots" not in found:
        raise UnusableError(f"Secret {namespace}/{name} has no CA (ca.crt, cacert), nor is there {name}{_CA}")
    return found


def _first(data: Data, keys: Iterable[str]) -> bytes:
    return next((data[key] for key in keys if data.get(key)), b"")
