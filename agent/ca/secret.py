"""The authority's state in a Secret, which all replicas share, and the Secret by which a CA is plugged in.

Keys are Istio's: `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem`. During a rotation there are
the same with `next-` before them; `next-root-cert.pem` alone is left when the new one signs. What was plugged
in is copied: its key is needed until a successor may sign, its `ca-crl.pem` until there is another good one.
A change is made to the version that was read.
"""

import base64
import re
from collections.abc import Mapping, Set
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from agent.ca.chain import check_time
from agent.ca.clock import Clock, elapsed
from agent.ca.disputes import Disputes, decode, encode
from agent.ca.errors import AuthorityError
from agent.ca.revocation import FILE, lists
from agent.ca.rotation import State
from agent.ca.signer import Material, Signer, tidy
from agent.kube.client import JSON, MERGE, NOTHING, Client, path_of
from agent.kube.errors import ApiError

OURS, PLUGGED_IN = "istio-ca-secret", "cacerts"
REQUESTED, REVOKE = "ca.warren.dev/rotate", "ca.warren.dev/revoke"
_DISPUTES = "ca.warren.dev/clocks"
_SINCE, _LONGEST = "ca.warren.dev/since", "ca.warren.dev/longest-seconds"
_NAMES = Material("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
_NEXT = Material(*(f"next-{name}" for name in _NAMES))
_MORE = ("former-cert.pem", FILE, "revoked-crl.pem")  # of a state's last three parts
_ISTIO_LONGEST = "86400"  # of a Secret that istiod made
_SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")  # RFC 5280 section 4.1.2.2: up to 20 octets
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
    """A state and its version.

    requested: somebody asked for a new root; revoke: and for an end of these certificates, by serial number.
    disputes: what replicas say of clocks.
    """

    state: State
    version: str
    requested: bool
    revoke: Set[int]
    disputes: Disputes


class Plugged(NamedTuple):
    """What an operator wants to sign, tidy, and the text of a file with what is revoked."""

    material: Material
    crl: str


class Secrets:
    """The two Secrets of a namespace. Everything here blocks, and raises ApiError.

    clock: the API server's, as it said in the last answer.
    """

    def __init__(self, client: Client, namespace: str) -> None:
        self.clock = Clock()
        self._client = client
        self._namespace = namespace
        self._path = path_of("api", "v1", "namespaces", namespace, "secrets")

    def read(self) -> Stored | None:
        """None: there is none yet. Raises AuthorityError for one that cannot be used."""
        secret = self._read(OURS)
        if secret is None:
            return None
        try:
            return _stored(secret, self.clock.served())
        except AuthorityError as error:
            remedy = "put back a good one, or delete it for a new root"
            raise AuthorityError(f"{self.where(OURS)} cannot be used: {error}; {remedy}") from error

    def create(self, state: State) -> bool:
        """Whether it was us who made it."""
        metadata = {"name": OURS, "annotations": _annotations(state)}
        body = {"metadata": metadata, "type": "istio.io/ca-root", "data": _data(state)}
        return self._change("POST", self._path, body)

    def replace(self, state: State, former: Stored, answers: str = REQUESTED) -> bool:
        """Whether nobody else was faster. answers: the annotation by which it was asked for: it goes."""
        annotations = {answers: None, **_annotations(state)}
        absent = dict.fromkeys((*_NEXT, *_MORE))
        return self._patch(former, annotations, {**absent, **_data(state)})

    def request_rotation(self, former: Stored) -> bool:
        """Leave word for the replicas that a new root is wanted; whether nobody else was faster."""
        return self._patch(former, {REQUESTED: self.clock.served().isoformat()})

    def request_revocation(self, former: Stored, serials: Set[int]) -> bool:
        """Leave word that these certificates are to count no more; whether nobody else was faster."""
        return self._patch(former, {REVOKE: ",".join(f"{serial:x}" for serial in former.revoke | serials)})

    def note(self, disputes: Disputes, former: Stored) -> bool:
        """Exchange what is said of clocks; whether nobody else was faster."""
        return self._patch(former, {_DISPUTES: encode(disputes)})

    def plugged_in(self) -> Plugged | None:
        """What there is in `cacerts`. Raises AuthorityError for a CA that cannot be used."""
        secret = self._read(PLUGGED_IN)
        if secret is None:
            return None
        try:
            material = tidy(_material(secret, _NAMES))
            check_time(Signer.of(material).path, self.clock.served())
            return Plugged(material, secret.data.get(FILE, b"").decode("ascii", "replace"))
        except AuthorityError as error:
            raise AuthorityError(f"{self.where(PLUGGED_IN)} is not used: {error}") from error

    def where(self, name: str) -> str:
        """For people."""
        return f"Secret {self._namespace}/{name}"

    def _patch(
        self, former: Stored, annotations: Mapping[str, str | None], data: Mapping[str, str | None] = NOTHING
    ) -> bool:
        metadata = {"resourceVersion": former.version, "annotations": annotations}
        return self._change("PATCH", f"{self._path}/{OURS}", {"metadata": metadata, "data": dict(data)})

    def _read(self, name: str) -> _Secret | None:
        path, asked = f"{self._path}/{name}", elapsed()
        body, date = self._client.dated(path, _TIMEOUT)
        self.clock.observe(date, asked)
        try:
            return msgspec.json.decode(body, type=_Secret) if body is not None else None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ApiError(0, "Malformed", f"GET {path}: {error}") from error

    def _change(self, method: str, path: str, body: object) -> bool:
        content_type = MERGE if method == "PATCH" else JSON
        try:
            self._client.request(method, path, body=body, content_type=content_type, timeout=_TIMEOUT)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True


def _stored(secret: _Secret, now: datetime) -> Stored:
    told, data = secret.metadata.annotations, secret.data
    try:
        since = datetime.fromisoformat(told.get(_SINCE) or secret.metadata.creation_timestamp)
        longest = timedelta(seconds=int(told.get(_LONGEST, _ISTIO_LONGEST)))
    except ValueError as error:
        raise AuthorityError(f"annotations {_SINCE} and {_LONGEST}: {error}") from error
    signing = _material(secret, _NAMES)
    check_time(Signer.of(signing).path, now)
    successor = _material(secret, _NEXT) if _NEXT.ca_key in data else None
    remaining = _text(secret, _NEXT.root_cert) if _NEXT.root_cert in data else None
    former, *crls = [_text(secret, name) for name in _MORE]
    lists("".join(crls))
    state = State(signing, successor, remaining, since.astimezone(UTC), longest, former, *crls)
    revoke, disputes = _serials(told.get(REVOKE, "")), decode(told.get(_DISPUTES, ""))
    return Stored(state, secret.metadata.resource_version, REQUESTED in told, revoke, disputes)


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


def _serials(text: str) -> Set[int]:
    """Of the annotation; without what is none, for who asked sees that it is not taken up."""
    return {int(one, 16) for one in text.split(",") if _SERIAL.fullmatch(one)}


def _annotations(state: State) -> dict[str, str]:
    return {_SINCE: state.since.isoformat(), _LONGEST: str(int(state.longest.total_seconds()))}


def _data(state: State) -> Mapping[str, str]:
    texts = dict(zip(_NAMES, state.signing, strict=True))
    if state.successor:
        texts |= zip(_NEXT, state.successor, strict=True)
    if state.remaining is not None:
        texts[_NEXT.root_cert] = state.remaining
    more = zip(_MORE, (state.former, state.crl, state.revoked), strict=True)
    texts |= {name: text for name, text in more if text}
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
