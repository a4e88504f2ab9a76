"""What a service account token says of itself: a JWT's claims, before and after somebody vouches for them."""

import base64
from typing import NamedTuple

import msgspec
from msgspec import Struct

_USER = "system:serviceaccount:"


class Subject(NamedTuple):
    """Whose a token is: a service account's, in a pod. Empty where it is not said."""

    namespace: str
    account: str
    pod: str
    uid: str

    @classmethod
    def of(cls, user: str, pod: str, uid: str) -> "Subject":
        """user: as Kubernetes names service accounts, "system:serviceaccount:<namespace>:<name>"."""
        before, _, account = user.partition(_USER)
        namespace, _, name = account.partition(":")
        return cls("", "", pod, uid) if before else cls(namespace, name, pod, uid)


class _Pod(Struct, frozen=True):
    name: str = ""
    uid: str = ""


class _Bound(Struct, frozen=True):
    pod: _Pod = _Pod()


class _Claims(Struct, frozen=True, rename={"bound": "kubernetes.io"}):
    sub: str
    exp: float
    bound: _Bound = _Bound()


class Claims(NamedTuple):
    """Those that count. ends: Unix time."""

    subject: Subject
    ends: float


_decoder = msgspec.json.Decoder(_Claims)


def claims(token: str) -> Claims | None:
    """The claims of a token that the API server may have made; None when it cannot be one of its own.

    Nobody has checked them: they tell which tokens are not worth a question, and no more.
    """
    try:
        _, body, _ = token.split(".")
        found = _decoder.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
    return Claims(Subject.of(found.sub, found.bound.pod.name, found.bound.pod.uid), found.exp)
