"""The authority's state in a Secret, which all replicas share, and the Secret by which a CA is plugged in.

Keys are Istio's: `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem`. During a rotation there are
the same with `next-` before them; `next-root-cert.pem` alone is left when the new one signs. What was plugged
in is copied: its key is needed until a successor may sign. A change is made to the version that was read.
"""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from agent.ca.errors import AuthorityError
from agent.ca.rotation import State
from agent.ca.signer import Material, Signer, tidy
from agent.kube.client import Client, path_of
from agent.kube.errors import ApiError

OURS, PLUGGED_IN = "istio-ca-secret", "cacerts"
REQUESTED = "ca.warren.dev/rotate"
_SINCE, _LONGEST = "ca.warren.dev/since", "ca.warren.dev/longest-seconds"
_NAMES = Material("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
_NEXT = Material(*(f"next-{name}" for name in _NAMES))
_ISTIO_LONGEST = "86400"  # of a Secret that istiod made
_MERGE = "application/merge-patch+json"
_TIMEOUT = 10.0  # seconds


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    annotations: dict[str, str] = {}


class _Secret(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, bytes] = {}


class Stored(NamedTuple):
    """A state and its version. requested: somebody asked for a new root."""

    state: State
    version: str
    requested: bool


class Secrets:
    """The two Secrets of a namespace. Everything here blocks, and raises ApiError."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._path = path_of("api", "v1", "namespaces", namespace, "secrets")

    def read(self) -> Stored | None:
        """None: there is none yet. Raises AuthorityError for one that cannot be used."""
        secret = self._read(OURS)
        if secret is None:
            return None
        try:
            return _stored(secret)
        except AuthorityError as error:
            remedy = "put back a good one, or delete it for a new root"
            raise AuthorityError(f"{self._where(OURS)} cannot be used: {error}; {remedy}") from error

    def create(self, state: State) -> bool:
        """Whether it was us who made it."""
        metadata = {"name": OURS, "annotations": _annotations(state)}
        body = {"metadata": metadata, "type": "istio.io/ca-root", "data": _data(state)}
        return self._change("POST", self._path, body)

    def replace(self, state: State, former: Stored) -> bool:
        """Whether nobody else was faster; what was asked for counts as done."""
        annotations = {REQUESTED: None, **_annotations(state)}
        absent = dict.fromkeys(_NEXT)
        metadata = {"resourceVersion": former.version, "annotations": annotations}
        body = {"metadata": metadata, "data": {**absent, **_data(state)}}
        return self._change("PATCH", f"{self._path}/{OURS}", body)

    def request_rotation(self, former: Stored, asked: str) -> bool:
        """Leave word, `asked`, for the replicas that a new root is wanted; whether nobody else was faster."""
        metadata = {"resourceVersion": former.version, "annotations": {REQUESTED: asked}}
        return self._change("PATCH", f"{self._path}/{OURS}", {"metadata": metadata})

    def plugged_in(self) -> Material | None:
        """What an operator wants to sign, tidy. Raises AuthorityError for what cannot be used."""
        secret = self._read(PLUGGED_IN)
        if secret is None:
            return None
        try:
            return tidy(_material(secret, _NAMES))
        except AuthorityError as error:
            raise AuthorityError(f"{self._where(PLUGGED_IN)} is not used: {error}") from error

    def _read(self, name: str) -> _Secret | None:
        path = f"{self._path}/{name}"
        try:
            return msgspec.json.decode(self._client.request("GET", path, timeout=_TIMEOUT), type=_Secret)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ApiError(0, "Malformed", f"GET {path}: {error}") from error
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _change(self, method: str, path: str, body: object) -> bool:
        content_type = _MERGE if method == "PATCH" else "application/json"
        try:
            self._client.request(method, path, body=body, content_type=content_type, timeout=_TIMEOUT)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True

    def _where(self, name: str) -> str:
        return f"Secret {self._namespace}/{name}"


def _stored(secret: _Secret) -> Stored:
    told, data = secret.metadata.annotations, secret.data
    try:
        since = datetime.fromisoformat(told.get(_SINCE) or secret.metadata.creation_timestamp)
        longest = timedelta(seconds=int(told.get(_LONGEST, _ISTIO_LONGEST)))
    except ValueError as error:
        raise AuthorityError(f"annotations {_SINCE} and {_LONGEST}: {error}") from error
    signing = _material(secret, _NAMES)
    Signer.of(signing)
    successor = _material(secret, _NEXT) if _NEXT.ca_key in data else None
    remaining = _text(secret, _NEXT.root_cert) if _NEXT.root_cert in data else None
    state = State(signing, successor, remaining, since.astimezone(UTC), longest)
    return Stored(state, secret.metadata.resource_version, REQUESTED in told)


def _material(secret: _Secret, names: Material) -> Material:
    missing = [one for one in (names.ca_cert, names.ca_key, names.root_cert) if not secret.data.get(one)]
    if missing:
        raise AuthorityError(f"it has no {', '.join(missing)}")
    return Material(*(_text(secret, one) for one in names))


def _text(secret: _Secret, key: str) -> str:
    try:
        return secret.data.get(key, b"").decode("ascii")
    except UnicodeDecodeError as error:
        raise AuthorityError(f"{key} is not PEM") from error


def _annotations(state: State) -> dict[str, str]:
    return {_SINCE: state.since.isoformat(), _LONGEST: str(int(state.longest.total_seconds()))}


def _data(state: State) -> Mapping[str, str]:
    texts = dict(zip(_NAMES, state.signing, strict=True))
    if state.successor:
        texts |= zip(_NEXT, state.successor, strict=True)
    if state.remaining is not None:
        texts[_NEXT.root_cert] = state.remaining
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
