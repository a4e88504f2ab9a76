"""Which certificates count no more: revocation lists (RFC 5280 section 5), an operator's and our own.

A tunnel that starts with lists that it cannot use believes nobody. So none leaves us that rustls-webpki would
not take. Where there was a list there is one for ever, if an empty one: a file that goes withdraws nothing.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from agent.ca.chain import Certificates, extension
from agent.ca.errors import AuthorityError
from agent.ca.root import CLOCK_SKEW
from agent.ca.signer import Signer

FILE = "ca-crl.pem"
Crl = x509.CertificateRevocationList

_LARGEST = 900_000  # bytes; a ConfigMap holds a MiB
_NEXT = timedelta(days=30)  # until a new list is due: longer than one is needed
_KEPT = timedelta(days=2)  # no certificate is valid for longer than one
_BEGIN = "-----BEGIN X509 CRL-----"
_BLOCK = re.compile(f"{_BEGIN}.+?-----END X509 CRL-----", re.DOTALL)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def lists(text: str) -> list[Crl]:
    """The lists of a file in PEM; what stands between them is ignored. Raises AuthorityError."""
    blocks = _BLOCK.findall(text)
    if len(blocks) != text.count(_BEGIN) or (text.strip() and not blocks):
        raise AuthorityError(f"{FILE} holds no X.509 CRLs in PEM, or not the whole of one")
    try:
        return [x509.load_pem_x509_crl(block.encode()) for block in blocks]
    except ValueError as error:
        raise AuthorityError(f"{FILE} holds a CRL that cannot be read: {error}") from error


def pem(crls: Iterable[Crl]) -> str:
    """As text."""
    return "".join(crl.public_bytes(serialization.Encoding.PEM).decode() for crl in crls)


def usable(text: str, issuers: Certificates) -> str:
    """The lists of a file that are by one of `issuers`, the newest first; nobody here trusts another's.

    Raises AuthorityError, with the remedy, for one that only pretends to be by an issuer, and for one that
    tunnels could not use.
    """
    crls = []
    for crl in lists(text):
        if candidates := [issuer for issuer in issuers if _is_by(crl, issuer)]:
            try:
                _check(crl, candidates)
            except (ValueError, UnsupportedAlgorithm) as error:
                raise AuthorityError(f"{_named(crl)} cannot be read: {error}") from error
            crls.append(crl)
    crls.sort(key=lambda crl: crl.last_update_utc, reverse=True)
    if len(found := pem(crls)) > _LARGEST:
        raise AuthorityError(f"{FILE} has more than {_LARGEST} bytes, and has to fit into a ConfigMap")
    return found


def of(issuers: Certificates, text: str) -> str:
    """The lists of these issuers."""
    return pem(crl for crl in lists(text) if any(_is_by(crl, issuer) for issuer in issuers))


def revoke(signer: Signer, text: str, serials: Collection[int], now: datetime) -> str:
    """The lists of `text` with these certificates on that of `signer`; what has long ended is left out."""
    entries = {serial: _entry(serial, now) for serial in serials}
    for entry in _entries(of([signer.certificate], text)):
        if now - entry.revocation_date_utc < _KEPT:
            entries[entry.serial_number] = entry
    others = (crl for crl in lists(text) if not _is_by(crl, signer.certificate))
    return pem([_signed(signer, entries.values(), now), *others])


def is_due(signer: Signer, text: str, now: datetime) -> bool:
    """Whether a list of `signer` is to be made anew: it holds what has long ended, or grows old."""
    ours = lists(of([signer.certificate], text))
    ended = any(now - entry.revocation_date_utc >= _KEPT for crl in ours for entry in crl)
    return ended or any(now - crl.last_update_utc >= _NEXT / 2 for crl in ours)


def serials(text: str) -> set[int]:
    """Of all that is revoked."""
    return {entry.serial_number for entry in _entries(text)}


def _entries(text: str) -> Iterator[x509.RevokedCertificate]:
    for crl in lists(text):
        yield from crl


def _entry(serial: int, now: datetime) -> x509.RevokedCertificate:
    return x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()


def _signed(signer: Signer, entries: Iterable[x509.RevokedCertificate], now: datetime) -> Crl:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(now - CLOCK_SKEW)
        .next_update(now + _NEXT)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        .add_extension(signer.key_identifier, critical=False)
    )
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(signer.key, hashes.SHA256())


def _check(crl: Crl, issuers: Certificates) -> None:
    """issuers: those that it may be by. Raises AuthorityError, ValueError, UnsupportedAlgorithm."""
    issuer = next((one for one in issuers if crl.is_signature_valid(one.public_key())), None)  # type: ignore[arg-type]
    if issuer is None:
        raise AuthorityError(f"{_named(crl)} is not signed with that CA's key")
    usage = extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        raise AuthorityError(f"{_named(crl)}: its certificate may not sign one: it needs keyUsage cRLSign")
    if crl.signature_hash_algorithm and not isinstance(crl.signature_hash_algorithm, _HASHES):
        raise AuthorityError(f"{_named(crl)} is signed with {crl.signature_hash_algorithm.name}: use SHA-256")
    if crl.next_update_utc is None or not len(crl.extensions):
        raise AuthorityError(f"{_named(crl)} is no list of version 2 with a nextUpdate: issue one")
    for one in crl.extensions:
        _check_extension(crl, one)
    for entry in crl:
        if any(one.critical and not isinstance(one.value, x509.CRLReason) for one in entry.extensions):
            raise AuthorityError(f"{_named(crl)} is indirect, or has an entry that tunnels cannot read")


def _is_by(crl: Crl, issuer: x509.Certificate) -> bool:
    """By name and, where both say it, by key: one CA after the other may have the same name."""
    if crl.issuer != issuer.subject:
        return False
    try:
        key = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        own = extension(issuer, x509.SubjectKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return True
    return key is None or own is None or key == own.digest


def _check_extension(crl: Crl, one: "x509.Extension[x509.ExtensionType]") -> None:
    point = one.value
    if isinstance(point, x509.DeltaCRLIndicator):
        raise AuthorityError(f"{_named(crl)} is a delta CRL: issue a whole one")
    if isinstance(point, x509.IssuingDistributionPoint):
        part = point.indirect_crl or point.only_contains_attribute_certs or point.only_some_reasons
        if part or not point.full_name:
            raise AuthorityError(f"{_named(crl)} has an issuingDistributionPoint: issue a whole one")
    elif one.critical:
        raise AuthorityError(f"{_named(crl)} has a critical extension that tunnels do not know: {one.oid}")


def _named(crl: Crl) -> str:
    return f"{FILE}: the CRL of {crl.issuer.rfc4514_string() or 'no name'}"
