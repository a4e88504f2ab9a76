"""Who asks: static bearer tokens, and service account tokens (JWTs, ES256) with audiences and an end."""

import base64
import csv
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tests.support.kubernetes.errors import Cause, Refused, bad_request, conflict, invalid
from tests.support.kubernetes.kinds import TOKEN_REQUEST, Kind
from tests.support.kubernetes.objects import Objects
from tests.support.kubernetes.storage import Object

API_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
_ECDSA = ec.ECDSA(hashes.SHA256())
_HALF = 32  # bytes: a signature is two numbers of this length (RFC 7518, section 3.4)


@dataclass(frozen=True)
class User:
    name: str = ""
    uid: str = ""
    groups: Sequence[str] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)
    audiences: Sequence[str] = ()


class Unauthenticated(Exception):
    """A token that is ours, but not good; the message is what a TokenReview says."""


class Users:
    """Tells who bears a token, and issues tokens."""

    def __init__(
        self, objects: Objects, static: Path, key: ec.EllipticCurvePrivateKey, shortest: int
    ) -> None:
        """static: a file of `token,user,uid,"group,..."` lines. shortest: seconds of a token's life."""
        self._objects, self._key, self._shortest = objects, key, shortest
        self._static: dict[str, User] = {}
        with static.open(newline="") as lines:
            for token, name, uid, *groups in csv.reader(lines):
                named = groups[0].split(",") if groups else []
                self._static[token] = User(name, uid, [*named, "system:authenticated"])
        self.revoked: set[str] = set()

    def of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """None: nobody's token. Raises Unauthenticated. audiences: any will do; none: the API's."""
        if token in self.revoked:
            return None
        if token in self._static:
            return replace(self._static[token], audiences=list(audiences) or [API_AUDIENCE])
        claims = self._claims(token)
        if claims is None:
            return None
        if claims["exp"] <= time.time():
            raise Unauthenticated("token has invalid claims: token is expired")
        wanted = list(audiences) or [API_AUDIENCE]
        matched = [audience for audience in wanted if audience in claims["aud"]]
        if not matched:
            given, asked = (" ".join(f'"{each}"' for each in listed) for listed in (claims["aud"], wanted))
            raise Unauthenticated(f"token audiences [{given}] is invalid for the target audiences [{asked}]")
        return self._holder(claims, matched)

    def issue(self, account: Object, body: Object) -> Object:
        """Answer a TokenRequest for a service account. Raises Refused."""
        namespace, name = account["metadata"]["namespace"], account["metadata"]["name"]
        spec: Object = {"audiences": [API_AUDIENCE], "expirationSeconds": 3600}
        spec |= {key: value for key, value in (body.get("spec") or {}).items() if value is not None}
        seconds = spec["expirationSeconds"]
        if not self._shortest <= seconds <= 1 << 32:
            limits = f"may not specify a duration less than {self._shortest}s or over 2^32 s"
            words = f"Invalid value: {seconds}: {limits}"
            raise invalid(TOKEN_REQUEST, name, [Cause("FieldValueInvalid", "spec.expirationSeconds", words)])
        now = int(time.time())
        about = {"namespace": namespace, "serviceaccount": _ref(account)}
        about |= self._bound(name, namespace, spec.get("boundObjectRef"))
        claims = {
            "iss": API_AUDIENCE,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": spec["audiences"] or [API_AUDIENCE],
            "exp": now + seconds,
            "nbf": now,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": about,
        }
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + seconds))
        return {
            "kind": "TokenRequest",
            "apiVersion": TOKEN_REQUEST.api_version,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"boundObjectRef": None} | spec,
            "status": {"token": self._signed(claims), "expirationTimestamp": ends},
        }

    def _bound(self, account: str, namespace: str, bound: Object | None) -> Object:
        """Claims about the pod or node that a token is bound to."""
        if not bound:
            return {}
        if bound.get("kind") not in ("Pod", "Node"):
            raise bad_request(f"cannot bind token to object of type {bound.get('kind', '')}")
        kind = self._core("pods" if bound["kind"] == "Pod" else "nodes")
        found = self._objects.find(kind, namespace if kind.namespaced else "", bound.get("name", "")).object()
        claims = {bound["kind"].lower(): _ref(found)}
        if kind.plural == "pods":
            if found["spec"]["serviceAccountName"] != account:
                what = f'cannot bind token for serviceaccount "{account}" to pod'
                raise bad_request(f"{what} running with different serviceaccount name.")
            node = found["spec"].get("nodeName")
            record = self._objects.storage.get(self._core("nodes"), "", node) if node else None
            if node:
                claims["node"] = _ref(record.object()) if record else {"name": node}
        if bound.get("uid") and bound["uid"] != found["metadata"]["uid"]:
            why = f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record."
            raise conflict(
                kind, bound["name"], f"{why} The object might have been deleted and then recreated"
            )
        return claims

    def _holder(self, claims: Object, audiences: list[str]) -> User:
        """The account of a token, if all that the token is bound to is still there."""
        about = claims["kubernetes.io"]
        namespace, account = about["namespace"], about["serviceaccount"]
        self._alive("serviceaccounts", "service account", namespace, account)
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
        for plural, what in (("pods", "pod"), ("nodes", "node")):
            if what not in about:
                continue
            if what == "pod" or "pod" not in about:
                self._alive(plural, what, namespace if what == "pod" else "", about[what])
            for claim, value in about[what].items():
                extra[f"authentication.kubernetes.io/{what}-{claim}"] = [value]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        return User(claims["sub"], account["uid"], groups, extra, audiences)

    def _alive(self, plural: str, what: str, namespace: str, ref: Mapping[str, str]) -> None:
        try:
            found = self._objects.find(self._core(plural), namespace, ref["name"]).object()
        except Refused as error:
            raise Unauthenticated(f"{what} token is bound to: {error.message}") from error
        uid = found["metadata"]["uid"]
        if uid != ref.get("uid"):
            raise Unauthenticated(f"{what} UID ({uid}) does not match claim ({ref.get('uid')})")

    def _core(self, plural: str) -> Kind:
        return self._objects.kinds.core(plural)

    def _signed(self, claims: Object) -> str:
        head = {"alg": "ES256", "typ": "JWT"}
        text = b".".join(_encode(msgspec.json.encode(part)) for part in (head, claims))
        numbers = decode_dss_signature(self._key.sign(text, _ECDSA))
        signature = b"".join(number.to_bytes(_HALF, "big") for number in numbers)
        return (text + b"." + _encode(signature)).decode()

    def _claims(self, token: str) -> Object | None:
        """The claims, when the signature is ours."""
        text, _, last = token.rpartition(".")
        try:
            signature = _decode(last)
            numbers = (int.from_bytes(half, "big") for half in (signature[:_HALF], signature[_HALF:]))
            self._key.public_key().verify(encode_dss_signature(*numbers), text.encode(), _ECDSA)
            claims: Object = msgspec.json.decode(_decode(text.partition(".")[2]))
        except (InvalidSignature, ValueError):
            return None
        return claims


def _ref(obj: Object) -> dict[str, Any]:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
