"""Istio's RequestAuthentication: which tokens requests may bring."""

import json
import re
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from agent.model.schema.istio.base import Strict
from agent.model.schema.istio.policy import Policy
from agent.model.schema.istio.targeting import Targeted, Targeting
from agent.model.schema.syntax import FieldError

Text = Annotated[str, msgspec.Meta(min_length=1)]
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MAX_RULES = 4096


def _check_header(name: str, *steps: str | int) -> None:
    if not _HEADER.fullmatch(name):
        raise FieldError(f"{name!r} is no name of a header", *steps)


class JwtHeader(Strict, frozen=True):
    """prefix: what stands before the token."""

    name: Text
    prefix: str = ""

    def __post_init__(self) -> None:
        _check_header(self.name, "name")


class ClaimToHeader(Strict, frozen=True):
    """claim: with dots between the steps to it."""

    header: Text
    claim: Text

    def __post_init__(self) -> None:
        _check_header(self.header, "header")


class JwtRule(Strict, frozen=True):
    """One issuer's tokens. jwks, jwks_uri: one of them, or neither (then the issuer is asked for it)."""

    issuer: Text
    audiences: tuple[Text, ...] = ()
    jwks_uri: str = ""
    jwks: str = ""
    from_headers: tuple[JwtHeader, ...] = ()
    from_params: tuple[Text, ...] = ()
    from_cookies: tuple[Text, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: bool = False
    timeout: str = ""
    space_delimited_claims: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        if self.jwks and self.jwks_uri:
            raise FieldError("jwks and jwksUri exclude each other; keep one", "jwksUri")
        if self.jwks:
            _check_keys(self.jwks)
        if self.jwks_uri and (
            urlsplit(self.jwks_uri).scheme not in ("http", "https") or not urlsplit(self.jwks_uri).hostname
        ):
            raise FieldError(f"{self.jwks_uri!r} is no http:// or https:// address", "jwksUri")
        if self.output_payload_to_header:
            _check_header(self.output_payload_to_header, "outputPayloadToHeader")


class RequestAuthenticationSpec(Targeting, frozen=True):
    jwt_rules: Annotated[tuple[JwtRule, ...], msgspec.Meta(max_length=_MAX_RULES)] = ()


class RequestAuthentication(Targeted, Policy, frozen=True):
    """What is not understood of it may be what keeps a request out: a token's place, or a header's name."""

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()

    @property
    def of_strictest(self) -> str:
        return "all requests are denied"


def _check_keys(jwks: str) -> None:
    try:
        keys = json.loads(jwks)["keys"]
    except (ValueError, TypeError, KeyError):
        raise FieldError("it is no JSON Web Key Set, an object with keys (RFC 7517)", "jwks") from None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise FieldError("keys must be a list of objects (RFC 7517)", "jwks")
