"""The path from a CA's certificate up to a root, as a leaf's verifier walks it (RFC 5280 section 6)."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from agent.ca.errors import AuthorityError

Certificates = Sequence[x509.Certificate]
Extension = TypeVar("Extension", bound=x509.ExtensionType)


def to_root(
    certificate: x509.Certificate, intermediates: Certificates, roots: Certificates
) -> tuple[x509.Certificate, ...]:
    """All that a leaf's verifier meets: the certificate, intermediates in their order, a root.

    Just the certificate when it is a root itself. Raises AuthorityError when there is no such path, or one of
    its certificates may not be where it is.
    """
    path = [certificate]
    while path[-1] not in roots:
        issuer = _issuer(path[-1], roots) or _issuer(
            path[-1], [one for one in intermediates if one not in path]
        )
        if issuer is None:
            raise AuthorityError(
                f"{_named(path[-1])} is not issued by a root of root-cert.pem nor by a certificate of "
                "cert-chain.pem: add what is missing"
            )
        path.append(issuer)
    for depth, one in enumerate(path):
        _check(one, depth)
    return tuple(path)


def _issuer(certificate: x509.Certificate, candidates: Certificates) -> x509.Certificate | None:
    return next((one for one in candidates if _issued(certificate, one)), None)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def check_time(path: Certificates, now: datetime) -> None:
    """Raises AuthorityError when one of them is not valid at this time."""
    for one in path:
        begin, end = one.not_valid_before_utc, one.not_valid_after_utc
        if not begin <= now < end:
            span = f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
            raise AuthorityError(f"{_named(one)} is valid from {span}: renew it")


def _check(certificate: x509.Certificate, depth: int) -> None:
    """Whether it may sign above `depth` other CAs. Raises AuthorityError."""
    try:
        constraints = extension(certificate, x509.BasicConstraints)
        usage = extension(certificate, x509.KeyUsage)
    except ValueError as error:
        raise AuthorityError(f"{_named(certificate)} has extensions that cannot be read: {error}") from error
    if constraints is None or not constraints.ca:
        raise AuthorityError(f"{_named(certificate)} is no CA: it needs basicConstraints CA:TRUE")
    if usage is not None and not usage.key_cert_sign:
        raise AuthorityError(f"{_named(certificate)} may not sign: it needs keyUsage keyCertSign")
    if constraints.path_length is not None and constraints.path_length < depth:
        raise AuthorityError(
            f"{_named(certificate)} allows {constraints.path_length} CAs below it, and there are {depth}: "
            "issue it with a larger pathlen"
        )


def extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """Its extension of this kind, if it has one. Raises ValueError."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _named(certificate: x509.Certificate) -> str:
    return f"the certificate of {certificate.subject.rfc4514_string() or 'no name'}"
